"""What must not be taken for a cell, and what must not be taken from a stream."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from instrumentation.loop.cell import Cell
from sidecar.watchdog import Watchdog
from sidecar.watchdog.cell import RefusedError
from sidecar.watchdog.opening import REASONS, open_cell
from sidecar.watchdog.poll import Poll
from sidecar.watchdog.stream import MAX_REFUSALS
from sidecar.watchdog.watched import Watched
from sidecar.wire import cell as layout
from sidecar.wire import watchdog_pb2 as wire

DEADLINE = 30.0
WATCH = "/tenantscope.watchdog.v1.Watchdog/Watch"


def refusal(path: object, pid: int | None = None, loop_id: int = 1) -> str:
    with pytest.raises(RefusedError) as refused:
        open_cell(str(path), os.getpid() if pid is None else pid, loop_id)
    assert refused.value.reason in REASONS
    return refused.value.reason


@pytest.fixture
def genuine(make_cell: Callable[[int], Cell]) -> Path:
    """A copy, for its writer has the original mapped: cutting that off would be the writer's SIGBUS."""
    path = make_cell(1).path
    assert path is not None
    copy = path.with_name("genuine.cell")
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o600)
    return copy


def test_the_genuine_cell_is_accepted(genuine: Path) -> None:
    """What all tests below spoil is right to begin with."""
    reader = open_cell(str(genuine), os.getpid(), 1)
    assert reader.name(0) == "unknown"
    reader.close()


@pytest.mark.parametrize("words", range(layout.HEADER_WORDS + 1))
def test_a_truncated_cell_is_refused(genuine: Path, words: int) -> None:
    """Cut at every word of the header."""
    os.truncate(genuine, words * 8)
    assert refusal(genuine) in ("truncated", "size")


@pytest.mark.parametrize(
    ("word", "value", "reason"),
    [
        (layout.MAGIC, 0, "magic"),
        (layout.LAYOUT, layout.VERSION + 1, "version"),
        (layout.SLOTS, 0, "slots"),
        (layout.SLOTS, 2**63, "slots"),
        (layout.SLOTS, layout.MAX_SLOTS + 1, "slots"),
        (layout.SLOTS, layout.MAX_SLOTS, "size"),
        (layout.PID, 1, "pid"),
        (layout.PROCESS_START, 1, "process"),
        (layout.LOOP_ID, 2, "loop"),
    ],
)
def test_a_wrong_header_is_refused(genuine: Path, word: int, value: int, reason: str) -> None:
    """Each word that identifies the cell is checked, with bounds."""
    with genuine.open("r+b") as file:
        file.seek(word * 8)
        file.write(struct.pack("=Q", value))
    assert refusal(genuine) == reason


def test_another_processs_cell_is_refused(genuine: Path) -> None:
    """Announcing under another pid does not fit the cell; a pid that does not run has no cell."""
    assert refusal(genuine, pid=1) == "pid"
    assert refusal(genuine, pid=2**31) == "pid"


def test_a_file_that_others_could_write_or_redirect_is_refused(genuine: Path, tmp_path: Path) -> None:
    """Links, modes, folders, FIFOs, paths."""
    link = genuine.with_name("link.cell")
    link.symlink_to(genuine)
    assert refusal(link) == "missing"
    fifo = genuine.with_name("fifo.cell")
    os.mkfifo(fifo, 0o600)
    assert refusal(fifo) == "not_a_file"
    assert refusal(genuine.parent) in ("not_a_file", "folder")
    assert refusal("relative.cell") == "path"
    assert refusal("/" + "a" * 5000) == "path"
    assert refusal("/tmp/\0") == "path"
    assert refusal("/dev/null") == "folder"
    assert refusal(genuine.with_name("absent.cell")) == "missing"
    assert refusal(tmp_path / "nowhere" / "a.cell") == "folder"
    genuine.chmod(0o640)
    assert refusal(genuine) == "mode"
    genuine.chmod(0o600)
    genuine.parent.chmod(0o750)
    assert refusal(genuine) == "folder"
    genuine.parent.chmod(0o700)
    linked_folder = tmp_path / "linked"
    linked_folder.symlink_to(genuine.parent)
    assert refusal(linked_folder / genuine.name) == "folder"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(max_size=4096))
