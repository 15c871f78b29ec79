"""What each tracer says of the same small application: spans, whose they are, and which planted secrets are in them.

    python docs/moving/compare.py built-in | openinference | logfire | tenantscope

Each in an environment of its own that has the tracer and `autogen-agentchat autogen-ext` 0.7.5; all spans stay in
memory. Two tenants use one runtime, which is started while one of them is bound: a message to a core agent that sends
another one, a message that fails, and a team of AgentChat whose tool gets an argument. Secrets stand in messages,
arguments, answers, agent keys and the text of the exception. The tenant is named the way the tracer's own documentation
names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import AgentId, FunctionCall, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, rpc
from autogen_core.models import CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TENANTS = ("acme", "globex")
PLACES = ("message", "agent-key", "exception", "prompt", "argument", "result", "answer")
Spans = list[ReadableSpan]
Bound = Callable[[str], AbstractContextManager[object]]
Tracer = tuple[Bound, Callable[[], Spans]]


def secret(place: str, tenant: str) -> str:
    """What must not be found."""
    return f"planted-{place}-of-{tenant}"  # no word that a scrubber would know


@dataclass
class Order:
    """A message with content."""

    text: str
    fail: bool = False
    deeper: bool = False


class Clerk(RoutedAgent):
    """Asks another clerk, answers, or fails."""

    @rpc
    async def on_order(self, message: Order, ctx: MessageContext) -> str:  # noqa: ARG002
        """Handle one."""
        if message.fail:
            raise ValueError(message.text)
        if message.deeper:
            await self.send_message(Order(message.text), AgentId("clerk", "back-office"))
        return "done"


def team(tenant: str) -> RoundRobinGroupChat:
    """One agent with a tool, and a model that answers at once."""
    usage = RequestUsage(prompt_tokens=1, completion_tokens=1)
    call = FunctionCall(id="1", name="look_up", arguments=f'{{"what": "{secret("argument", tenant)}"}}')
    replies: list[CreateResult | str] = [
        CreateResult(finish_reason="function_calls", content=[call], usage=usage, cached=False),
        secret("answer", tenant),
    ]
    info = {
        "vision": False,
        "function_calling": True,
        "json_output": False,
        "family": "unknown",
        "structured_output": False,
    }
    model = ReplayChatCompletionClient(replies, model_info=info)  # type: ignore[arg-type]

    async def look_up(what: str) -> str:  # noqa: ARG001
        """A tool."""
        return secret("result", tenant)

    agent = AssistantAgent("analyst", model, tools=[look_up], reflect_on_tool_use=True)
    return RoundRobinGroupChat([agent], termination_condition=MaxMessageTermination(2))


async def application(bound: Bound) -> None:
    """Both tenants at the same time."""
    runtime = SingleThreadedAgentRuntime()
    await Clerk.register(runtime, "clerk", lambda: Clerk("a clerk"))
    with bound(TENANTS[0]):
        runtime.start()

    async def serve(tenant: str) -> None:
        with bound(tenant):
            key = secret("agent-key", tenant)
            await runtime.send_message(Order(secret("message", tenant), deeper=True), AgentId("clerk", key))
            with contextlib.suppress(ValueError):
                await runtime.send_message(Order(secret("exception", tenant), fail=True), AgentId("clerk", key))
            await team(tenant).run(task=secret("prompt", tenant))

    await asyncio.gather(*map(serve, TENANTS))
    await runtime.stop_when_idle()


def built_in() -> Tracer:
    """AutoGen's own: a provider is set, nothing else. It has no word for a tenant; the caller's span has it."""
    provider, memory = in_memory()
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("application")
    return (
        lambda tenant: tracer.start_as_current_span("request", attributes={"tenant.id": tenant}),
        lambda: list(memory.get_finished_spans()),
    )


def openinference() -> Tracer:
    """OpenInference's instrumentor for AgentChat, everything hidden that can be."""
    from openinference.instrumentation import TraceConfig, using_attributes
    from openinference.instrumentation.autogen_agentchat import AutogenAgentChatInstrumentor

    provider, memory = in_memory()
    trace.set_tracer_provider(provider)
    config = TraceConfig(hide_inputs=True, hide_outputs=True, hide_llm_invocation_parameters=True)
    AutogenAgentChatInstrumentor().instrument(tracer_provider=provider, config=config)
    return lambda tenant: using_attributes(user_id=tenant), lambda: list(memory.get_finished_spans())


