"""The handbook's patterns under three tenants at once: the right tenant, one tree a run, nothing private, and the same
results as without the library."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest
from autogen_apps import one_tree
from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock
from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from patterns import (
    PATTERNS,
    Pattern,
    agent_as_tool,
    code_execution,
    custom_agent,
    failing_tool,
    graph_flow,
    magentic_one,
    message_filter,
    selector,
    society_of_mind,
    team_as_tool,
    user_proxy,
)  # fmt: skip

from instrumentation import conventions, tenant
from instrumentation.testing import capture

TENANTS = ("acme", "globex", "initech")


def word(who: str) -> str:
    """The tenant's canary; letters only, so that nothing cuts or quotes it."""
    return f"CANARY{who}zq"


async def three_at_once(pattern: Pattern) -> list[list[str]]:
    async def one(who: str) -> list[str]:
        with tenant(who):
            return await pattern(word(who))

    return await asyncio.gather(*(one(who) for who in TENANTS))


@pytest.mark.filterwarnings("ignore:Using LocalCommandLineCodeExecutor")
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
def test_a_pattern_under_three_tenants(pattern: Pattern) -> None:
    """Every span has the tenant whose run it is of; each run is one tree; no canary is in anything that is emitted; the
    application's results are those of a run that nobody watched."""
    bare = asyncio.run(three_at_once(pattern))
    with capture() as captured:
        assert asyncio.run(three_at_once(pattern)) == bare
        spans = captured.spans()
        emitted = "".join(span.to_json() for span in spans)
        emitted += "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)
    for who, results in zip(TENANTS, bare, strict=True):
        assert word(who) in "".join(results), "the pattern does not use its word"
    assert "CANARY" not in emitted
    by_trace: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        by_trace[span.context.trace_id].append(span)
    owners = []
    for trace in by_trace.values():
        one_tree(trace)
        (owner,) = {(span.attributes or {})["tenant.id"] for span in trace}
        owners.append(owner)
    assert {who: owners.count(who) for who in TENANTS} == dict.fromkeys(TENANTS, PATTERNS[pattern])


def edges(pattern: Pattern) -> set[tuple[str | None, str]]:
    """(name of the parent, name) of every span of one run."""
    with capture() as captured, tenant("acme"):
        asyncio.run(pattern(word("acme")))  # type: ignore[arg-type]
        spans = captured.spans()
    names = {span.context.span_id: span.name for span in spans}
    return {(None if span.parent is None else names[span.parent.span_id], span.name) for span in spans}


@pytest.mark.parametrize(
    ("pattern", "edge"),
    [
        (agent_as_tool, ("execute_tool writer", "invoke_agent writer")),
        (team_as_tool, ("execute_tool writing_team", "invoke_workflow RoundRobinGroupChat")),
        (society_of_mind, ("invoke_agent society", "invoke_workflow RoundRobinGroupChat")),
        (society_of_mind, ("invoke_agent society", "chat unnamed")),
        (code_execution, ("invoke_agent runner", "execute_tool LocalCommandLineCodeExecutor")),
        (failing_tool, ("invoke_agent refused", "execute_tool refuse")),
        (selector, ("process SelectorGroupChatManager", "chat unnamed")),
        (magentic_one, ("process MagenticOneOrchestrator", "chat unnamed")),
        (user_proxy, ("invoke_agent user_proxy", "await_input user_proxy")),
        (message_filter, ("process filtered", "invoke_agent filtered")),
        (message_filter, ("invoke_agent filtered", "invoke_agent wrapped")),
        (message_filter, ("invoke_agent wrapped", "chat unnamed")),
        (custom_agent, ("process countdown", "invoke_agent countdown")),
        (graph_flow, ("process final", "invoke_agent final")),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.filterwarnings("ignore:Using LocalCommandLineCodeExecutor")
def test_where_things_hang(pattern: Pattern, edge: tuple[str, str]) -> None:
    """What an agent does hangs under its turn, an inner conversation under the call that holds it."""
    assert edge in edges(pattern)


@pytest.mark.filterwarnings("ignore:Using LocalCommandLineCodeExecutor")
def test_code_that_fails(tmp_path: Path) -> None:
    """Nobody raises; the span and the errors say so all the same."""

    async def main() -> int:
        executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
        code = CodeBlock(code="echo s3cr3t >&2; exit 3", language="sh")
        return (await executor.execute_code_blocks([code], CancellationToken())).exit_code

    with capture() as captured, tenant("acme"):
        assert asyncio.run(main()) == 3
        (span,) = captured.spans()
        assert span.name == "execute_tool LocalCommandLineCodeExecutor"
        assert (span.attributes or {})["error.type"] == "nonzero_exit"
        assert span.status.status_code is StatusCode.ERROR
        assert "s3cr3t" not in span.to_json()
        (point,) = captured.points("autogen.errors")
        assert (point.attributes or {})["error.type"] == "nonzero_exit"
