"""Looks for canaries in streams and files, in every spelling that a leak is likely to have.

Data is searched while it passes, with a short tail kept between pieces, so that hours of traffic need no
memory. What is found is kept as a window around the hit; which canary it was is worked out at the end, from
all that were planted.

Spellings: plain and reversed (any case), base64 and its URL-safe sister at all three alignments, hexadecimal,
percent-encoded, JSON escapes, UTF-16. Not seen: compressed or encrypted data. Hence the *control*: a word
that has to be there. A channel in which the control is not found was not readable, and says nothing about
leaks.
"""

from __future__ import annotations

import base64
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PIECE: Final = 1 << 20
_MAX_SIGHTINGS: Final = 2000  # enough to prove a leak; the rest is only counted
_SQLITE_HEADER: Final = b"SQLite format 3\x00"
# Bytes kept on both sides of a hit: room for a whole canary in the longest spelling, six bytes a character.
WINDOW: Final = 160


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write a text: the bytes to look for, and whether letter case matters there."""

    name: str
    spell: Callable[[bytes], bytes]
    any_case: bool = True


def _base64_at(alignment: int) -> Callable[[bytes], bytes]:
    """The part of the base64 text that the word alone decides when `alignment` bytes precede it, modulo 3."""

    def spell(word: bytes) -> bytes:
        encoded = base64.b64encode(b"\x00" * alignment + word)
        first = -(-8 * alignment // 6)
        last = 8 * (alignment + len(word)) // 6
        return encoded[first:last]

    return spell


# Canaries are ASCII letters and digits: their base64 never holds the two characters that differ in the
# URL-safe form.
SPELLINGS: Final[tuple[Spelling, ...]] = (
    Spelling("plain", bytes),
    Spelling("reversed", lambda word: word[::-1]),
    Spelling("base64", _base64_at(0), any_case=False),
    Spelling("base64, 1 byte in", _base64_at(1), any_case=False),
    Spelling("base64, 2 bytes in", _base64_at(2), any_case=False),
    Spelling("hexadecimal", lambda word: word.hex().encode()),
    Spelling("percent-encoded", lambda word: b"".join(b"%%%02x" % byte for byte in word)),
    Spelling("JSON escapes", lambda word: b"".join(b"\\u%04x" % byte for byte in word)),
    Spelling("UTF-16", lambda word: word.decode().encode("utf-16-le")[:-1]),
)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A marker that was seen: in which channel, in which spelling, and the bytes around it."""

    channel: str
    spelling: str
    window: bytes


class Searcher:
    """Collects sightings from any number of channels; thread-safe.

    Args:
        marker: what every canary begins with.
        control: a word that every readable channel holds, such as the id of a tenant.

    Attributes:
        searched: bytes fed, by channel.
        controls: how often the control was seen, by channel.
        unlisted: sightings beyond `_MAX_SIGHTINGS`.
        unreadable: files that could not be read in full.
    """

    def __init__(self, marker: str, control: str) -> None:
        self._needles = [(s, s.spell(marker.encode())) for s in SPELLINGS]
        self._control = control.encode().lower()
        self._lock = threading.Lock()
        self._sightings: list[Sighting] = []
        self.searched: Counter[str] = Counter()
        self.controls: Counter[str] = Counter()
        self.unlisted = 0
        self.unreadable: list[str] = []

    def channel(self, name: str) -> Channel:
        """A new stream of bytes, reported as `name`; several may share a name."""
        return Channel(name, self)

    def inspect(self, channel: str, data: bytes, first: int, last: int, new: int) -> None:
        """Take note of all hits that begin in `data[first:last]`; `new` bytes of `data` are seen for the
        first time."""
        lowered = data.lower()
        found: list[Sighting] = []
        for spelling, needle in self._needles:
            haystack = lowered if spelling.any_case else data
            at = haystack.find(needle, first)
            while 0 <= at < last:
                found.append(Sighting(channel, spelling.name, data[max(0, at - WINDOW) : at + WINDOW]))
                at = haystack.find(needle, at + 1)
        with self._lock:
            self.searched[channel] += new
            self.controls[channel] += lowered.count(self._control, first, last + len(self._control) - 1)
            room = max(0, _MAX_SIGHTINGS - len(self._sightings))
            self._sightings.extend(found[:room])
            self.unlisted += len(found[room:])

    def file(self, channel: str, path: Path) -> None:
        """Search a file's bytes and, in an SQLite database, every value of every table.

        The values too, because a long one lies on several pages and would be cut where they meet. A file that
        is gone by now, as a write-ahead log may be, is no news; one that cannot be read is noted in
        `unreadable`.
        """
        stream = self.channel(channel)
        header = b""
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    header = header or piece[: len(_SQLITE_HEADER)]
                    stream.feed(piece)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.unreadable.append(f"{path.name}: {type(error).__name__}")
        stream.close()
        if header.startswith(_SQLITE_HEADER):
            try:
                self._database(channel, path)
            except sqlite3.Error as error:
                self.unreadable.append(f"{path.name}: {type(error).__name__}")

    def _database(self, channel: str, path: Path) -> None:
        stream = self.channel(channel)
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.text_factory = bytes
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                quoted = table.decode().replace('"', '""')
                for row in database.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608  # a name from the schema
                    for value in row:
                        stream.feed(value if isinstance(value, bytes) else str(value).encode())
                    stream.feed(b"\n")
        stream.close()

    def sightings(self) -> list[Sighting]:
        """What was found so far, at most `_MAX_SIGHTINGS`; `unlisted` counts the rest."""
        with self._lock:
            return list(self._sightings)

    def leaked(self, planted: Iterable[str]) -> dict[str, Sighting]:
        """The canaries that got out, each with a sighting. One that was cut short counts under the place
        it lay in."""
        spelled = {
            spelling.name: [
                (canary, _fold(spelling, spelling.spell(canary.encode()))) for canary in sorted(set(planted))
            ]
            for spelling in SPELLINGS
        }
        by_name = {spelling.name: spelling for spelling in SPELLINGS}
        leaked: dict[str, Sighting] = {}
        for sighting in self.sightings():
            window = _fold(by_name[sighting.spelling], sighting.window)
            whole = [canary for canary, needle in spelled[sighting.spelling] if needle in window]
            for name in whole or [f"part of one in {sighting.channel}, {sighting.spelling}"]:
                leaked.setdefault(name, sighting)
        return leaked


def _fold(spelling: Spelling, data: bytes) -> bytes:
    return data.lower() if spelling.any_case else data


class Channel:
    """One stream of bytes, searched piece by piece. Used by one thread at a time."""

    def __init__(self, name: str, searcher: Searcher) -> None:
        self._name = name
        self._searcher = searcher
        self._pending = bytearray()
        self._judged = 0  # hits that begin before this place in _pending are settled
        self._new = 0  # bytes fed since the last search

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._pending += data
        self._new += len(data)
        if self._new >= _PIECE:
            # A hit at the very end waits for the next piece: the rest of its canary is still to come.
            self._inspect(len(self._pending) - WINDOW)

    def close(self) -> None:
        """Search what is left; the stream is at its end."""
        self._inspect(len(self._pending))

    def _inspect(self, last: int) -> None:
        self._searcher.inspect(self._name, bytes(self._pending), self._judged, last, self._new)
        gone = max(0, last - WINDOW)
        del self._pending[:gone]
        self._judged = last - gone
        self._new = 0
