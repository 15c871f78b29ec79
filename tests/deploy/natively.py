"""A compose file's services as processes of this machine: their commands, settings and files, other ports and folders.

What a container changes about a process is imitated and nothing else: what its image sets and starts (read from the
Dockerfile), which files and volumes it sees where (folders with links), and by which names it finds the others (each
port becomes a free one of this machine). A service is started as it is, or left out; none is replaced.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_INSTRUCTION = re.compile(r"^(FROM|ENV|ENTRYPOINT|CMD|COPY)\s+(.*)$")


@dataclass(frozen=True)
class Image:
    """What one stage of a Dockerfile, with those that it is made from, lets a container start with."""

    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    copies: dict[str, str]  # from the build's context, by where they are in the image


def image(dockerfile: Path, target: str | None) -> Image:
    """The image of a stage by its name, or of the last one."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    stages: dict[str, Image] = {}
    name, current = "", Image({}, [], [], {})
    for line in text.splitlines():
        found = _INSTRUCTION.match(line)
        if found is None:
            continue
        word, rest = found.groups()
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = Image(dict(stages[base].environment) if base in stages else {}, [], [], {})
            stages[name] = current
        elif word == "ENV":
            current.environment.update(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "ENTRYPOINT":
            current.entrypoint[:] = json.loads(rest)
        elif word == "CMD":
            current.command[:] = json.loads(rest)
        elif " /" in rest and not rest.startswith("--"):
            *sources, place = rest.split()
            current.copies[place] = sources[0]
    return stages[target or name]


class Project:
    """A compose file on this machine.

    Args:
        file: the compose file.
        folder: a short path (sockets lie below it) for what the services see and keep.
        programs: where the first words of commands are to be found here.
        ports: what each port becomes.
        pace: texts to be replaced in the files that services read, so that time goes faster.
    """

    def __init__(
        self, file: Path, folder: Path, programs: Mapping[str, str], ports: Mapping[int, int], pace: Mapping[str, str]
    ) -> None:
        self.services: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
        self._base = file.parent
        self._folder = folder
        self._programs = programs
        self._ports = ports
        self._pace = pace

    def command(self, service: str) -> list[str]:
        """What the service's container would run."""
        about = self.services[service]
        made = self._image(about)
        arguments = about.get("command", made.command if made else [])
        first, *rest = [*(made.entrypoint if made else self._entrypoint(about)), *arguments]
        return [self._programs.get(first, first), *(self._here(service, word) for word in rest)]

    def environment(self, service: str) -> dict[str, str]:
        """Its variables: those of the image, those of the file; what a program needs of this machine is not in it."""
        about = self.services[service]
        made = self._image(about)
        both = {**(made.environment if made else {}), **about.get("environment", {})}
        return {key: self._here(service, value) for key, value in both.items() if key != "PATH"}

    def mount(self, service: str) -> Path:
        """Its files: copies with the ports changed; its volumes: links to what it shares with others."""
        root = self._folder / service
        for target, source in self._seen(service).items():
            place = root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, str):
                place.symlink_to(self._volume(source))
            elif source.is_dir():
                place.symlink_to(source)
            else:
                place.write_text(self._faster(self._ported(source.read_text())))
        return root

    def _seen(self, service: str) -> dict[str, Path | str]:
        """By its place in the container: a file or folder of the repository, or the name of a volume."""
        about = self.services[service]
        made = self._image(about)
        found: dict[str, Path | str] = {}
        if made:
            context = self._base / about["build"]["context"]
            found.update(
                {place: (context / source).resolve() for place, source in made.copies.items() if place[0] == "/"}
            )
        for each in about.get("volumes", []):
            source, target = each.split(":")[:2]
            found[target] = (self._base / source).resolve() if source.startswith(".") else source
        return found

    def _volume(self, name: str) -> Path:
        made = self._folder / f"volume-{name}"
        made.mkdir(mode=0o700, exist_ok=True)
        return made

    def _entrypoint(self, about: dict[str, Any]) -> list[str]:
        """Of an image that others make: prom/prometheus starts prometheus; busybox starts what it is told to."""
        name = about["image"].partition("/")[2].partition(":")[0]
        return [name] if name else []

    def _image(self, about: dict[str, Any]) -> Image | None:
        build = about.get("build")
        return build and image(self._base / build["context"] / build["dockerfile"], build.get("target"))

    def _here(self, service: str, text: str) -> str:
        """`text` with paths that this service has in its container, and addresses, as they are here."""
        for target, source in self._seen(service).items():
            place = f"{self._folder / service}{target}" if isinstance(source, Path) else str(self._volume(source))
            text = re.sub(rf"(?<![\w/.]){re.escape(target)}(?![\w.-])", place, text)
        return self._ported(text).replace("$$", "$")  # as Compose writes a dollar that is none of its own

    def _ported(self, text: str) -> str:
        names = "|".join(map(re.escape, [*self.services, "0.0.0.0", "127.0.0.1"]))
        return re.sub(
            rf"\b({names}):(\d+)\b",
            lambda found: f"127.0.0.1:{self._ports.get(int(found[2]), found[2])}",
            text,
        )

    def _faster(self, text: str) -> str:
        for slow, fast in self._pace.items():
            text = text.replace(slow, fast)
        return text
