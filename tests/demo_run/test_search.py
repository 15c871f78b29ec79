"""The searcher finds a canary however it is written and cut, and nothing where there is none."""

from __future__ import annotations

import base64
import json
import sqlite3
import urllib.parse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantscope.demo.canaries import CORE_CHARACTERS, Canaries, new_marker
from tenantscope.demo.search import SPELLINGS, Searcher

CONTROL = "acme"
MARKER = "q7marker0zk"
CANARY = MARKER + "d4e5f6a7b8c"

# Written here independently of the searcher's own spellings.
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "upper case": lambda data: data.upper(),
    "reversed": lambda data: data[::-1],
    "base64": base64.b64encode,
    "URL-safe base64": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
    "hexadecimal": lambda data: data.hex().encode(),
    "HEXADECIMAL": lambda data: data.hex().upper().encode(),
    "URL": lambda data: urllib.parse.quote_from_bytes(data).encode(),
    "URL, every byte": lambda data: "".join(f"%{byte:02X}" for byte in data).encode(),
    "JSON": lambda data: json.dumps(data.decode("latin-1")).encode(),
    "JSON, every character": lambda data: "".join(f"\\u{byte:04X}" for byte in data).encode(),
    "UTF-16 little-endian": lambda data: data.decode("latin-1").encode("utf-16-le"),
    "UTF-16 big-endian": lambda data: data.decode("latin-1").encode("utf-16-be"),
}


def search(data: bytes, cuts: list[int] | None = None, planted: str = CANARY) -> dict[str, str]:
    """Feed `data` in pieces that end at `cuts`; canaries found, with the spelling."""
    searcher = Searcher(MARKER, CONTROL)
    channel = searcher.channel("here")
    ends = sorted({min(cut, len(data)) for cut in cuts or []})
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        channel.feed(data[start:end])
    channel.close()
    assert searcher.searched["here"] == len(data)
    return {canary: sighting.spelling for canary, sighting in searcher.leaked([planted]).items()}


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(deadline=None)
@given(before=st.binary(max_size=40), after=st.binary(max_size=40))
def test_a_canary_is_found_in_every_encoding_whatever_surrounds_it(encoding: str, before: bytes, after: bytes) -> None:
    """The whole text is encoded, so that base64 falls into each of its alignments."""
    encoded = ENCODINGS[encoding](before + CANARY.encode() + after)
    assert CANARY in search(b"\x00 " + encoded + b" \xff")


@settings(deadline=None, max_examples=30)
@given(
    before=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 2_200_000), max_size=4),
    at=st.integers(0, 2_100_000),
)
def test_a_canary_is_found_across_the_pieces_of_a_stream(before: int, cuts: list[int], at: int) -> None:
    """Also where the searcher's own pieces of a megabyte meet, it is seen whole, and once."""
    encoded = base64.b64encode(b"x" * before + CANARY.encode())
    data = b"\x00" * at + encoded + b"\x00" * (2_200_000 - at)
    searcher = Searcher(MARKER, CONTROL)
    channel = searcher.channel("here")
    ends = sorted(set(cuts))
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        channel.feed(data[start:end])
    channel.close()
    assert list(searcher.leaked([CANARY])) == [CANARY]
    assert len(searcher.sightings()) == 1


@settings(deadline=None)
@given(st.integers(len(MARKER), CORE_CHARACTERS - 1))
def test_a_canary_that_was_cut_short_is_still_a_leak(length: int) -> None:
    """The marker alone is enough; it counts under the place where it lay."""
    (found,) = search(f"cut: {CANARY[:length]}".encode())
    assert "here" in found
    assert CANARY not in found


@settings(deadline=None)
@given(st.binary(max_size=4000), st.text(max_size=400))
def test_nothing_is_found_where_nothing_was_planted(noise: bytes, text: str) -> None:
    """No false alarm in random bytes or text, in any encoding."""
    for encode in ENCODINGS.values():
        assert search(encode(noise) + text.encode(errors="replace")) == {}


