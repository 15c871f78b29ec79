"""Applications that nobody thought of: made by chance, they do the same step by step with us as without us."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import warnings
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from autogen_core import (
    AgentId,
    CancellationToken,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    message_handler,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from instrumentation import current_tenant, diagnostics, tenant
from instrumentation.testing import capture

TENANTS = ("acme", "globex", "initech")
TURNS = 2_000  # of the loop, in which everything has ended that ever will


@dataclass
class Do:
    """What to do is drawn from `seed`; `who` is bound where it is sent, None for nobody."""

    seed: int
    depth: int
    who: str | None


class Told(Do):
    """The same, published."""


class Seen:
    """What happened, in its order; the tenants that handlers saw, and how many handlers each tenant had."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.wrong: list[Any] = []
        self.handled: Counter[str] = Counter()


class Worker(RoutedAgent):
    def __init__(self, seen: Seen) -> None:
        super().__init__("does what it is told")
        self._seen = seen

    @message_handler
    async def on_do(self, message: Do, ctx: MessageContext) -> int:
        return await self._work(message)

    @message_handler
    async def on_told(self, message: Told, ctx: MessageContext) -> None:
        await self._work(message)

    async def _work(self, message: Do) -> int:
        draw, seen = random.Random(message.seed), self._seen
        seen.handled[message.who or "unknown"] += 1
        for _ in range(draw.randint(0, 3)):
            if current_tenant() != message.who:
                seen.wrong.append((message.who, current_tenant()))
            who = draw.choice(TENANTS) if draw.random() < 0.3 else message.who
            to = AgentId(draw.choice("abcd"), draw.choice("xyz"))
            kind = Told if draw.random() < 0.3 else Do
            with nullcontext() if who is None else tenant(who):
                try:
                    found = await self._step(draw, kind(draw.randrange(2**30), message.depth - 1, who), to)
                except (LookupError, asyncio.CancelledError) as error:
                    found = repr(error)
            seen.steps.append((message.seed, found))
        return draw.randrange(100)

    async def _step(self, draw: random.Random, message: Do, to: AgentId) -> Any:
        what = draw.choice(("send", "several", "give up", "token", "fail", "wait"))
        if message.depth < 0 or what == "wait":
            return await asyncio.sleep(0)
        if what == "fail":
            raise LookupError(message.seed)
        if isinstance(message, Told):
            return await self.publish_message(message, TopicId("topic", to.key))
        if what == "several":
            return repr(await asyncio.gather(*(self.send_message(message, to) for _ in "123"), return_exceptions=True))
        token = CancellationToken()
        asked = asyncio.ensure_future(self.send_message(message, to, cancellation_token=token))
        if what != "send":
            for _ in range(draw.randint(0, 6)):
                await asyncio.sleep(0)
            token.cancel() if what == "token" else asked.cancel()
        return await asked


async def application(seed: int) -> Seen:
    """Runs until nothing moves any more."""
    draw, seen = random.Random(seed), Seen()
    runtime = SingleThreadedAgentRuntime()
    for name in "abcd":
        await Worker.register(runtime, name, lambda: Worker(seen))
    for name in "ab":
        await runtime.add_subscription(TypeSubscription("topic", name))
    with tenant("starter"):
        runtime.start()
    asked = []
    for _ in range(4):
        who = draw.choice((*TENANTS, None))
        with nullcontext() if who is None else tenant(who):
            message = Do(draw.randrange(2**30), 3, who)
            asked.append(asyncio.ensure_future(runtime.send_message(message, AgentId("a", "x"))))
    for _ in range(TURNS):
        await asyncio.sleep(0)
    seen.steps.append([repr(each.exception() or each.result()) if each.done() else None for each in asked])
    await runtime.stop()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    seen.steps.append(len(left))
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return seen


def run(seed: int) -> Seen:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of coroutines that AutoGen leaves behind
        seen = asyncio.run(application(seed))
        gc.collect()
    return seen


def faults() -> dict[str, int]:
    """Of observers of ours, since the process began."""
    return {reason: n for reason, n in diagnostics.counts().items() if reason.startswith("fault.")}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_an_application_made_by_chance_is_the_same(seed: int) -> None:
    """The same steps in the same order with the same results; every handler sees the tenant of its message; and each
    has one span, those too whose caller gave up. No observer of ours has failed."""
    bare, before = run(seed), faults()
    with capture() as captured:
        watched = run(seed)
        assert watched.steps == bare.steps
        assert watched.wrong == []
        spans = [span.attributes or {} for span in captured.spans() if span.name.startswith("process ")]
        assert Counter(str(about["tenant.id"]) for about in spans) == watched.handled
        assert not any(getattr(point, "value", 0) for point in captured.points("autogen.handlers.abandoned"))
    assert faults() == before
