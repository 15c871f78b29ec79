"""A turn that has a budget: measures what it uses, reports when that is too much, and cancels the handler if it may.

Wall time is a timer on the loop; time on the loop is told by the slices (`hold`), whichever of the turn's tasks and
timers they belong to. Cancelling is `asyncio.timeout`'s way: one `cancel()` of the handler's task, taken back with
`uncancel()` when the turn ends. So a time-out of the application's inside, or a cancellation from outside, stays what
it is, and only a `CancelledError` that is ours becomes a `TurnBudgetExceeded`.

What it refuses: to cancel from within the handler's own step, where the cancellation could hit whatever awaits after
the turn, and to touch any other task. Code that does not await cannot be cancelled: while it runs the watchdog tells of
it, and it is over its budget when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from types import FrameType
from typing import Any, Final

from instrumentation import tenancy
from instrumentation.activity import Activity, Kind
from instrumentation.budgets import Budget, TurnBudgetExceeded
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope

TURN: Final = "turn"
LOOP: Final = "loop"

#: Told of an overrun on the loop's thread: the loop, the tenant's slot, and which budget, `turn` or `loop`.
Overran = Callable[[asyncio.AbstractEventLoop, int, str], None]


class Turn:
    """One turn with a budget; `begin` in the handler's task, `end` there too. Neither raises.

    Args:
        process: the activity and span of the handler.
        overran: told once for each budget that the turn is over.
    """

    __slots__ = (
        "_before", "_binding", "_budget", "_cancelled", "_cancelling", "_held_ns", "_loop", "_over", "_overran",
        "_process", "_recorder", "_task", "_timer",
    )  # fmt: skip

    def __init__(self, recorder: Recorder, overran: Overran, process: Scope, budget: Budget) -> None:
        self._recorder = recorder
        self._overran = overran
        self._process = process
        self._budget: Budget | None = budget
        self._binding: tenancy.Binding | None = None
        self._before: tenancy.Binding | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held_ns = 0
        self._over: dict[str, Scope] = {}
        self._cancelled: str | None = None  # by which budget
        self._cancelling = 0

    # Life -----------------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Count from here on."""
        try:
            task = asyncio.current_task()
            if task is None:
                return
            self._cancelling = task.cancelling()
            self._before = tenancy.BOUND.get()
            binding = tenancy.Binding(tenancy.NOBODY if self._before is None else self._before.tenant, self._before)
            binding.turn = self
            self._binding = binding
            self._loop, self._task = task.get_loop(), task
            tenancy.bind(binding)
            self._arm()
        except BaseException as error:
            fault("turn.begin", error)

    def end(self, kind: type[BaseException] | None, sender_is_gone: bool) -> TurnBudgetExceeded | None:
        """The handler ended, with an exception of this kind. Returns what its caller is to get instead.

        Args:
            sender_is_gone: nobody waits for the answer any more; a cancellation stays one then, for AutoGen passes
                nothing else to a future that was cancelled.
        """
        task = self._task
        if task is None:
            return None
        try:
            self._disarm()
            if tenancy.BOUND.get() is self._binding:  # ends the slice, and so `hold`s what it was
                tenancy.bind(self._before)
            self._task = None
            self._look()
            exceeded = None
            if self._cancelled is not None:
                # `CancelledError` and no other: the handler may have caught it and raised something of its own.
                is_ours = task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
                exceeded = self._exceeded(self._cancelled) if is_ours and not sender_is_gone else None
            for scope in self._over.values():
                scope.activity.loop_seconds = self._held_ns / 1e9
                scope.close(kind)
            return exceeded
        except BaseException as error:
            fault("turn.end", error)
            return None
        finally:
            self._loop = self._budget = None
            self._binding = self._before = None  # which knows us: gone without the garbage collector
            self._over = {}

    # What it uses ---------------------------------------------------------------------------------------------------
    def hold(self, elapsed_ns: int, loop: object) -> None:
        """Work of the turn held `loop` for so long. Called at the end of a slice; never raises."""
        if loop is not self._loop:  # over, or a loop in another thread that the turn's context went to
            return
        self._held_ns += elapsed_ns
        budget = self._budget
        if budget is not None and budget.loop_ns is not None and self._held_ns > budget.loop_ns:
            self._exceed(LOOP)

    def _arm(self) -> None:
        budget, loop = self._budget, self._loop
        if budget is not None and budget.turn_ns is not None and loop is not None:
            # In a context of nobody's: the slice that it takes is not the tenant's.
            self._timer = loop.call_later(budget.turn_ns / 1e9, self._late, context=Context())

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._task is not None:
            self._exceed(TURN)

    def _look(self) -> None:
        """At the end: a handler that never awaited kept the timer from running."""
        budget = self._budget
        if budget is not None and budget.turn_ns is not None and self._used_ns() > budget.turn_ns:
            self._exceed(TURN)

    def _used_ns(self) -> int:
        return self._recorder.clock() - self._process.activity.began_ns

    # Too much -------------------------------------------------------------------------------------------------------
    def _exceed(self, which: str) -> None:
        try:
            budget, loop = self._budget, self._loop
            if self._recorder.retired or budget is None or loop is None:
                return
            if which not in self._over:
                self._report(which, budget, loop)
            if budget.cancel and self._cancelled is None and self._task is not None:
                if asyncio.current_task(loop) is None:
                    self._cancel(which)
                else:  # in the middle of a step, maybe the handler's own
                    loop.call_soon(self._cancel, which, context=Context())
        except BaseException as error:
            fault("turn.exceed", error)

    def _cancel(self, which: str) -> None:
        task = self._task
        if task is not None and self._cancelled is None:
            with suppress(Exception):  # of what the application awaits, and asked to be cancelled
                if task.cancel():
                    self._cancelled = which

    def _report(self, which: str, budget: Budget, loop: asyncio.AbstractEventLoop) -> None:
        process = self._process.activity
        activity = Activity(Kind.OVERRUN, process.tenant, process.name, self._recorder.clock())
        activity.budget = which
        activity.limit_seconds = _seconds(budget, which)
        scope = self._over[which] = self._recorder.scope(activity, self._process.inside)
        scope.open()
        self._recorder.overran(process.tenant.id, which)
        self._overran(loop, process.tenant.slot, which)

    def _exceeded(self, which: str) -> TurnBudgetExceeded:
        over = self._over[which].activity
        used = self._used_ns() if which == TURN else self._held_ns
        process = self._process.activity
        return TurnBudgetExceeded(process.name, process.tenant.id, which, over.limit_seconds or 0.0, used / 1e9)


def nobody_waits(runtime: FrameType) -> bool:
    """Whether the sender has given up, seen from the frame in which AutoGen handles its message.

    The message's future knows at once; its passport only when the sender's task has run.
    """
    try:
        future = getattr(runtime.f_locals.get("message_envelope"), "future", None)
        return future is not None and future.cancelled()
    except Exception as error:
        fault("turn.sender", error)
        return True


def _seconds(budget: Budget, which: str) -> float:
    return ((budget.turn_ns if which == TURN else budget.loop_ns) or 0) / 1e9
