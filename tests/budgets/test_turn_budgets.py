"""A turn over its budget is reported; if it may be, its handler is cancelled, and its sender hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_apps import Answer, Ask, Asked, Note, Noted, ask_runtime
from autogen_core import (
    AgentId,
    DefaultTopicId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    default_subscription,
    message_handler,
)

from instrumentation import TurnBudgetExceeded, budget, conventions, diagnostics, lifecycle, tenant
from instrumentation.budgets import BOUND
from instrumentation.testing import Captured, capture
from sidecar.wire import limits

SOON = 0.005  # seconds
NEVER = 3600.0
ASKED = AgentId("asked", "default")
Work = Callable[[str], Any]


async def forever(_: str = "") -> None:
    await asyncio.Event().wait()


def overruns() -> dict[tuple[str, str], float]:
    """Turns over their budget so far, by tenant and budget."""
    running = lifecycle.running()
    assert running is not None
    with running.accumulators.lock:
        return dict(running.accumulators.of(conventions.TURN_OVERRUNS)._sums)  # type: ignore[arg-type]


def ask(
    work: Work, *, who: str | None = "acme", within: budget | None = None, loop_factory: Callable[[], Any] | None = None
) -> Any:
    """What one tenant's message leads to: the answer, or the exception that the sender got."""

    async def main() -> Any:
        runtime = await ask_runtime(asked=lambda: Asked(work=work))
        runtime.start()
        with contextlib.ExitStack() as bound:
            if who is not None:
                bound.enter_context(tenant(who))
            if within is not None:
                bound.enter_context(within)
            try:
                return await runtime.send_message(Ask("x"), ASKED)
            except Exception as error:
                return error
            finally:
                await runtime.stop_when_idle()
                left = asyncio.all_tasks() - {asyncio.current_task()}
                assert not left, left

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


def test_a_handler_over_its_wall_time_is_cancelled(captured: Captured) -> None:
    """The sender gets `TurnBudgetExceeded` with who, which budget and how much; the runtime goes on."""
    faults = diagnostics.counts()
    result = ask(forever, within=budget(turn=SOON, cancel=True))
    assert isinstance(result, TurnBudgetExceeded)
    assert (result.agent, result.tenant, result.budget, result.limit) == ("asked", "acme", "turn", SOON)
    assert result.used >= SOON
    assert isinstance(result.__cause__, asyncio.CancelledError)
    assert "budget is 0.005 s" in str(result)
    new = {reason for reason, count in diagnostics.counts().items() if count > faults.get(reason, 0)}
    assert not [reason for reason in new if reason.startswith("fault")]


def test_the_overrun_is_a_span_and_a_count(captured: Captured) -> None:
    """Under the handler's own span, which ended with the error; the count is by tenant and budget."""
    ask(forever, within=budget(turn=SOON, cancel=True))
    spans = {span.name: span for span in captured.spans()}
    process, over = spans["process asked"], spans["overrun asked"]
    assert process.attributes is not None
    assert process.attributes["autogen.message.outcome"] == "error"
    assert process.attributes["error.type"] == "TurnBudgetExceeded"
    assert over.parent is not None
    assert over.parent.span_id == process.context.span_id
    assert over.attributes is not None
    assert over.attributes["tenant.id"] == "acme"
    assert over.attributes["autogen.turn.budget"] == "turn"
    assert over.attributes["autogen.turn.budget.limit"] == SOON
    assert over.attributes["autogen.message.outcome"] == "cancelled"
    (point,) = captured.points("autogen.turn.overruns")
    assert point.attributes == {"tenant.id": "acme", "autogen.turn.budget": "turn"}
    assert point.value == 1  # type: ignore[union-attr]


def test_without_cancel_it_is_only_reported(captured: Captured) -> None:
    """The handler learns nothing of it, and answers."""

    async def until_reported(_: str) -> None:
        while not overruns():
            await asyncio.sleep(0)

    result = ask(until_reported, within=budget(turn=SOON, loop=NEVER))
    assert result == Answer("x", "acme")
    assert overruns() == {("acme", "turn"): 1}
    (over,) = [span for span in captured.spans() if span.name == "overrun asked"]
    assert over.attributes is not None
    assert over.attributes["autogen.message.outcome"] == "ok"


def test_without_a_budget_nothing_is_counted(captured: Captured) -> None:
    """No budget, no turn: no timer, no span, no metric; `budget()` without limits is none either."""
    assert ask(lambda _: time.sleep(SOON)) == Answer("x", "acme")
    assert ask(lambda _: time.sleep(SOON), within=budget()) == Answer("x", "acme")
    assert overruns() == {}


