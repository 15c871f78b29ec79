"""Whose word is taken for a tenant: of whoever has a key, for the tenants of that key, in the trace that was sealed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from autogen_apps import Ask
from autogen_core import AgentId
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, agent_worker_pb2_grpc
from grid import PATIENCE, Desk, eventually, hosting, working
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from instrumentation import diagnostics, tenancy, tenant
from instrumentation.hooks.passport import PassportAbroad
from instrumentation.hooks.tracestate import Wire
from instrumentation.peers import Key, Peers, load
from instrumentation.testing import Captured, capture

OURS, OLD, OTHERS = (Key(name.encode() * 32) for name in "nox")
SPAN = SpanContext(0x5EED, 0x5EED, False, TraceFlags(TraceFlags.SAMPLED))


class Nobody:
    """A process that finds nothing."""

    def forged(self) -> None:
        raise AssertionError


def sealed(peers: Peers, tenant_id: str, span: SpanContext = SPAN) -> dict[str, str]:
    """What a process with these keys sends along for a message of this tenant."""
    context = trace.set_span_in_context(NonRecordingSpan(span), Context())
    binding = tenancy.Binding(tenancy.TABLE.intern(tenant_id))
    return Wire(peers, Nobody()).write(PassportAbroad(binding, None, context, 1))  # type: ignore[arg-type]


async def stranger(address: str, metadata: Mapping[str, str], sender: str = "stranger", kind: str = "Ask") -> str:
    """Calls the agent `desk` as anybody can who reaches the host, with this metadata; the answer's text."""
    request = agent_worker_pb2.RpcRequest(
        request_id="1",
        target=agent_worker_pb2.AgentId(type="desk", key="k"),
        source=agent_worker_pb2.AgentId(type=sender, key="k"),
        metadata=dict(metadata),
        payload=agent_worker_pb2.Payload(data_type=kind, data=b'{"text": "x"}', data_content_type="application/json"),
    )
    async with grpc.aio.insecure_channel(address) as channel:
        stub = agent_worker_pb2_grpc.AgentRpcStub(channel)  # type: ignore[no-untyped-call]
        stream = stub.OpenChannel(metadata=[("client-id", "stranger")])
        await stream.write(agent_worker_pb2.Message(request=request))
        answer = await asyncio.wait_for(stream.read(), PATIENCE)
        stream.cancel()
        return answer.response.payload.data.decode()


def findings(captured: Captured) -> dict[tuple[str, str], float]:
    return {
        (about["tenant.id"], about["tenantscope.rule"]): point.value  # type: ignore[union-attr,misc,index]
        for point in captured.points("autogen.isolation.findings")
        for about in (point.attributes,)
    }


def received(metadata: Mapping[str, str], *keys: Key, **about: str) -> tuple[Any, dict[tuple[str, str], float]]:
    """The span of a handler of a process with these keys that got this metadata, and what it found."""

    async def main() -> None:
        async with hosting() as address, working(address, desk=Desk):
            await stranger(address, metadata, **about)

    with capture(peers=Peers(keys) if keys else None) as captured:
        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        (span,) = [span for span in captured.spans() if span.name.startswith("process")]
        return span, findings(captured)


def who(span: Any) -> str:
    return str(span.attributes["tenant.id"])


def test_what_a_key_sealed_is_believed() -> None:
    """The tenant, and the span above; the first key seals, every key is believed, so that one can replace another."""
    for theirs in (Peers((OURS,)), Peers((OLD, OURS))):
        span, found = received(sealed(theirs, "acme"), OURS, OLD)
        assert who(span) == "acme"
        assert span.parent is not None
        assert span.parent.span_id == SPAN.span_id
        assert span.context.trace_id == SPAN.trace_id
        assert found == {}


def changed(metadata: dict[str, str], old: str, new: str) -> dict[str, str]:
    assert old in metadata["tracestate"]
    return {**metadata, "tracestate": metadata["tracestate"].replace(old, new)}


OTHER_TRACE = SpanContext(0xBAD, 0x5EED, False, TraceFlags(TraceFlags.SAMPLED))
CLAIMS: dict[str, Callable[[], dict[str, str]]] = {
    "another key": lambda: sealed(Peers((OTHERS,)), "acme"),
    "no key of a file": lambda: sealed(Peers(), "acme"),
    "another tenant": lambda: changed(sealed(Peers((OURS,)), "acme"), ";acme;", ";globex;"),
    "another trace": lambda: {
        **sealed(Peers((OURS,)), "acme"), "traceparent": sealed(Peers((OURS,)), "acme", OTHER_TRACE)["traceparent"]
    },
    "no seal": lambda: {**sealed(Peers((OURS,)), "acme"), "tracestate": "tenantscope=1;acme;0;0;;;"},
    "another form": lambda: {**sealed(Peers((OURS,)), "acme"), "tracestate": "tenantscope=acme"},
    "a tenant that is none": lambda: {**sealed(Peers((OURS,)), "acme"), "tracestate": "tenantscope=1;%ff;0;0;;;x"},
}  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_no_key_sealed_is_not_believed(claim: str) -> None:
    """The message is handled for `unknown`, as AutoGen would; the claim is a finding, and is not repeated."""
    span, found = received(CLAIMS[claim](), OURS)
    assert who(span) == "unknown"
    assert found == {("unknown", "tenant_forged"): 1}


def test_a_key_speaks_for_its_tenants_alone() -> None:
    """A key that may speak for one tenant is not believed for another."""
    theirs = Peers((OLD,))
    edge = Key(OLD.secret, frozenset({"acme"}))
    assert who(received(sealed(theirs, "acme"), OURS, edge)[0]) == "acme"
    span, found = received(sealed(theirs, "globex"), OURS, edge)
    assert who(span) == "unknown"
    assert found == {("unknown", "tenant_forged"): 1}


