"""Writes docs/coverage.md: what of AutoGen is seen, each statement with the test that proves it.

python -m docs.coverage            write it
python -m docs.coverage --check    exit 1 if it is not up to date, or names a test that is not there

A statement is the docstring of its test, so that what is claimed here is what is tested there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from docs.generated import page, write_or_compare
from docs.proofs import statements

TARGET: Final = Path(__file__).with_name("coverage.md")


@dataclass(frozen=True)
class Row:
    """One surface: files of `tests/` whose tests prove it (or `file::test` for one of them), and what is missing."""

    surface: str
    proofs: tuple[str, ...]
    not_covered: tuple[str, ...] = ()


ROWS: Final = (
    Row(
        "Model clients",
        (
            "model_clients/test_providers.py",
            "model_clients/test_calls_of_calls.py",
            "tracing/test_model_calls.py",
            "model_clients/test_semantic_kernel.py",
            "model_clients/test_llama_cpp.py",
        ),
        (
            "The tests of llama.cpp and semantic-kernel, and of ChromaDB below, run in `make test-heavy` alone.",
            "A stream that is no `AsyncGenerator`, as AutoGen declares it, has no span: it counts as `stream.foreign`.",
            "What agents ask a provider without a client of AutoGen's: of `OpenAIAgent` its turn is seen alone.",
        ),
    ),
    Row(
        "Tools, workbenches and MCP",
        ("tools/test_tools.py", "tools/test_mcp.py"),
        ("What AgentChat refuses to call, for no workbench has it or its arguments are no JSON: nothing was at work.",),
    ),
    Row("Memory", ("memories/test_memories.py",)),
    Row(
        "Runtime",
        ("runtime_surface/test_messages.py", "tenants/test_tenant_propagation.py", "waiting/test_waiting_messages.py"),
        ("Whose intervention handler lost a message is counted without the type of its exception (`_OTHER`).",),
    ),
    Row(
        "Distributed runtime",
        (
            "distributed/test_three_processes.py",
            "distributed/test_tenant_and_trace.py",
            "distributed/test_group_chat.py",
            "distributed/test_messages_of_workers.py",
            "distributed/test_believing.py",
            "distributed/test_same_results_of_workers.py",
        ),
        (
            "Time on the way between two machines: their clocks are not the same. Between processes of one it is told.",
            "Whether a handler in another process runs on after its caller gave up.",
            "Messages in gRPC's own buffers: while a worker's loop is held, they are nobody's that waits.",
            "What becomes of messages in a host that nobody watches. Workers in other languages carry no tenant.",
            "AgentChat's own teams do not run on it in AutoGen: what they send cannot be read back from the wire.",
        ),
    ),
    Row(
        "Agents and teams",
        ("agentchat/test_teams.py", "agentchat/test_patterns.py", "tracing/test_one_trace.py"),
        ("MagenticOne stops for reasons in the words of its model: but for `max_turns` they are all `manager`.",),
    ),
    Row(
        "State",
        ("states/test_states.py",),
        (
            "A state that holds more than plain values, 4 MiB or 20,000 values has neither size nor digest.",
            "Nothing links a team to the one whose state it loaded but the digest of that state.",
        ),
    ),
    Row(
        "Human in the loop",
        (
            "agentchat/test_teams.py::test_a_conversation_goes_on_in_a_later_run",
            "agentchat/test_teams.py::test_a_persons_time_is_apart",
            "agentchat/test_teams.py::test_a_person_who_does_not_answer",
        ),
        ("A conversation that goes on with another team object, after a restart say, has another id.",),
    ),
    Row(
        "The application's own logs",
        ("application_logs/test_application_logs.py",),
        ("The file of events holds what sampling keeps.",),
    ),
    Row(
        "Components",
        ("agentchat/test_patterns.py::test_a_pattern_under_three_tenants", "model_clients/test_components.py"),
        ("AutoGen Studio itself was not run: the test writes what Studio exports by hand.",),
    ),
    Row(
        "Metrics",
        ("tracing/test_metrics.py", "hostile_input/test_hostile_tenants.py"),
        ("Who comes first has figures of his own, not who is largest, and for the life of the process.",),
    ),
    Row(
        "Starting, sampling",
        ("exporting/test_zero_code.py", "sampling/test_sampling.py"),
    ),
    Row(
        "AutoGen as it was when this was written",
        ("drift/test_autogen_surface.py", "drift/test_agentchat_surface.py", "drift/test_distributed_surface.py"),
    ),
)


def lines() -> Iterator[str]:
    """The document."""
    yield "# What of AutoGen is seen"
    yield ""
    yield "Written by `docs/coverage.py`: every statement is what a test says that it holds. `make docs` renews it."
    for row in ROWS:
        yield ""
        yield f"## {row.surface}"
        yield ""
        for proof in row.proofs:
            for test, statement in statements(proof):
                yield f"- {test.rpartition('::')[2].removeprefix('test_').replace('_', ' ').capitalize()}: {statement}"
                yield f"  ([test](../tests/{test.partition('::')[0]}))"
        if row.not_covered:
            yield ""
            yield "Not covered:"
            yield ""
            for missing in row.not_covered:
                yield f"- {missing}"


if __name__ == "__main__":
    sys.exit(write_or_compare([(TARGET, page(lines()))]))
