"""What an application can see of its loop is the same with and without the accounting, also when that breaks."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import gc
import logging
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

from instrumentation import diagnostics, tenancy
from instrumentation.loop import Loops, account, slices, uvloop_callbacks
from instrumentation.loop import cell as cells_module
from instrumentation.tenancy import tenant
from sidecar.wire import cell as layout

VERY_ORIGINAL = events.Handle._run
ASYNCIOS_OWN = dict(vars(asyncio.BaseEventLoop))
UVLOOPS_OWN = set(vars(uvloop.Loop))
NOWHERE = "unix:/nonexistent/tenantscope.sock"


def slot(name: str) -> int:
    return tenancy.TABLE.intern(name).slot


def everything_a_callback_can_do(new_loop: Callable[[], Any] = asyncio.new_event_loop) -> list[Any]:
    """A program that uses the loop in every way that passes through a handle; returns all it could observe."""
    seen: list[Any] = []
    loop = new_loop()
    loop.set_exception_handler(
        lambda _, context: seen.append(
            (sorted(context), context["message"].split(" at 0x")[0], type(context.get("exception")))
        )
    )

    def fails() -> None:
        raise LookupError("of the application")

    def fails_in_context() -> None:
        try:
            raise ValueError("inner")
        except ValueError:
            raise LookupError("outer") from None

    async def child(number: int) -> int:
        await asyncio.sleep(0)
        if number == 2:
            raise RuntimeError("of the task")
        return number

    async def main() -> None:
        loop.call_soon(fails)
        loop.call_soon(fails_in_context)
        loop.call_soon(lambda: seen.append(sys.exc_info()))
        cancelled = loop.call_soon(seen.append, "never")
        cancelled.cancel()
        with tenant("acme"):
            results = await asyncio.gather(*(child(n) for n in range(4)), return_exceptions=True)
        seen.append([repr(result) for result in results])
        seen.append(await asyncio.to_thread(lambda: "thread"))
        task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        loop.call_soon(exit_now)
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("finally")

    def exit_now() -> None:
        error = SystemExit(7)
        error.__context__ = None
        raise error

    task = loop.create_task(main())
    try:
        loop.run_until_complete(task)
    except SystemExit as error:
        seen.append((error.code, error.__context__))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    return seen


def test_a_program_sees_the_same_with_and_without_us(cells: Path, new_loop: Callable[[], Any]) -> None:
    """Exceptions, their contexts, SystemExit, cancellation, threads: identical under accounting."""
    stock = everything_a_callback_can_do(new_loop)
    loops = Loops(cells, "service", "instance", NOWHERE)
    loops.start()
    accounted = everything_a_callback_can_do(new_loop)
    loops.stop()

    assert accounted == stock
    assert loops.totals().active_ns[slot("acme")] > 0


def nothing_of_ours_is_installed() -> bool:
    return (
        events.Handle._run is VERY_ORIGINAL
        and dict(vars(asyncio.BaseEventLoop)) == ASYNCIOS_OWN
        and set(vars(uvloop.Loop)) == UVLOOPS_OWN
    )


def broken(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("a bug of ours")


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (account.Account, "settle"),
        (account.Account, "_publish"),
        (account.Account, "_suffer"),
        (account.Account, "late"),
        (account.Account, "finish"),
        (account.Account, "end"),
        (account.Account, "begin"),
        (account.Account, "__init__"),
        (cells_module.Cell, "create"),
        (cells_module.Cell, "close"),
        (slices, "_say_that_foreign"),
        (uvloop_callbacks.UvloopCallbacks, "call_later"),
        (slices.Slices, "_found"),
        (slices.Slices, "accounts"),
        (Loops, "_leave"),
    ],
)
def test_a_broken_part_of_the_accounting_changes_no_result(
    where: Any, name: str, cells: Path, monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], Any]
) -> None:
    """Whatever of ours raises, the program's observations stay identical."""
    stock = everything_a_callback_can_do(new_loop)
    loops = Loops(cells, "service", "instance", NOWHERE)
    with monkeypatch.context() as patch:
        patch.setattr(account, "LONG_NS", 0)
        patch.setattr(slices, "LONG_NS", 0)
        patch.setattr(where, name, broken)
        loops.start()
        accounted = everything_a_callback_can_do(new_loop)
        loops.stop()

    assert accounted == stock
    assert nothing_of_ours_is_installed()