def test_without_keys_nobody_else_is_believed() -> None:
    """A claim is `unknown` and counted, and no finding: nobody was given the means to prove it."""
    before = diagnostics.counts().get("peer.unknown", 0)
    span, found = received(sealed(Peers((OURS,)), "acme"))
    assert (who(span), found) == ("unknown", {})
    assert diagnostics.counts()["peer.unknown"] == before + 1


def test_a_message_that_claims_nothing() -> None:
    """From an application that nobody watches: `unknown`, no finding, and its trace goes on."""
    traceparent = sealed(Peers(), "acme")["traceparent"]
    span, found = received({"traceparent": traceparent, "tracestate": "vendor=x"}, OURS)
    assert (who(span), found) == ("unknown", {})
    assert span.context.trace_id == SPAN.trace_id
    span, found = received({}, OURS)
    assert (who(span), found, span.parent) == ("unknown", {}, None)


def test_the_names_of_a_stranger_do_not_leave() -> None:
    """He may call himself and his message what he likes; of both, nothing is told."""
    for metadata in ({}, sealed(Peers((OTHERS,)), "s3cr3t")):
        span, _ = received(metadata, OURS, sender="s3cr3t")
        assert "autogen.message.sender" not in (span.attributes or {})
        assert "s3cr3t" not in span.to_json()


def test_a_forged_tenant_takes_no_budget_along() -> None:
    """Nothing of an entry is believed that nobody vouches for, its budget included."""
    entry = "1;;0;0;;1/1/c;forged"
    span, _ = received({**sealed(Peers(), "acme"), "tracestate": f"tenantscope={entry}"}, OURS)
    assert (span.attributes or {})["autogen.message.outcome"] == "ok"


@pytest.mark.parametrize(("first", "second", "found"), [("acme", "globex", 1), ("acme", "acme", 0)])
def test_an_answer_to_somebody_elses_question(first: str, second: str, found: int) -> None:
    """AutoGen numbers a worker's calls from 1 on, and its host tells two workers' calls of one agent apart by nothing
    else: the second's caller gets the first's answer. That stays as it is, and is found where two tenants meet."""

    async def main() -> None:
        gates = {"one": asyncio.Event(), "two": asyncio.Event()}
        begun: list[str] = []

        async def waits(text: str) -> None:
            begun.append(text)
            await gates[text].wait()

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the host's, about the second answer
        async with (
            hosting() as address,
            working(address, desk=lambda: Desk(work=waits)),
            working(address) as one,
            working(address) as two,
        ):
            calls = []
            for worker, text, whose in ((one, "one", first), (two, "two", second)):
                with tenant(whose):
                    calls.append(asyncio.create_task(worker.send_message(Ask(text), AgentId("desk", text))))
                await eventually(lambda text=text: text in begun)
            gates["one"].set()
            assert (await calls[1]).text == "one"  # not what it asked
            gates["two"].set()
            calls[0].cancel()

    before = diagnostics.counts().get("answer.crossed", 0)
    with capture(peers=Peers((OURS,))) as captured:
        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert findings(captured) == ({("globex", "answer_crossed"): 1} if found else {})
    assert diagnostics.counts()["answer.crossed"] == before + 1


async def bare_worker(address: str, metadata: Mapping[str, str], registered: asyncio.Event) -> None:
    """Answers one call of the agent `bare` as a worker of AutoGen does that nobody watches, with this metadata."""
    about = [("client-id", "bare")]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = agent_worker_pb2_grpc.AgentRpcStub(channel)  # type: ignore[no-untyped-call]
        stream = stub.OpenChannel(metadata=about)
        await stream.wait_for_connection()
        await stub.RegisterAgent(agent_worker_pb2.RegisterAgentTypeRequest(type="bare"), metadata=about)
        registered.set()
        asked = await stream.read()
        payload = agent_worker_pb2.Payload(
            data_type="Ask", data=b'{"text": "answer"}', data_content_type="application/json"
        )
        answer = agent_worker_pb2.RpcResponse(
            request_id=asked.request.request_id, payload=payload, metadata=dict(metadata)
        )
        await stream.write(agent_worker_pb2.Message(response=answer))
        await stream.read()


@pytest.mark.parametrize(("marked", "found"), [(False, {}), (True, {("acme", "answer_crossed"): 1})])
def test_only_an_answer_that_says_whose_it_is_can_be_crossed(marked: bool, found: dict[tuple[str, str], int]) -> None:
    """A worker that nobody watches may answer in the trace in which it was started: that is no finding."""
    answered = sealed(Peers((OURS,)), "globex")
    metadata = answered if marked else {"traceparent": answered["traceparent"]}

    async def main() -> None:
        async with hosting() as address, working(address) as caller:
            registered = asyncio.Event()
            answering = asyncio.create_task(bare_worker(address, metadata, registered))
            await registered.wait()
            with tenant("acme"):
                answer = await caller.send_message(Ask("x"), AgentId("bare", "k"))
            assert answer.text == "answer"
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    with capture(peers=Peers((OURS,))) as captured:
        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert findings(captured) == found


def test_keys_come_from_the_file(tmp_path: Path) -> None:
    """What `load` reads is what is believed."""
    file = tmp_path / "keys"
    file.write_text(f"# new\n{'n' * 32}\n{'o' * 32} acme M%C3%BCller%20%26%20S%C3%B6hne\n")
    file.chmod(0o640)
    peers = load(file)
    span, _ = received(sealed(Peers((OLD,)), "Müller & Söhne"), *peers._keys)
    assert who(span) == "Müller & Söhne"
