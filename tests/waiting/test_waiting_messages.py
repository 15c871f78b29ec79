"""Who waits for a tenant that blocks: also the messages in AutoGen's own queue, which the event loop does not know."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest
from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import AgentId, SingleThreadedAgentRuntime

from instrumentation import lifecycle, tenancy, tenant
from instrumentation.hooks.waiting import Waiting
from instrumentation.testing import Captured

HELD = 0.05


def block(text: str) -> None:
    if text == "block":
        time.sleep(HELD)


async def ask_at_once(*asks: tuple[str, str]) -> None:
    """Every (tenant, text) is sent before the runtime takes the first out of its queue."""
    runtime = await ask_runtime(asked=lambda: Asked(work=block))

    async def ask(who: str, text: str) -> None:
        with tenant(who):
            await runtime.send_message(Ask(text), AgentId("asked", who))

    sending = [asyncio.create_task(ask(*one)) for one in asks]
    await asyncio.sleep(0)
    runtime.start()
    await asyncio.gather(*sending)
    await runtime.stop_when_idle()


def test_messages_behind_a_blocking_handler_suffer(captured: Captured) -> None:
    """The plainest application: one tenant's handler blocks, two others' messages stand in the queue behind it."""
    asyncio.run(ask_at_once(("acme", "block"), ("globex", "x"), ("initech", "x")))
    suffered = {(p.attributes or {})["tenant.id"]: p for p in captured.points("autogen.tenant.loop.delay")}
    caused = {(p.attributes or {})["tenant.id"]: p.value for p in captured.points("autogen.tenant.loop.delay.caused")}  # type: ignore[union-attr]
    for who in ("globex", "initech"):
        assert suffered[who].count == 1  # type: ignore[union-attr]
        assert suffered[who].sum >= HELD  # type: ignore[union-attr]
    assert "acme" not in suffered
    assert caused["acme"] >= 2 * HELD
    assert not {"globex", "initech"} & set(caused)


def test_own_messages_do_not_count(captured: Captured) -> None:
    """A tenant that waits for itself has nobody else to blame."""
    asyncio.run(ask_at_once(("acme", "block"), ("acme", "x"), ("acme", "block")))
    assert not [p for p in captured.points("autogen.tenant.loop.delay") if (p.attributes or {})["tenant.id"] == "acme"]


def test_a_wait_is_no_longer_than_the_message_is_old() -> None:
    """What is told is when the message was sent; a runtime counts on the loop on which it dispatches, and no other."""
    waiting = Waiting()

    async def main() -> None:
        runtime = await ask_runtime(asked=Asked)
        before = time.monotonic_ns()
        with tenant("acme"):
            sending = asyncio.create_task(runtime.send_message(Ask("x"), AgentId("asked", "k")))  # type: ignore[arg-type]
            await asyncio.sleep(0)
        waiting.dispatches(runtime)
        ((slot, since),) = waiting.on(asyncio.get_running_loop())
        assert slot == tenancy.TABLE.intern("acme").slot
        assert before <= since <= time.monotonic_ns()
        other = asyncio.new_event_loop()
        assert list(waiting.on(other)) == []
        other.close()
        sending.cancel()

    from instrumentation.testing import capture

    with capture():
        asyncio.run(main())


def test_runtimes_are_not_kept_alive() -> None:
    """A team makes a runtime of its own for every run."""
    waiting = Waiting()

    async def main() -> weakref.ref[SingleThreadedAgentRuntime]:
        runtime = SingleThreadedAgentRuntime()
        waiting.dispatches(runtime)
        return weakref.ref(runtime)

    gone = asyncio.run(main())
    gc.collect()
    assert gone() is None
    assert waiting._runtimes == {}


def test_a_queue_of_another_kind_costs_only_its_own_figures(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When AutoGen's queue cannot be read, the loop goes on being accounted."""
    monkeypatch.setattr("instrumentation.hooks.waiting.islice", None)
    asyncio.run(ask_at_once(("acme", "block"), ("globex", "x")))
    running = lifecycle.running()
    assert running is not None
    slot = tenancy.TABLE.intern("acme").slot
    assert running.loops.totals().active_ns[slot] >= HELD * 1e9