def test_blocking_code_is_reported_and_not_cancelled(captured: Captured) -> None:
    """A handler without an await cannot be cancelled: it ends, its answer counts, and the overrun is told."""
    result = ask(lambda _: time.sleep(2 * SOON), within=budget(turn=SOON, loop=SOON, cancel=True))
    assert result == Answer("x", "acme")
    assert overruns() == {("acme", "turn"): 1, ("acme", "loop"): 1}


def test_a_handler_that_holds_the_loop_is_cancelled_at_its_next_await(captured: Captured) -> None:
    """Pieces that are each below the limit add up; the first await after it is the last."""
    pieces: list[int] = []

    async def piecemeal(_: str) -> None:
        while True:
            time.sleep(SOON)
            pieces.append(1)
            await asyncio.sleep(0)

    result = ask(piecemeal, within=budget(loop=2.5 * SOON, cancel=True))
    assert isinstance(result, TurnBudgetExceeded)
    assert result.budget == "loop"
    assert result.used >= 2.5 * SOON
    assert len(pieces) <= 3


def test_what_a_turn_spawns_counts_as_its_loop_time(captured: Captured) -> None:
    """Tools run in tasks of their own, timers are nobody's task: both held the loop for this turn."""

    async def child() -> None:
        time.sleep(SOON)
        await asyncio.sleep(0)

    async def spawning(_: str) -> None:
        asyncio.get_running_loop().call_later(0, time.sleep, SOON)
        await asyncio.gather(child(), child())
        await forever()

    result = ask(spawning, within=budget(loop=2.5 * SOON, cancel=True))
    assert isinstance(result, TurnBudgetExceeded)
    assert result.budget == "loop"


@pytest.mark.parametrize("limits", [{"turn": SOON}, {"loop": SOON}], ids=str)
def test_on_uvloop_too(captured: Captured, limits: dict[str, float]) -> None:
    """Its timers and its callbacks are others; what they tell is the same."""

    async def holds_and_waits(_: str) -> None:
        time.sleep(2 * SOON)
        await forever()

    result = ask(holds_and_waits, within=budget(**limits, cancel=True), loop_factory=uvloop.new_event_loop)
    assert isinstance(result, TurnBudgetExceeded)
    assert [result.budget] == list(limits)


def test_waiting_is_no_loop_time(captured: Captured) -> None:
    """A turn that waits holds nothing: its wall time is longer than its loop time."""

    async def waits(_: str) -> None:
        while not overruns():
            await asyncio.sleep(SOON)

    assert ask(waits, within=budget(turn=SOON)) == Answer("x", "acme")
    process, over = (
        {span.name: span for span in captured.spans()}[name] for name in ("process asked", "overrun asked")
    )
    assert process.end_time is not None
    assert process.start_time is not None
    assert over.attributes is not None
    assert 0 < over.attributes["autogen.turn.loop.time"] < (process.end_time - process.start_time) / 1e9  # type: ignore[operator]


def test_a_message_without_a_tenant_has_a_budget_too(captured: Captured) -> None:
    """It stays nobody's: the handler sees no tenant, and a resolver is asked for what it sends."""
    seen: list[object] = []

    async def look(_: str) -> None:
        from instrumentation import current_tenant

        seen.append(current_tenant())
        time.sleep(SOON)
        await forever()

    result = ask(look, who=None, within=budget(loop=SOON, cancel=True))
    assert isinstance(result, TurnBudgetExceeded)
    assert result.tenant == "unknown"
    assert seen == [None]


def test_a_budget_travels_with_messages_and_counts_for_each_turn_anew(captured: Captured) -> None:
    """The handler behind the handler has the budget of the first sender, from its own beginning."""

    async def main() -> Any:
        runtime = await ask_runtime(
            asked=lambda: Asked(deeper=AgentId("deeper", "default")), deeper=lambda: Asked(work=forever)
        )
        runtime.start()
        with budget(turn=SOON, cancel=True), pytest.raises(TurnBudgetExceeded) as raised:
            await runtime.send_message(Ask("x"), ASKED)
        await runtime.stop_when_idle()
        return raised.value.agent

    # Both are late at about the same time; whichever was cancelled first, the caller hears of a budget.
    assert asyncio.run(main()) in ("asked", "deeper")


def test_the_runtime_s_own_context_keeps_no_budget(captured: Captured) -> None:
    """What one message carries is gone when the next is dispatched."""

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=lambda _: seen.append(BOUND.get())))
        with budget(turn=NEVER):
            runtime.start()
            await runtime.send_message(Ask("x"), ASKED)
        await runtime.send_message(Ask("x"), ASKED)
        await runtime.stop_when_idle()

    seen: list[Any] = []
    asyncio.run(main())
    assert [bound is None for bound in seen] == [False, True]


def tiers(text: str) -> limits.Limits:
    return limits.parse(text.encode())