@pytest.mark.parametrize("failing_call", range(1, 12))
def test_a_clock_that_fails_at_any_moment_changes_no_result(
    failing_call: int, cells: Path, new_loop: Callable[[], Any]
) -> None:
    """A fault in the middle of a slice abandons that loop, counted, and the callback still runs exactly once."""
    calls = 0

    def clock() -> int:
        nonlocal calls
        calls += 1
        if calls >= failing_call:
            raise ZeroDivisionError("a bug of ours")
        return calls * 1_000_000

    stock = everything_a_callback_can_do(new_loop)
    before = sum(amount for reason, amount in diagnostics.counts().items() if reason.startswith("fault.loop"))
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)
    loops.start()
    accounted = everything_a_callback_can_do(new_loop)
    loops.stop()

    assert accounted == stock
    assert nothing_of_ours_is_installed()
    after = sum(amount for reason, amount in diagnostics.counts().items() if reason.startswith("fault.loop"))
    assert after > before


def test_stopping_leaves_no_trace(cells: Path, clock: Any, make_loop: Callable[[], Any]) -> None:
    """The very original is back, no loop carries anything of ours, no timer or file is left."""
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)
    loops.start()
    assert events.Handle._run is not VERY_ORIGINAL
    loop = make_loop()
    loop.run_until_complete(asyncio.sleep(0))
    assert len(list(cells.iterdir())) == 1
    attributes = set(vars(loop))
    (timer,) = [heartbeat.timer() for heartbeat in loops._heartbeats.values()]
    assert timer is not None
    loops.stop()

    assert nothing_of_ours_is_installed()
    assert list(cells.iterdir()) == []
    assert attributes - set(vars(loop)) == {slices.ATTRIBUTE}
    assert timer.cancelled()
    loop.run_until_complete(asyncio.sleep(0))


def test_stopping_from_within_a_callback_keeps_its_time(cells: Path, clock: Any, make_loop: Callable[[], Any]) -> None:
    """`stop()` in asynchronous code ends the running slice there, and the callback goes on undisturbed."""
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)

    async def main() -> str:
        with tenant("acme"):
            clock.advance(5)
            loops.stop()
            clock.advance(5)
            await asyncio.sleep(0)
            clock.advance(5)
            return "done"

    loops.start()
    assert make_loop().run_until_complete(main()) == "done"
    assert loops.totals().active_ns[slot("acme")] == 5_000_000


def test_somebody_elses_replacement_stays_in_the_chain(
    cells: Path, clock: Any, virtual_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who wrapped ours keeps the wrapper; ours passes on and accounts nothing, until a new start accounts once."""
    theirs: list[object] = []
    first = Loops(cells, "service", "instance", NOWHERE, clock=clock)
    first.start()
    ours = events.Handle._run

    def wrapper(handle: asyncio.Handle) -> None:
        theirs.append(handle)
        return ours(handle)

    async def work() -> None:
        with tenant("acme"):
            clock.advance(10)
            await asyncio.sleep(0)

    with monkeypatch.context() as patch:
        patch.setattr(events.Handle, "_run", wrapper)
        first.stop()
        assert events.Handle._run is wrapper
        virtual_loop.run_until_complete(work())
        assert theirs
        assert first.totals().active_ns[slot("acme")] == 0

        second = Loops(cells, "service", "instance", NOWHERE, clock=clock)
        second.start()
        virtual_loop.run_until_complete(work())
        assert second.totals().active_ns[slot("acme")] == 10_000_000
        assert first.totals().active_ns[slot("acme")] == 0
        second.stop()
        assert events.Handle._run is wrapper
    events.Handle._run = VERY_ORIGINAL


def test_somebody_elses_replacement_of_uvloops_methods_stays_in_the_chain(
    cells: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on uvloop: who wrapped our method keeps the wrapper, and ours only passes on after `stop`."""
    theirs: list[object] = []
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)
    loops.start()
    ours = uvloop.Loop.call_soon

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        theirs.append(args)
        return ours(*args, **kwargs)

    async def work() -> None:
        with tenant("acme"):
            clock.advance(10)
            await asyncio.sleep(0)

    loop = uvloop.Loop()
    waiting = loop.create_task(work())  # handed over before `stop`, runs after it
    with monkeypatch.context() as patch:
        patch.setattr(uvloop.Loop, "call_soon", wrapper)
        loops.stop()
        assert uvloop.Loop.call_soon is wrapper
        loop.run_until_complete(waiting)
        loop.run_until_complete(work())
        assert theirs
        assert loops.totals().active_ns[slot("acme")] == 0
    loop.close()
    del uvloop.Loop.call_soon
    assert nothing_of_ours_is_installed()


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.Loop])
def test_debug_mode_still_reports_slow_callbacks(
    make: Callable[[], Any], loops: Loops, caplog: pytest.LogCaptureFixture
) -> None:
    """The slow-callback log of debug mode names the application's callback, task and line, as it does without us."""
    loop = make()
    loop.set_debug(True)
    loop.slow_callback_duration = 0

    def slow() -> None:
        pass

    async def slow_task() -> None:
        loop.call_soon(slow)
        loop.call_later(0.001, slow)
        assert f"created at {__file__}" in repr(loop.create_task(asyncio.sleep(0)))
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.run_until_complete(slow_task())
        loop.close()

    lines = [record.getMessage() for record in caplog.records if "took" in record.getMessage()]
    assert sum("Handle" in line and ".slow" in line and f"{__file__}:" in line for line in lines) == 2
    assert any("<Task" in line and "slow_task" in line for line in lines)


