"""Which loops are accounted: those that run already, of any thread, of asyncio and uvloop; and which are left alone."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from asyncio import events
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from sabotage import broken
from stock import NOWHERE, VERY_ORIGINAL, nothing_of_ours_is_installed, slot

from instrumentation import tenancy
from instrumentation.loop import Loops, slices
from instrumentation.tenancy import tenant
from sidecar.wire import cell as layout


def test_a_loop_that_runs_already_is_accounted_from_its_next_callback_on(
    cells: Path, clock: Any, make_loop: Callable[[], Any]
) -> None:
    """`start()` in asynchronous code, on a loop that was made and had work and timers before: they are accounted."""
    loop = make_loop()
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)

    async def work() -> None:
        await asyncio.sleep(0)
        with tenant("acme"):
            clock.advance(10)
            await asyncio.sleep(0)
            clock.advance(1)

    async def main() -> None:
        before = loop.create_task(work())
        loops.start()
        await before

    loop.run_until_complete(main())
    loops.stop()

    assert loops.totals().active_ns[slot("acme")] == 11_000_000


def test_uvloop_may_be_imported_after_the_start(cells: Path) -> None:
    """`import instrumentation.auto` comes first in a program: its uvloop is found at the first binding on it."""
    program = f"""
import asyncio, sys
from pathlib import Path
from instrumentation import tenancy
from instrumentation.loop import Loops
loops = Loops(Path({str(cells)!r}), "service", "instance", {NOWHERE!r})
loops.start()
assert "uvloop" not in sys.modules
import uvloop

async def main():
    with tenancy.tenant("acme"):
        await asyncio.sleep(0)
        sum(range(100_000))

uvloop.run(main())
loops.stop()
assert loops.totals().active_ns[tenancy.TABLE.intern("acme").slot] > 100_000
assert "call_soon" not in vars(uvloop.Loop)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "not accounted" not in ran.stderr


