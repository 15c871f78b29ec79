"""A whole application whose every text is a canary, and the bytes that leave it: none of them sings."""

from __future__ import annotations

import base64
import re

import pytest
from otlp_peers import running_upstream
from processes import run_python

# Where content can stand, but for the names of classes, agents, tools, models and services: those are the developer's,
# cut to 128 characters of a name's alphabet.
APPLICATION = """
    import asyncio, logging
    import instrumentation
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.conditions import TextMentionTermination
    from autogen_agentchat.teams import RoundRobinGroupChat
    from autogen_apps import Ask, Asked, Note, replaying, tool_call
    from autogen_core import (AgentId, DefaultInterventionHandler, DropMessage, SingleThreadedAgentRuntime, TopicId,
                              trace_invoke_agent_span, trace_tool_span)
    from autogen_core.memory import ListMemory, MemoryContent, MemoryMimeType
    from opentelemetry import baggage, context as otel, trace
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

    def canary(where):
        return f"canary-{where}-{CANARY}"

    TEXT = MemoryMimeType.TEXT

    class Hidden(Exception):
        pass

    async def lookup(argument: str) -> str:
        span = trace.get_current_span()
        span.set_attribute(canary("current-span-key"), canary("current-span-value"))
        span.add_event(canary("event"), {"x": canary("event-value")})
        span.update_name(canary("span-name")); span.record_exception(Hidden(canary("recorded")))
        span.set_status(trace.StatusCode.ERROR, canary("status"))
        return canary("tool-result")
    lookup.__doc__ = canary("tool-description")

    async def failing(argument: str) -> str:
        raise Hidden(canary("tool-error"))

    class Dropping(DefaultInterventionHandler):
        async def on_send(self, message, **_):
            if "drop" in message.text:
                return DropMessage
            if "fail" in message.text:
                raise Hidden(canary("handler-error"))
            return message

    async def main():
        token = otel.attach(baggage.set_baggage(canary("baggage-key"), canary("baggage-value")))
        remote = SpanContext(1 << 100, 1 << 50, True, TraceFlags(1), TraceState([("vendor", canary("tracestate"))]))
        otel.attach(set_span_in_context(NonRecordingSpan(remote)))
        with instrumentation.tenant("acme"):
            memory = ListMemory(canary("memory-name"), [MemoryContent(content=canary("memory"), mime_type=TEXT)])
            planner = AssistantAgent(
                "planner", replaying(tool_call("lookup", '{"argument": "' + canary("argument") + '"}'),
                                     tool_call("failing", '{"argument": "x"}'), *[canary("answer")] * 9),
                tools=[lookup, failing], memory=[memory], max_tool_iterations=3, description=canary("description"),
                system_message=canary("system"), metadata={canary("metadata"): canary("metadata")})
            invented = AssistantAgent("invented", replaying(tool_call(canary("tool-that-is-none"), canary("not json"))))
            team = RoundRobinGroupChat([planner, invented], max_turns=3, name=canary("team"),
                                       description=canary("team-description"),
                                       termination_condition=TextMentionTermination(canary("termination")))
            await asyncio.gather(team.run(task=canary("task")), return_exceptions=True)
            async for _ in planner.run_stream(task=canary("agent-task")):
                pass
            await team.load_state(await team.save_state())

            async def work(text):
                if "explode" in text:
                    raise Hidden(text, canary("error-argument"))
            runtime = SingleThreadedAgentRuntime(intervention_handlers=[Dropping()])
            await Asked.register(runtime, "asked", lambda: Asked(work=work))
            def unmakeable():
                raise Hidden(canary("factory"))
            await runtime.register_factory("unmakeable", unmakeable)
            runtime.start()
            for text in ("fine", "explode", "drop", "fail"):
                sending = runtime.send_message(Ask(canary(text)), AgentId("asked", canary("key")),
                                               message_id=canary("message-id"))
                await asyncio.gather(sending, return_exceptions=True)
            await runtime.publish_message(Note(canary("note")), TopicId("default", canary("topic-source")))
            await asyncio.gather(runtime.send_message(Ask("x"), AgentId("unmakeable", canary("key"))),
                                 runtime.send_message(Ask("x"), AgentId("asked", "k"),
                                                      sender=AgentId("nobody", canary("sender"))),
                                 return_exceptions=True)
            with trace_invoke_agent_span("named", agent_id=canary("agent-id"), agent_description=canary("d")) as span:
                span.set_attribute("x", canary("by-hand"))
            with trace_tool_span("named", tool_description=canary("d"), tool_call_id=canary("call-id")):
                pass
            await runtime.stop()
        with instrumentation.tenant(canary("bad\\ntenant")):
            await planner.run(task=canary("task"))

    logging.basicConfig(level=LEVEL, handlers=[logging.NullHandler()])
    instrumentation.start(service_name="canaries")
    asyncio.run(main())
    instrumentation.stop(10)
    print("done")
"""
CANARY = "Zq7x9Kd2mW"


@pytest.mark.parametrize("level", ["logging.WARNING", "logging.DEBUG"])
def test_no_canary_leaves(level: str) -> None:
    """Spans and metrics as they are on the wire, searched as bytes: plain, in base64, in hex, in UTF-16."""
    with running_upstream() as upstream:
        ran = run_python(
            f"CANARY = {CANARY!r}; import logging; LEVEL = {level}",
            APPLICATION,
            OTEL_EXPORTER_OTLP_ENDPOINT=upstream.url,
        )
        assert ran.stdout == "done\n", ran.stderr
        sent = b"\x00".join(payload for _, payload in upstream.requests)
        metadata = str(upstream.metadata)
    assert {signal for signal, _ in upstream.requests} == {"traces", "metrics"}
    assert sent.count(b"acme") > 50
    for name in (
        b"planner",
        b"lookup",
        b"failing",
        b"Hidden",
        b"execute_tool",
        b"chat",
        b"invoke_workflow",
        b"dropped",
    ):
        assert name in sent, name
    needles = [CANARY, CANARY.encode("utf-16-le").decode("latin-1"), CANARY.encode().hex(), "canary"]
    needles += [base64.b64encode(b" " * shift + CANARY.encode())[4:-4].decode() for shift in range(3)]
    for needle in needles:
        assert not re.search(re.escape(needle.encode("latin-1")), sent, re.IGNORECASE), needle
        assert needle not in metadata
    # The library's own log on standard error says no more than the wire; AutoGen's own lines may.
    ours = [line for line in ran.stderr.splitlines() if "logger=tenantscope" in line]
    assert ours
    assert not any(CANARY in line for line in ours)