TABLE = f"""
default = "standard"
[tiers.standard]
turn = {SOON}
cancel = true
[tiers.patient]
turn = {NEVER}
[tenants]
globex = "patient"
"""


def test_tenants_have_the_budget_of_their_tier() -> None:
    """A tenant that is named nowhere has the default; one in a tier has that."""

    async def a_while(_: str) -> None:
        await asyncio.sleep(4 * SOON)

    with capture(limits=tiers(TABLE)):
        assert isinstance(ask(a_while, who="acme"), TurnBudgetExceeded)
        assert isinstance(ask(a_while, who=None), TurnBudgetExceeded)
        assert ask(a_while, who="globex") == Answer("x", "globex")


def test_an_explicit_budget_wins_over_the_tier() -> None:
    """As a whole: `budget()` lifts every limit of the tier."""

    async def a_while(_: str) -> None:
        await asyncio.sleep(4 * SOON)

    with capture(limits=tiers(TABLE)):
        assert ask(a_while, who="acme", within=budget()) == Answer("x", "acme")


# The application first ----------------------------------------------------------------------------------------------
def test_a_time_out_of_the_application_stays_one(captured: Captured) -> None:
    """`asyncio.timeout` inside a handler that has a budget raises its own error, and leaves the count as it was."""

    async def own_timeout(_: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON / 5):
                await forever()
        assert task.cancelling() == 0

    assert ask(own_timeout, within=budget(turn=NEVER, cancel=True)) == Answer("x", "acme")


def test_a_time_out_inside_that_is_longer_is_cut_short(captured: Captured) -> None:
    """The budget's cancellation is not mistaken for the time-out's, nor the other way round."""

    async def long_timeout(_: str) -> None:
        async with asyncio.timeout(NEVER):
            await forever()

    assert isinstance(ask(long_timeout, within=budget(turn=SOON, cancel=True)), TurnBudgetExceeded)


def test_a_handler_that_catches_the_cancellation_keeps_its_answer(captured: Captured) -> None:
    """It was asked once. Its task is not left with a cancellation that nobody takes back."""
    tasks: list[asyncio.Task[Any]] = []

    async def stubborn(_: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        with contextlib.suppress(asyncio.CancelledError):
            await forever()

    assert ask(stubborn, within=budget(turn=SOON, cancel=True)) == Answer("x", "acme")
    assert tasks[0].cancelling() == 0


def test_an_exception_of_the_handler_s_own_wins(captured: Captured) -> None:
    """What a handler raises while it cleans up is what its caller gets."""

    async def cleans_up(_: str) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            raise ValueError("cleaning up failed") from None

    assert isinstance(ask(cleans_up, within=budget(turn=SOON, cancel=True)), ValueError)


def test_a_cancellation_from_outside_stays_one(captured: Captured) -> None:
    """The handler's task is cancelled by somebody else after the budget did: then it is cancelled."""
    outcome: list[object] = []

    async def cancelled_twice(_: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await forever()
        finally:
            task.cancel()
            outcome.append(task.cancelling())

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=cancelled_twice))
        runtime.start()
        with budget(turn=SOON, cancel=True), pytest.raises(asyncio.CancelledError):
            await runtime.send_message(Ask("x"), ASKED)
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert outcome == [2]


def test_a_sender_that_gave_up_does_not_hang_the_runtime(captured: Captured) -> None:
    """AutoGen cannot tell an error to a future that was cancelled, and would never be idle again."""

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=forever))
        runtime.start()
        with budget(turn=4 * SOON, cancel=True), pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON):
                await runtime.send_message(Ask("x"), ASKED)
        async with asyncio.timeout(30):
            await runtime.stop_when_idle()

    asyncio.run(main())
    assert overruns() == {("unknown", "turn"): 1}


def test_only_the_handler_s_own_task_is_cancelled(captured: Captured) -> None:
    """What it spawned and did not wait for lives on; so do other handlers."""

    async def main() -> tuple[Any, Any]:
        release = asyncio.Event()
        spawned: list[asyncio.Task[bool]] = []

        async def leaves_a_task(text: str) -> None:
            if text == "late":
                spawned.append(asyncio.create_task(release.wait()))
                await forever()
            await release.wait()

        runtime = await ask_runtime(asked=lambda: Asked(work=leaves_a_task))
        runtime.start()
        other: Awaitable[Any] = asyncio.create_task(runtime.send_message(Ask("other"), AgentId("asked", "other")))  # type: ignore[arg-type]
        with budget(turn=SOON, cancel=True), pytest.raises(TurnBudgetExceeded):
            await runtime.send_message(Ask("late"), ASKED)
        release.set()
        result = await other, await spawned[0]
        await runtime.stop_when_idle()
        return result

    assert asyncio.run(main()) == (Answer("other", None), True)