def logfire() -> Tracer:
    """Logfire, which shows AutoGen's own spans; its scrubbing is on, the tenant is in its baggage."""
    import logfire as library

    memory = InMemorySpanExporter()
    library.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[SimpleSpanProcessor(memory)],
        add_baggage_to_attributes=True,
    )

    @contextlib.contextmanager
    def bound(tenant: str) -> Iterator[None]:
        with library.set_baggage(**{"tenant.id": tenant}), library.span("request"):
            yield

    return bound, lambda: list(memory.get_finished_spans())


def tenantscope() -> Tracer:
    """This project."""
    import instrumentation
    from instrumentation.testing import capture

    capturing = capture()
    captured = capturing.__enter__()

    def finished() -> Spans:
        spans = captured.spans()
        capturing.__exit__(None, None, None)
        return spans

    return instrumentation.tenant, finished


def in_memory() -> tuple[TracerProvider, InMemorySpanExporter]:
    """A provider whose spans stay here."""
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return provider, memory


TRACERS: dict[str, tuple[Callable[[], Tracer], str]] = {
    "built-in": (built_in, "autogen-core"),
    "openinference": (openinference, "openinference-instrumentation-autogen-agentchat"),
    "logfire": (logfire, "logfire"),
    "tenantscope": (tenantscope, "tenantscope"),
}


def texts(span: ReadableSpan) -> Iterator[tuple[str, str]]:
    """Everything in a span that could hold text, and where it stands."""
    yield "span names", span.name
    yield "statuses", span.status.description or ""
    for key, value in (span.attributes or {}).items():
        yield f"`{key}`", f"{key} {value}"
    for event in span.events:
        yield "events", f"{event.name} {dict(event.attributes or {})}"
    for link in span.links:
        yield "links", str(dict(link.attributes or {}))


def whose(span: ReadableSpan) -> str | None:
    """The tenant that a span says it is of."""
    attributes = span.attributes or {}
    found = attributes.get("tenant.id", attributes.get("user.id"))
    return None if found is None else str(found)


def truth(span: ReadableSpan) -> str | None:
    """The tenant whose secrets are in it, where there are any."""
    told = " ".join(text for _, text in texts(span))
    return next((tenant for tenant in TENANTS if f"-of-{tenant}" in told), None)


def main(name: str) -> None:
    """Run it and print what was found."""
    make, distribution = TRACERS[name]
    logging.disable(logging.CRITICAL)
    bound, finished = make()
    asyncio.run(application(bound))
    spans = [span for span in finished() if span.name != "request"]
    told = Counter("nobody" if whose(span) is None else str(whose(span)) for span in spans)
    wrong = sum(whose(span) not in (None, truth(span)) for span in spans if truth(span))
    print(f"{name}: {', '.join(f'{each} {version(each)}' for each in dict.fromkeys((distribution, 'autogen-core')))}")
    print(f"  spans {len(spans)}, in {len({span.context.trace_id for span in spans})} traces")
    print(
        f"  said to be of: {', '.join(f'{who} {count}' for who, count in told.most_common())}; certainly wrong: {wrong}"
    )
    for place in PLACES:
        found = Counter(where for span in spans for where, text in texts(span) if f"planted-{place}-" in text)
        print(
            f"  secrets of {place:10} {', '.join(f'{where} {count}' for where, count in found.most_common()) or 'none'}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in TRACERS:
        sys.exit(f"usage: python docs/moving/compare.py {' | '.join(TRACERS)}")
    main(sys.argv[1])