def test_loops_in_several_threads_have_accounts_of_their_own(loops: Loops, clock: Any, make_loop: Any) -> None:
    """Two loops at once: each one's tenants are charged, and the totals are the sum."""
    both = threading.Barrier(2)
    failures: list[BaseException] = []

    def run(name: str) -> None:
        async def main() -> None:
            with tenant(name):
                await asyncio.sleep(0)
                both.wait(10)
                await asyncio.sleep(0)

        try:
            make_loop().run_until_complete(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("acme", "globex")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert failures == []
    assert loops.totals().loops == 2
    assert len({account.loop_id for account in loops._accounts.values()}) == 2
    assert len({account.thread for account in loops._accounts.values()}) == 2
    slices_of = {
        name: [account.slices[slot(name)] for account in loops._accounts.values()] for name in ("acme", "globex")
    }
    assert all(min(numbers) == 0 < max(numbers) for numbers in slices_of.values())


def test_no_loop_is_kept_alive(loops: Loops, clock: Any) -> None:
    """A loop that nobody closes is freed as without us, its cell goes with it, and its totals stay."""
    loop = asyncio.new_event_loop()

    async def work() -> None:
        with tenant("acme"):
            clock.advance(10)

    loop.run_until_complete(work())
    loop._selector.close()
    loop._ssock.close()
    loop._csock.close()
    loop._closed = True  # so that freeing it does not warn; `close` itself must not have run
    (path,) = [account.cell.path for account in loops._accounts.values()]
    gone = weakref.ref(loop)
    del loop
    gc.collect()

    assert gone() is None
    assert path is not None
    assert not path.exists()
    assert loops.totals().active_ns[slot("acme")] == 10_000_000


def test_closing_a_loop_closes_its_cell_at_once(loops: Loops, cells: Path, make_loop: Callable[[], Any]) -> None:
    """Who holds the cell open reads CLOSED; the file has no name any more."""
    loop = make_loop()
    loop.run_until_complete(asyncio.sleep(0))
    (account,) = loops._accounts.values()
    words = account.words
    assert words[layout.CLOSED] == 0
    loop.close()

    assert words[layout.CLOSED] == 1
    assert words[layout.RUNNING] == 0
    assert list(cells.iterdir()) == []


class ForeignLoop:
    """Neither asyncio's nor uvloop's."""


def test_a_foreign_loop_is_left_alone_with_one_line(
    loops: Loops, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that is neither asyncio's nor uvloop's gets one line in our log and nothing else."""
    foreign = ForeignLoop()
    monkeypatch.setattr(slices, "_foreign_kinds", set())
    events._set_running_loop(foreign)  # type: ignore[arg-type]
    try:
        for _ in range(3):
            with tenant("acme"):
                pass
    finally:
        events._set_running_loop(None)

    assert capsys.readouterr().err.count("not accounted") == 1
    assert vars(foreign) == {}


@pytest.mark.parametrize(("where", "name"), [(slices.Slices, "_found"), (slices, "_say_that_foreign")])
def test_a_foreign_loop_is_left_alone_when_we_are_broken(
    loops: Loops, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    """Who binds a tenant there hears nothing of it."""
    monkeypatch.setattr(slices, "_foreign_kinds", set())
    events._set_running_loop(ForeignLoop())  # type: ignore[arg-type]
    try:
        with broken(where, name), tenant("acme"):
            assert tenancy.current_tenant() == "acme"
    finally:
        events._set_running_loop(None)


class UvloopOfAnotherMake:
    """A `uvloop.Loop` that lacks what we need."""


class HandleOfAnotherMake:
    __slots__ = ("_loop",)


@pytest.mark.parametrize(
    ("where", "name", "value", "other"),
    [
        (uvloop, "Loop", UvloopOfAnotherMake, asyncio.new_event_loop),
        (uvloop, "Loop", None, asyncio.new_event_loop),
        (events, "Handle", HandleOfAnotherMake, uvloop.Loop),
    ],
)
def test_a_kind_of_loop_that_is_not_as_expected_is_left_alone_with_one_line(
    where: Any,
    name: str,
    value: Any,
    other: Callable[[], Any],
    cells: Path,
    clock: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a new release of asyncio or uvloop moves costs the accounting of its loops, nothing else."""
    own = set(vars(value)) if value is not None else set()
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, value)
        loops.start()
        loop = other()

        async def work() -> None:
            with tenant("acme"):
                clock.advance(10)

        loop.run_until_complete(work())
        loop.close()
        loops.stop()

    assert capsys.readouterr().err.count("not accounted") == (value is not None)
    assert loops.totals().active_ns[slot("acme")] == 10_000_000
    assert value is None or set(vars(value)) == own
    assert nothing_of_ours_is_installed()


def test_a_forked_child_writes_nothing_of_its_parents(loops: Loops, clock: Any, make_loop: Callable[[], Any]) -> None:
    """In the child the callback goes on, asyncio is stock, the parent's cell and its file stay as they were."""
    loop = make_loop()
    observed: dict[str, Any] = {}

    async def main() -> None:
        with tenant("acme"):
            await asyncio.sleep(0)
            (account,) = loops._accounts.values()
            path = account.cell.path
            assert path is not None
            before = path.read_bytes()
            read, write = os.pipe()
            child = os.fork()
            if child == 0:  # pragma: no cover
                verdict = b"F"
                try:
                    with tenant("globex"):
                        clock.advance(1000)
                    fine = (
                        events.Handle._run is VERY_ORIGINAL
                        and not hasattr(loop, slices.ATTRIBUTE)
                        and path.read_bytes() == before
                    )
                    verdict = b"P" if fine else b"F"
                finally:
                    os.write(write, verdict)
                    os._exit(0)
            os.close(write)
            observed["verdict"] = os.read(read, 1)
            os.close(read)
            os.waitpid(child, 0)
            observed["same"] = path.read_bytes() == before

    loop.run_until_complete(main())

    assert observed == {"verdict": b"P", "same": True}


def test_everything_that_uvloop_is_handed_is_accounted(loops: Loops, clock: Any) -> None:
    """Sockets, signals, timers by moment, other threads: each goes through a method of its own."""
    loop = uvloop.Loop()
    ours, theirs = socket.socketpair()
    done: set[str] = set()

    async def main() -> None:
        def step(name: str, milliseconds: float) -> None:
            clock.advance(milliseconds)
            done.add(name)
            if name == "reader":
                loop.remove_reader(ours)
            elif name == "writer":
                loop.remove_writer(ours)

        theirs.send(b".")
        with tenant("acme"):
            loop.add_reader(ours, step, "reader", 1)
            loop.add_writer(ours, step, "writer", 10)
            loop.add_signal_handler(signal.SIGUSR1, step, "signal", 100)
            loop.call_at(loop.time() + 0.002, step, "timer", 1000)
            loop.call_later(0, step, "at once", 10_000)
            thread = contextvars.copy_context()
        await asyncio.to_thread(thread.run, loop.call_soon_threadsafe, step, "thread", 100_000)
        os.kill(os.getpid(), signal.SIGUSR1)
        while len(done) < 6:
            await asyncio.sleep(0.001)
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(main())
    with pytest.raises(TypeError):
        loop.add_signal_handler(signal.SIGUSR1, main)  # as without us
    loop.close()
    ours.close()
    theirs.close()

    assert loops.totals().active_ns[slot("acme")] == 111_111_000_000
