"""A small watched application: one AutoGen runtime, one agent, one message for one tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

import instrumentation
from instrumentation import diagnostics

SERVICE = "tenantscope-doctor"
TENANT = "tenantscope-doctor"
_FAILURES = ("export.failed", "export.unencodable", "export.stopped", "export.dropped")


@dataclass
class Question:
    """What is sent; it stays in the process."""

    text: str = "how do you do?"


class Patient(RoutedAgent):
    """Answers."""

    def __init__(self) -> None:
        super().__init__("patient")

    @message_handler
    async def on_question(self, message: Question, ctx: MessageContext) -> Question:  # noqa: ARG002  # the form of a handler
        """Give the question back."""
        return message


def live(endpoint: str, seen: Callable[[], bool]) -> tuple[bool, dict[str, int]]:
    """Handle a message, watched, and keep the loop alive until `seen` is true or gives up.

    Returns:
        Whether it was; and what the library could not send, by reason.
    """
    before = diagnostics.counts()
    instrumentation.start(service_name=SERVICE, endpoint=endpoint)
    try:
        found = asyncio.run(_handle_one(seen))
        instrumentation.flush(5)
    finally:
        instrumentation.stop()
    after = diagnostics.counts()
    lost = {reason: after.get(reason, 0) - before.get(reason, 0) for reason in _FAILURES}
    return found, {reason: count for reason, count in lost.items() if count > 0}


async def _handle_one(seen: Callable[[], bool]) -> bool:
    runtime = SingleThreadedAgentRuntime()
    await Patient.register(runtime, "patient", Patient)
    runtime.start()
    with instrumentation.tenant(TENANT):
        await runtime.send_message(Question(), AgentId("patient", "default"))
    await runtime.stop_when_idle()
    return await asyncio.to_thread(seen)
