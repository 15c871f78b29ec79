"""What an application can see of its loop is the same with and without the accounting, also when that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from asyncio import events
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from sabotage import broken
from stock import NOWHERE, VERY_ORIGINAL, nothing_of_ours_is_installed, slot

from instrumentation import diagnostics
from instrumentation.loop import Loops, account, heartbeat, slices, uvloop_callbacks
from instrumentation.loop import cell as cells_module
from instrumentation.tenancy import tenant
from sidecar.wire import cell as layout


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


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (account.Account, "settle"),
        (account.Account, "_publish"),
        (account.Account, "_suffer"),
        (account.Account, "finish"),
        (account.Account, "__init__"),
        (cells_module.Cell, "create"),
        (cells_module.Cell, "close"),
        (slices.Slices, "accounts"),
        (Loops, "_leave"),
    ],
)
def test_a_broken_part_of_the_accounting_changes_no_result(
    where: Any, name: str, cells: Path, new_loop: Callable[[], Any]
) -> None:
    """Whatever of ours raises, the program's observations stay identical."""
    with_a_broken_part(where, name, cells, new_loop)


@pytest.mark.parametrize("name", ["begin", "end"])
def test_a_broken_part_of_uvloops_accounting_changes_no_result(name: str, cells: Path) -> None:
    """For asyncio these are written out where a callback is run."""
    with_a_broken_part(account.Account, name, cells, uvloop.Loop)


def test_a_heartbeat_that_cannot_be_scheduled_changes_no_result(cells: Path) -> None:
    """Nor does it on a loop of uvloop, whose timers are ours by a way of their own."""
    with_a_broken_part(uvloop_callbacks.UvloopCallbacks, "call_later", cells, uvloop.Loop)


def test_a_heartbeat_that_breaks_changes_no_result(
    cells: Path, monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], Any]
) -> None:
    """It beats all the time here."""
    monkeypatch.setattr(heartbeat, "PERIOD_NS", 1)
    with_a_broken_part(account.Account, "late", cells, new_loop)


def with_a_broken_part(where: Any, name: str, cells: Path, new_loop: Callable[[], Any]) -> None:
    """The program sees the same, and nothing of ours stays."""
    stock = everything_a_callback_can_do(new_loop)
    loops = Loops(cells, "service", "instance", NOWHERE)
    with pytest.MonkeyPatch.context() as patch, broken(where, name):
        patch.setattr(account, "LONG_NS", 0)
        patch.setattr(slices, "LONG_NS", 0)
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
