"""Upstreams: where redacted telemetry goes. From the environment, one or a few that are spoken to alike; from a file,
where each has options of its own:

    upstreams:
      collector:
        url: http://127.0.0.1:4317
      vendor:
        url: https://otlp.example.com/otlp
        protocol: http/protobuf       # or grpc
        compression: zstd             # gzip, none; zstd is OTLP/HTTP's alone
        headers_file: vendor.headers  # ca_file, certificate_file, key_file; relative to this file
        when_full: wait               # senders are put off; or lose_oldest
    embedded_store: true              # beside them

What it refuses, with a line for each mistake that names the setting and never repeats a URL: options without effect,
files of secrets that several upstreams would see, and what would send a token in the clear.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from sidecar.conventions import STORE
from sidecar.network.address import Upstream, upstream

from .strict_yaml import Document, Place, YamlError, parse, read_file

KEY: Final = "TENANTSCOPE_UPSTREAM"
FILE_KEY: Final = "TENANTSCOPE_UPSTREAMS_FILE"
MOST: Final = 16

Protocol = Literal["grpc", "http/protobuf"]
Compression = Literal["gzip", "zstd", "none"]
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)
FILES: Final = ("headers_file", "ca_file", "certificate_file", "key_file")
_WHEN_FULL: Final = ("lose_oldest", "wait")
_OPTIONS: Final = ("url", "protocol", "compression", *FILES, "when_full")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
#: A secret of one upstream is none of another's business.
_SECRET: Final = ("headers_file", "certificate_file", "key_file")


class UpstreamsError(ValueError):
    """The upstreams cannot be used.

    Attributes:
        mistakes: a line for each, which begins with the setting.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Route:
    """An upstream, and how it is spoken to.

    Attributes:
        name: in metrics, and of what it has had of the queue.
        upstream: its address.
        compression: of requests.
        headers_file, ca_file, certificate_file, key_file: None without one.
        waits: whether senders are put off when the queue is full of what this upstream has not had; if not, it loses
            the oldest of it once another one has had that.
        prefix: before an option's name, the name of the setting.
    """

    name: str
    upstream: Upstream
    protocol: Protocol = "grpc"
    compression: Compression = "none"
    headers_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    waits: bool = False
    prefix: str = f"{KEY}_"

    def setting(self, option: str) -> str:
        """What the option is called where it was set."""
        return f"{self.prefix}{option.upper()}" if self.prefix == f"{KEY}_" else f"{self.prefix}{option}"


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Where telemetry goes.

    Attributes:
        routes: in the order in which they were named.
        embedded_store: whether it is kept, too, or alone.
    """

    routes: tuple[Route, ...] = ()
    embedded_store: bool = True


def urls(text: str) -> tuple[str, ...]:
    """URLs with commas between them."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found):
        raise ValueError("has a comma too many")
    if len(found) > MOST:
        raise ValueError(f"names more than {MOST} upstreams")
    return found


def protocol(text: str) -> Protocol:
    """OpenTelemetry's own words."""
    for known in PROTOCOLS:
        if text == known:
            return known
    raise ValueError(f"must be {' or '.join(PROTOCOLS)}")


def compression(text: str) -> Compression:
    """Of requests."""
    for known in COMPRESSIONS:
        if text == known:
            return known
    raise ValueError("must be gzip, zstd or none")


def from_settings(given: Mapping[str, Any], texts: Sequence[str]) -> Upstreams:
    """Upstreams named in the environment.

    Args:
        given: options by name, None where they are not set. texts: the URLs.

    Raises:
        UpstreamsError
    """
    options = {name: value for name, value in given.items() if value is not None}
    if not texts:
        _raise_for([f"{KEY}_{name.upper()}: has no effect without {KEY}" for name in options])
        return Upstreams()
    mistakes = [
        f"{KEY}_{name.upper()}: would be shown to every upstream; give each its own in {FILE_KEY}"
        for name in options
        if name in _SECRET and len(texts) > 1
    ]
    routes = []
    for text in texts:
        try:
            address = upstream(text, options.get("protocol", "grpc"))
        except ValueError as error:
            mistakes.append(f"{KEY}: {error}")
            continue
        routes.append(_route(address.address.target + address.path, address, options))
        mistakes += _mistakes(routes[-1])
    if len({route.name for route in routes}) < len(routes):
        mistakes.append(f"{KEY}: names an upstream twice")
    _raise_for(list(dict.fromkeys(mistakes)))
    return Upstreams(tuple(routes), embedded_store=False)