@settings(deadline=None)
@given(st.integers(0, len(MARKER) - 1), st.characters(codec="ascii", categories=("Ll", "Nd")))
def test_a_near_miss_is_no_hit(place: int, other: str) -> None:
    """One other character in the marker makes it something else."""
    almost = MARKER[:place] + other + MARKER[place + 1 :]
    found = search(almost.encode() + b"d4e5f6a7b8c", planted="nothing")
    assert bool(found) == (almost == MARKER)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_canary_in_a_file_of_the_state_folder_is_found(encoding: str, tmp_path: Path) -> None:
    """The self-check of the search: plant one on purpose, find it, in each encoding."""
    (tmp_path / "queue.bin").write_bytes(b"\x00" * 5000 + ENCODINGS[encoding](CANARY.encode()) + b"\x00" * 5000)
    searcher = Searcher(MARKER, CONTROL)
    searcher.file("state", tmp_path / "queue.bin")
    assert list(searcher.leaked([CANARY])) == [CANARY]
    assert searcher.leaked([CANARY])[CANARY].channel == "state"


def test_a_canary_that_sqlite_spreads_over_pages_is_found(tmp_path: Path) -> None:
    """A long value is cut where two pages meet: the bytes of the file do not hold it whole, the row does."""
    path = tmp_path / "telemetry.db"
    values = [("-" * before + CANARY + "-" * 12_000,) for before in range(0, 8192, 8)]
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE spans (attributes TEXT)")
        database.executemany("INSERT INTO spans VALUES (?)", values)
    whole = path.read_bytes().count(CANARY.encode())
    assert whole < len(values), "the test wants a value that is cut where two pages meet"
    searcher = Searcher(MARKER, CONTROL)
    searcher.file("state", path)
    marked = path.read_bytes().count(MARKER.encode())
    assert len(searcher.sightings()) + searcher.unlisted == marked + len(values)


def test_a_broken_database_is_reported_as_unread(tmp_path: Path) -> None:
    """What cannot be searched is not called clean."""
    path = tmp_path / "telemetry.db"
    path.write_bytes(b"SQLite format 3\x00" + b"\x01" * 5000)
    searcher = Searcher(MARKER, CONTROL)
    searcher.file("state", path)
    assert [entry.partition(":")[0] for entry in searcher.unreadable] == ["telemetry.db"]


def test_the_control_shows_whether_a_channel_could_be_read() -> None:
    """A readable channel holds the control word, counted once wherever pieces meet; a packed one does not."""
    searcher = Searcher(MARKER, CONTROL)
    plain, compressed = searcher.channel("plain"), searcher.channel("compressed")
    for _ in range(3):
        plain.feed(b"\x00" * ((1 << 20) - 2) + b"Ac")
        plain.feed(b"me")
    plain.close()
    compressed.feed(base64.b85encode(b"acme" * 100))
    compressed.close()
    assert (searcher.controls["plain"], searcher.controls["compressed"]) == (3, 0)


def test_the_list_of_sightings_is_bounded_and_the_rest_counted() -> None:
    """A flood of leaks does not fill the memory."""
    searcher = Searcher(MARKER, CONTROL)
    channel = searcher.channel("here")
    for _ in range(300):
        channel.feed(f"{CANARY} ".encode() * 10)
    channel.close()
    assert len(searcher.sightings()) + searcher.unlisted == 3000
    assert len(searcher.sightings()) <= 2000


def test_canaries_are_distinct_share_the_marker_and_are_bounded() -> None:
    """More than the limit are asked for: the planted ones come round again."""
    canaries = Canaries(new_marker(), limit=100)
    given_out = [canaries.plant("prompt") for _ in range(250)]
    assert len(set(given_out)) == len(canaries.planted()) == 100
    assert all(canary.startswith(canaries.marker) and len(canary) == CORE_CHARACTERS for canary in given_out)
    assert canaries.places() == {"prompt": 250}


def test_every_spelling_has_a_word_for_it() -> None:
    """Reports name the spelling; no two share a name."""
    assert len({spelling.name for spelling in SPELLINGS}) == len(SPELLINGS)