@default_subscription
class Listener(RoutedAgent):
    """Waits for ever with a note `late`."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__("listener")
        self._heard = heard

    @message_handler
    async def on_note(self, message: Note, ctx: MessageContext) -> None:
        if message.text == "late":
            await forever()
        self._heard.append(message.text)


def test_a_publish_goes_autogen_s_way_with_errors(captured: Captured) -> None:
    """By default AutoGen swallows what handlers of a publish raise: other recipients and later messages are handled."""
    heard: list[str] = []
    seen: list[tuple[str, str | None]] = []

    async def main() -> None:
        runtime = await ask_runtime(listener=lambda: Listener(heard), noted=lambda: Noted(seen))
        runtime.start()
        with tenant("acme"), budget(turn=SOON, cancel=True):
            await runtime.publish_message(Note("late"), DefaultTopicId())
            await runtime.publish_message(Note("next"), DefaultTopicId())
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert heard == ["next"]
    assert seen == [("late", "acme"), ("next", "acme")]
    assert overruns() == {("acme", "turn"): 1}


def test_a_strict_runtime_raises_it(captured: Captured) -> None:
    """With `ignore_unhandled_exceptions=False` the runtime raises what a handler of a publish raised."""

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        await Listener.register(runtime, "listener", lambda: Listener([]))
        runtime.start()
        with budget(turn=SOON, cancel=True):
            await runtime.publish_message(Note("late"), DefaultTopicId())
        with pytest.raises(TurnBudgetExceeded):
            await runtime.stop_when_idle()

    asyncio.run(main())


class Sleeper(BaseChatAgent):
    """An AgentChat agent that never answers."""

    produced_message_types = (TextMessage,)

    async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
        await forever()
        raise AssertionError

    async def on_reset(self, cancellation_token: Any) -> None: ...


def test_a_team_s_run_ends_with_the_error(captured: Captured) -> None:
    """AgentChat passes on what its agents' handlers raise, as a RuntimeError that names it."""

    async def main() -> None:
        team = RoundRobinGroupChat([Sleeper("sleeper", "sleeps")], max_turns=1)
        with tenant("acme"), budget(turn=10 * SOON, cancel=True), pytest.raises(Exception, match="TurnBudgetExceeded"):
            await team.run(task="go")

    asyncio.run(main())


def test_a_limit_that_is_none_does_not_count(captured: Captured) -> None:
    """The application goes on; the mistake is counted."""
    before = diagnostics.counts().get("budget.invalid", 0)
    for wrong in (0, -1, float("nan"), float("inf"), 1e9, "30", True, b"1", object()):
        with budget(turn=wrong, cancel=True):  # type: ignore[arg-type]
            pass
    assert diagnostics.counts()["budget.invalid"] == before + 9


def test_as_a_decorator(captured: Captured) -> None:
    """Functions and coroutine functions keep what they are; a generator is refused at once."""

    @budget(turn=1)
    def plain() -> object:
        return BOUND.get()

    @budget(turn=1)
    async def coroutine() -> object:
        await asyncio.sleep(0)
        return BOUND.get()

    assert plain() is not None
    assert asyncio.iscoroutinefunction(coroutine)
    assert asyncio.run(coroutine()) is not None
    assert BOUND.get() is None
    with pytest.raises(TypeError, match="generator"):

        @budget(turn=1)
        def generator() -> Any:
            yield


def test_the_error_can_be_pickled() -> None:
    """Executors and task queues do."""
    error = TurnBudgetExceeded("asked", "acme", "loop", 0.5, 0.75)
    again = pickle.loads(pickle.dumps(error))
    assert (again.args, str(again)) == (error.args, str(error))


def test_nothing_is_left_behind(captured: Captured) -> None:
    """A turn that ended is not kept alive by us: neither its task nor its timer."""
    from instrumentation.hooks.turn import Turn

    for _ in range(3):
        ask(forever, within=budget(turn=SOON, loop=NEVER, cancel=True))
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Turn]


def test_after_stop_nothing_is_cancelled_any_more() -> None:
    """A handler that runs when the library is stopped is the application's alone."""

    async def main() -> Any:
        reached = asyncio.Event()
        release = asyncio.Event()

        async def waits(_: str) -> None:
            reached.set()
            await release.wait()

        runtime = await ask_runtime(asked=lambda: Asked(work=waits))
        with capture():
            runtime.start()
            with budget(turn=SOON, cancel=True):
                sending = asyncio.create_task(runtime.send_message(Ask("x"), ASKED))  # type: ignore[arg-type]
            await reached.wait()
        asyncio.get_running_loop().call_later(4 * SOON, release.set)
        answer = await sending
        await runtime.stop_when_idle()
        return answer

    assert asyncio.run(main()).text == "x"