def from_file(path: Path) -> Upstreams:
    """Upstreams named in a file. Raises UpstreamsError."""
    try:
        document = parse(read_file(path))
    except YamlError as error:
        where = "" if error.line is None else f":{error.line}"
        raise UpstreamsError([f"{FILE_KEY}: {path.name}{where}: {error}"]) from None
    reading = _Reading(document, path)
    found = reading.upstreams()
    _raise_for(reading.mistakes)
    return found


def _raise_for(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise UpstreamsError(mistakes)


def _route(name: str, address: Upstream, options: Mapping[str, Any], **more: Any) -> Route:
    own = {"compression": "none" if address.address.is_loopback else "gzip", **options}
    return Route(name, address, **own, **more)


def _mistakes(route: Route) -> Iterator[str]:
    """What is wrong with its options, seen together."""
    url = KEY if route.prefix == f"{KEY}_" else route.setting("url")
    if route.compression == "zstd" and route.protocol == "grpc":
        yield f"{route.setting('compression')}: gRPC knows gzip alone; zstd needs the protocol http/protobuf"
    if not route.upstream.secure:
        for option in ("ca_file", "certificate_file", "key_file"):
            if getattr(route, option) is not None:
                yield f"{route.setting(option)}: has no effect without TLS; {url} must begin with https://"
        if route.headers_file is not None and not route.upstream.address.is_loopback:
            yield (
                f"{route.setting('headers_file')}: what is in it would cross the network in the clear; "
                f"{url} must begin with https://"
            )
    if (route.certificate_file is None) != (route.key_file is None):
        yield (f"{route.setting('certificate_file')}, {route.setting('key_file')}: one is of no use without the other")


class _Reading:
    """One reading of the file; `mistakes` fills up as it goes on."""

    def __init__(self, document: Document, path: Path) -> None:
        self._document = document
        self._path = path
        self.mistakes: list[str] = []

    def upstreams(self) -> Upstreams:
        top = self._document.value
        if not isinstance(top, dict) or not isinstance(top.get("upstreams"), dict) or not top["upstreams"]:
            self._note((), "must have a key `upstreams` with an upstream or more")
            return Upstreams()
        self._known((), top, ("upstreams", "embedded_store"))
        store = top.get("embedded_store", False)
        if not isinstance(store, bool):
            self._note(("embedded_store",), "embedded_store: must be true or false")
        named = top["upstreams"]
        if len(named) > MOST:
            self._note(("upstreams",), f"names more than {MOST} upstreams")
        routes = [self._upstream(name, options) for name, options in named.items()]
        return Upstreams(tuple(route for route in routes if route is not None), embedded_store=store is True)

    def _upstream(self, name: Any, options: Any) -> Route | None:
        place = ("upstreams", str(name))
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == STORE:
            self._note(place, "an upstream's name has 1 to 63 letters, digits, `_`, `.`, `-`, and is not `store`")
            return None
        if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
            self._note(place, f"{name}: must have a `url`, and options that are texts")
            return None
        self._known(place, options, _OPTIONS, f"{name}: ")
        before = len(self.mistakes)
        read: dict[str, Any] = {}
        for option, reader in (("protocol", protocol), ("compression", compression)):
            if option in options:
                read[option] = self._read(place, name, option, options[option], reader)
        for option in FILES:
            if option in options:
                read[option] = self._read(place, name, option, options[option], self._file)
        when_full = options.get("when_full", _WHEN_FULL[0])
        if when_full not in _WHEN_FULL:
            self._note((*place, "when_full"), f"{name}.when_full: must be {' or '.join(_WHEN_FULL)}")
        address = self._read(
            place, name, "url", options.get("url", ""), lambda text: upstream(text, read.get("protocol") or "grpc")
        )
        if len(self.mistakes) > before:
            return None
        route = _route(name, address, read, waits=when_full == "wait", prefix=f"{FILE_KEY}: {name}.")
        self.mistakes += _mistakes(route)
        return route

    def _read(self, place: Place, name: str, option: str, text: str, reader: Any) -> Any:
        try:
            return reader(text)
        except ValueError as error:
            self._note((*place, option), f"{name}.{option}: {error}")
            return None

    def _file(self, text: str) -> Path:
        path = self._path.parent / Path(text)
        if "\0" in text or not path.is_file():
            raise ValueError(f"{str(path)!r} is not a file")
        return path

    def _known(self, place: Place, found: Mapping[Any, Any], known: Sequence[str], before: str = "") -> None:
        for key in found:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self._note((*place, str(key)), f"{before}unknown key {str(key)[:40]!a}{hint}")

    def _note(self, place: Place, what: str) -> None:
        lines = self._document.lines
        while place and place not in lines:
            place = place[:-1]
        self.mistakes.append(f"{FILE_KEY}: {self._path.name}:{lines.get(place, 1)}: {what}")
