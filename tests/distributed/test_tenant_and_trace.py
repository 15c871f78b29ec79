"""Through AutoGen's distributed runtime, tenant, trace and budget go with every message, both ways."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from autogen_apps import Ask
from autogen_core import AgentId
from grid import PATIENCE, Desk, eventually, hosting, working
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from instrumentation import current_tenant, tenant
from instrumentation.testing import Captured


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


def points(captured: Captured, metric: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(str(v) for _, v in sorted((point.attributes or {}).items())): getattr(point, "value", None)
        or getattr(point, "count", 0)
        for point in captured.points(metric)
    }


def test_sends_and_events_carry_tenant_and_trace(captured: Captured) -> None:
    """Three tenants at once, through two workers and back, by calls and by events: each handler sees the sender's
    tenant, whoever started the workers, and each tenant's spans are one tree under the span that was current at the
    send."""
    own = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    heard: list[tuple[str, str | None]] = []
    roots: dict[str, trace.SpanContext] = {}

    async def one(worker: Any, who: str) -> None:
        with tenant(who), own.start_as_current_span("request") as span:
            roots[who] = span.get_span_context()
            answer = await worker.send_message(Ask(f"tell {who}"), AgentId("front", who))
            assert answer.tenant == who
            assert current_tenant() == who
            assert trace.get_current_span() is span

    async def main() -> None:
        async with (
            hosting() as address,
            working(address, started_as="starter", front=lambda: Desk(AgentId("back", "k"), heard=heard)) as first,
            working(address, started_as="starter", back=lambda: Desk(heard=heard)),
        ):
            await asyncio.gather(*[one(first, who) for who in ("acme", "globex", "initech")])
            await eventually(lambda: len(heard) == 3 * 3)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert Counter(heard) == Counter({(f"tell {who}", who): 3 for who in roots})
    spans = [span for span in captured.spans() if span.name.startswith("process")]
    for who, root in roots.items():
        mine = [span for span in spans if span.context.trace_id == root.trace_id]
        assert {attributes(span)["tenant.id"] for span in mine} == {who}
        ids = {span.context.span_id for span in mine} | {root.span_id}
        assert all(span.parent is not None and span.parent.span_id in ids for span in mine)
        # `front` of the note that it published itself, for that was another instance, and of `back`'s.
        assert Counter(span.name for span in mine) == {"process front": 3, "process back": 2}