def test_keyboard_interrupt_in_our_own_code_reaches_the_application(cells: Path, make_loop: Callable[[], Any]) -> None:
    """A signal may raise between any two instructions: it passes, and the loop does not look busy ever after."""
    interrupt = False

    def clock() -> int:
        if interrupt:
            raise KeyboardInterrupt
        return 1_000_000_000

    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)
    loops.start()
    loop = make_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(lambda: None)
    interrupt = True
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    interrupt = False
    (account,) = loops._accounts.values()
    assert account.start == 0
    assert account.words[layout.RUNNING] == 0
    loop.run_until_complete(asyncio.sleep(0))
    loops.stop()


def test_keyboard_interrupt_while_the_loop_changes_hands_reaches_the_application(
    loops: Loops, make_loop: Callable[[], Any]
) -> None:
    """The same in the middle of a callback, at any line of what hands the slice over to another tenant."""

    def change_hands(at: int) -> bool:
        """True: interrupted, at this line that was executed; there are no more otherwise."""
        lines = 0

        def trace_lines(frame: Any, event: str, _: object) -> Any:
            nonlocal lines
            lines += event == "line"
            if event == "line" and lines == at:
                raise KeyboardInterrupt
            return trace_lines

        def trace_calls(frame: Any, _: str, __: object) -> Any:
            return trace_lines if frame.f_code is account.Account.switch.__code__ else None

        before = sys.gettrace()
        sys.settrace(trace_calls)
        try:
            with tenant("acme"):
                pass
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    loop = make_loop()
    loop.run_until_complete(asyncio.sleep(0))
    (ours,) = loops._accounts.values()
    for line in range(1, 1_000):
        interrupted: list[bool] = []

        def callback(line: int = line, interrupted: list[bool] = interrupted) -> None:
            interrupted.append(change_hands(line))
            loop.stop()  # and no slice after this one

        loop.call_soon(callback)
        loop.run_forever()
        assert ours.start == 0
        assert ours.words[layout.RUNNING] == 0
        if interrupted == [False]:
            break
    assert line > 20


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


def test_a_foreign_loop_is_left_alone_with_one_line(
    loops: Loops, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that is neither asyncio's nor uvloop's gets one line in our log and nothing else."""

    class ForeignLoop:
        pass

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
            words, path = account.words, account.cell.path
            before = bytes(words)
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
                        and bytes(words) == before
                        and path is not None
                        and path.exists()
                    )
                    verdict = b"P" if fine else b"F"
                finally:
                    os.write(write, verdict)
                    os._exit(0)
            os.close(write)
            observed["verdict"] = os.read(read, 1)
            os.close(read)
            os.waitpid(child, 0)
            observed["same"] = bytes(words) == before
            observed["exists"] = path is not None and path.exists()

    loop.run_until_complete(main())

    assert observed == {"verdict": b"P", "same": True, "exists": True}


def test_the_seams_of_asyncio_are_as_expected() -> None:
    """Fails when asyncio changes what the accounting stands on."""
    loop = asyncio.new_event_loop()
    try:
        assert set(events.Handle.__slots__) >= {"_callback", "_args", "_cancelled", "_loop", "_context"}
        assert "_when" in events.TimerHandle.__slots__
        assert "_run" not in vars(events.TimerHandle)
        assert hasattr(loop._ready, "popleft")
        assert isinstance(loop._scheduled, list)
        assert events._get_running_loop() is None
    finally:
        loop.close()


def test_the_seams_of_uvloop_are_as_expected() -> None:
    """Fails when uvloop changes what the accounting, and the look at who waits, stand on."""
    loop = uvloop.Loop()
    try:
        handle, timer = loop.call_soon(print), loop.call_later(3600, print)
        (ready,) = [held for held in gc.get_referents(loop) if isinstance(held, collections.deque)]
        assert list(ready) == [handle]
        assert any(held == {timer} for held in gc.get_referents(loop) if isinstance(held, set))
        assert type(handle).__module__ == "uvloop.loop"
        assert [type(held) for held in gc.get_referents(handle)].count(contextvars.Context) == 1
        assert [type(held) for held in gc.get_referents(timer)].count(contextvars.Context) == 1
        assert handle._source_traceback is None
        assert not set(vars(uvloop.Loop)) & {"call_soon", "call_soon_threadsafe", "call_later", "call_at"}
    finally:
        loop.close()


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