def test_garbage_is_refused(garbage: bytes, cells: Path) -> None:
    """Whatever the file holds, the answer is one of the known refusals."""
    path = cells / "garbage.cell"
    path.write_bytes(garbage)
    path.chmod(0o600)
    refusal(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_behind_a_genuine_identity_is_survived(data: st.DataObject, genuine: Path) -> None:
    """Totals and names are only numbers and text: nothing in them makes the reader fail."""
    words = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
    names = data.draw(st.binary(min_size=32, max_size=2 * layout.NAME_BYTES))
    raw = bytearray(genuine.read_bytes())
    slots = struct.unpack_from("=Q", raw, layout.SLOTS * 8)[0]
    struct.pack_into("=Q", raw, layout.NAMES * 8, data.draw(st.integers(0, 2**64 - 1)))
    struct.pack_into("=6Q", raw, layout.slot_word(0) * 8, *words)
    at = layout.name_offset(slots, 0)
    raw[at : at + len(names)] = names
    spoilt = genuine.with_name("spoilt.cell")
    spoilt.write_bytes(raw)
    spoilt.chmod(0o600)
    reader = open_cell(str(spoilt), os.getpid(), 1)
    try:
        assert all(isinstance(totals.tenant, str) for totals in reader.totals())
        for slot in (0, 1, slots - 1, layout.MAX_SLOTS - 1):
            assert len(reader.name(slot)) <= 4 * layout.NAME_BYTES
    finally:
        reader.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_file_is_refused(genuine: Path) -> None:
    """The file, and the folder around it: its owner could change it at any time."""
    os.chown(genuine, 65534, 65534)
    assert refusal(genuine) == "owner"
    os.chown(genuine, os.geteuid(), -1)
    os.chown(genuine.parent, 65534, 65534)
    assert refusal(genuine) == "folder"
    os.chown(genuine.parent, os.geteuid(), -1)
    open_cell(str(genuine), os.getpid(), 1).close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.dictionaries(st.integers(0, layout.HEADER_WORDS - 1), st.integers(0, 2**64 - 1), max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 100_000)),
    namespace=st.sampled_from([0, 1, 2**64 - 1]),
)
def test_any_header_is_refused_or_survived(
    words: dict[int, int], cut: int | None, namespace: int, genuine: Path
) -> None:
    """Hostile sizes, counts, times and threads: a known refusal, or a loop that is judged without harm to others."""
    raw = bytearray(genuine.read_bytes())
    for word, value in words.items():
        struct.pack_into("=Q", raw, word * 8, value)
    spoilt = genuine.with_name("spoilt.cell")
    spoilt.write_bytes(raw[:cut])
    spoilt.chmod(0o600)
    poll = Poll(100_000_000)
    reason = ""
    try:
        reader = open_cell(str(spoilt), os.getpid(), 1, namespace=namespace)
    except RefusedError as refused:
        reason = refused.reason
    if reason:
        assert reason in REASONS
        return
    poll.add(Watched("service", "instance", reader, lambda *_: None))
    now = time.monotonic_ns()
    for moment in (now, now + 10**8, now + 2 * 10**8, now + 10**10):
        poll.step(moment)
        assert all(isinstance(loop, dict) for loop in poll.loops(moment))
        assert all(isinstance(stall, dict) for stall in poll.stalls(moment))


# Streams ------------------------------------------------------------------------------------------------------------
def talk(endpoint: str, reports: list[bytes]) -> grpc.StatusCode:
    """Send raw reports and close; the status that the stream ended with."""
    with grpc.insecure_channel(endpoint.removeprefix("http://")) as channel:
        call = channel.stream_stream(WATCH)(iter(reports), timeout=DEADLINE)
        with contextlib.suppress(grpc.RpcError):
            list(call)
        code: grpc.StatusCode = call.code()
        return code


def announcement(path: object, **changed: Any) -> bytes:
    about: dict[str, Any] = {
        "loop_id": 1, "service_name": "s", "instance": "i", "pid": os.getpid(), "host": "h", "cell_path": str(path),
    }  # fmt: skip
    return wire.Report(announce=wire.Announce(**{**about, **changed})).SerializeToString()


def test_bytes_that_are_no_report_end_the_stream(server: str, watchdog: Watchdog) -> None:
    """INVALID_ARGUMENT, and the watchdog goes on."""
    assert talk(server, [b"\xff\xff\xff"]) is grpc.StatusCode.INVALID_ARGUMENT
    assert talk(server, [b"\x0a\x04\x12\x02\xff\xfe"]) is grpc.StatusCode.INVALID_ARGUMENT  # not UTF-8
    assert talk(server, [b""]) is grpc.StatusCode.OK  # of a kind that a later version may know
    assert watchdog.ready


def test_refused_cells_are_counted_and_bounded(
    server: str, watchdog: Watchdog, sample: Callable[..., float | None], genuine: Path
) -> None:
    """By reason; and a stream that only announces nonsense is ended."""
    assert talk(server, [announcement("relative")]) is grpc.StatusCode.OK
    assert sample("tenantscope_cells_refused_total", reason="path") == 1
    two_processes = [announcement(genuine), announcement(genuine, pid=1)]
    assert talk(server, two_processes) is grpc.StatusCode.OK
    assert sample("tenantscope_cells_refused_total", reason="pid") == 1
    flood = [announcement("/nowhere/x.cell", loop_id=loop_id) for loop_id in range(MAX_REFUSALS + 100)]
    assert talk(server, flood) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sample("tenantscope_cells_refused_total", reason="folder") == MAX_REFUSALS


def test_a_refusal_is_one_line_whatever_it_is_about(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Line breaks, escape sequences and direction overrides in an announcement forge nothing in the log."""
    forged = "/x/\n\x1b[31mFORGED\u202e.cell"
    assert talk(server, [announcement(forged, service_name="a\r\nb", host="\u2066")]) is grpc.StatusCode.OK
    written = capsys.readouterr()
    lines = [line for line in (written.out + written.err).splitlines() if "refused" in line]
    assert len(lines) == 1
    assert "FORGED" in lines[0]
    assert "\u202e" not in lines[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200))
def test_any_bytes_on_a_stream_are_survived(raw: bytes, server: str, watchdog: Watchdog) -> None:
    """The stream ends in good order or with a reason that the client can act upon."""
    assert talk(server, [raw]) in (
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    assert watchdog.ready


def test_the_watchdog_counts_its_loops(
    server: str, watchdog: Watchdog, genuine: Path, registry: CollectorRegistry
) -> None:
    """A loop is watched beyond the end of its stream, until its cell says that it was closed."""
    assert registry.get_sample_value("tenantscope_loops") == 0
    assert talk(server, [announcement(genuine)]) is grpc.StatusCode.OK
    wait_until(lambda: registry.get_sample_value("tenantscope_loops") == 1)
    with genuine.open("r+b") as file:
        file.seek(layout.CLOSED * 8)
        file.write(struct.pack("=Q", 1))
    wait_until(lambda: registry.get_sample_value("tenantscope_loops") == 0)


def wait_until(condition: Callable[[], object]) -> None:
    """Another thread has to come round to it; a deadline, no timing."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)
