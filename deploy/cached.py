"""What is made once on a machine and kept in the user's cache: a folder below the hash of what it is made from.

Changed sources are another folder, so nothing is ever made again or out of date. It appears in one step, whole: what is
made is made in a scratch folder beside it, by one process at a time, and the next one removes what a killed one left
there. What a maker fetches, it fetches with the tool of its ecosystem.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cached:
    """One thing in the cache.

    Attributes:
        name: of its folder, before the hash.
        made_from: all that decides what it becomes.
        make: in the scratch folder that it is given; returns what is to be the folder in the cache.
        cost: what making it takes, for people.
        program: that is run, in the folder; empty when all of the folder is used.
    """

    name: str
    made_from: bytes
    make: Callable[[Path], Path]
    cost: str
    program: str = ""

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "tenantscope" / f"{self.name}-{hashlib.sha256(self.made_from).hexdigest()[:12]}"

    def main(self) -> None:
        """Print the path of the program or folder; make it first when it is missing and `--where` isn't given."""
        arguments = argparse.ArgumentParser()
        arguments.add_argument("--where", action="store_true", help="print the path, make nothing")
        if not arguments.parse_args().where and not self.folder.is_dir():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with _scratch(self.folder.parent) as scratch:
                if not self.folder.is_dir():  # another process may have made it, for which this one waited
                    print(f"Making {self.folder} (once, {self.cost}) ...", flush=True)
                    try:
                        self.make(scratch).rename(self.folder)
                    except subprocess.CalledProcessError as error:
                        sys.exit(f"{self.name} could not be made: {error}")
        print(self.folder / self.program)


@contextlib.contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A scratch folder in the cache, the only one: those of makers that were killed are removed."""
    held = os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        for left in cache.glob(f"{tempfile.gettempprefix()}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            yield Path(scratch)
    finally:
        os.close(held)


def tool(name: str, needed: str, *, beyond_path: str = "") -> str:
    """Path of a program; without it the process ends, saying what is needed."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{beyond_path}")
    return found or sys.exit(needed)


def go(target: str) -> str:
    """Path of Go, for `make target`."""
    return tool(
        "go", f"make {target} needs Go 1.25 or newer in PATH: https://go.dev/dl", beyond_path="/usr/local/go/bin"
    )
