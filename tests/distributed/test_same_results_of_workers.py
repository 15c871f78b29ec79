"""A distributed application does the same with us, without us, and with every hook of ours broken; and AutoGen is
afterwards what it was before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import autogen_ext.runtimes.grpc._worker_runtime as worker_module
import autogen_ext.runtimes.grpc._worker_runtime_host_servicer as host_module
import pytest
from autogen_apps import Ask, Note
from autogen_core import AgentId
from autogen_core._runtime_impl_helpers import SubscriptionManager
from grid import TOPIC, Desk, eventually, hosting, working
from sabotage import broken, outcome

from instrumentation import peers, tenant
from instrumentation.hooks import arrival, host, passport, runtime, tracestate, worker
from instrumentation.isolation import Isolation
from instrumentation.telemetry import recorder, spans
from instrumentation.testing import capture

OWNERS = (
    worker_module, worker_module.GrpcWorkerAgentRuntime, host_module, host_module.GrpcWorkerAgentRuntimeHostServicer,
    SubscriptionManager,
)  # fmt: skip


async def everything() -> list[str]:
    """One of each thing that a distributed application does; returns what it saw."""
    heard: list[tuple[str, str | None]] = []
    complaints: list[str] = []

    async def work(text: str) -> None:
        if "fail" in text:
            raise LookupError("no")

    def unmade() -> Desk:
        raise RuntimeError("no agent")

    def complain(_: Any, about: dict[str, Any]) -> None:
        complaints.append(f"{type(about.get('exception')).__name__}: {about.get('exception')}")

    asyncio.get_running_loop().set_exception_handler(complain)
    async with (
        hosting() as address,
        working(address, front=lambda: Desk(deeper=AgentId("back", "k"), heard=heard)) as first,
        working(address, back=lambda: Desk(work=work, heard=heard)) as second,
    ):
        await second.register_factory("broken", unmade)
        with tenant("acme"):
            results = [
                await outcome(first.send_message(Ask("tell"), AgentId("front", "k"))),
                await outcome(first.send_message(Ask("fail"), AgentId("back", "k"))),
                await outcome(first.send_message(Ask("fail"), AgentId("front", "k"), sender=AgentId("front", "k"))),
                await outcome(first.send_message(object(), AgentId("back", "k"))),
                await outcome(first.publish_message(Note("told"), TOPIC)),
                await outcome(first.publish_message(Note("fail"), TOPIC, sender=AgentId("front", "k"))),
                await outcome(first.publish_message(object(), TOPIC)),
            ]
            for gone in ("nobody", "broken"):
                call = asyncio.create_task(first.send_message(Ask("x"), AgentId(gone, "k")))
                await asyncio.sleep(0)
                if gone == "broken":
                    await eventually(lambda: complaints)
                call.cancel()
                results.append(await outcome(call))
        await eventually(lambda: len(heard) >= 4)
    return [line.replace("'acme'", "?").replace("None", "?") for line in results] + sorted(
        [text for text, _ in heard] + complaints[:1]
    )


@pytest.fixture(scope="module")
def bare() -> list[str]:
    return asyncio.run(everything())


def test_watched_results_are_the_bare_results(bare: list[str]) -> None:
    """Answers, exceptions, what is heard, and what asyncio is told of tasks that failed, to the letter."""
    with capture():
        assert asyncio.run(everything()) == bare
    assert len(bare) > 10


BREAKABLE: list[tuple[Any, str]] = [
    (tracestate.Wire, "write"), (tracestate.Wire, "read"), (tracestate.Wire, "answer"), (tracestate, "clock_id"),
    (peers.Peers, "seal"), (peers.Peers, "whose"), (worker, "about_handling"), (worker, "known_sender"),
    (worker, "issue_passport"), (worker, "DELIVERING"), (worker, "of_event"), (worker, "of_request"),
    (arrival.Arrival, "__init__"), (passport.Awaited, "put"), (passport.Awaited, "get"),
    (passport.Passport, "__init__"), (passport.PassportAbroad, "give_up"), (runtime.TraceTap, "process"),
    (runtime.TraceTap, "create"), (runtime.TraceTap, "answered"), (host, "of_event"), (host, "_tenant"),
    (host.Host, "_undeliverable"), (host.Host, "_unhandled"), (host.Host, "_failed"), (worker.Worker, "changes"),
    (host.Host, "changes"), (Isolation, "handled"), (recorder.Recorder, "lost_message"), (recorder.Recorder, "scope"),
    (recorder.Recorder, "error"), (spans.SpanFactory, "open"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), BREAKABLE, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_hook_changes_nothing(bare: list[str], owner: Any, name: str) -> None:
    """Each piece of ours made to raise, one at a time: the application's results stay the same."""
    with broken(owner, name), capture():
        found = asyncio.run(everything())
    assert found == bare


def test_autogen_is_as_it_was() -> None:
    """Same names, same objects, in modules and classes, after the watching has ended."""

    def snapshot() -> list[dict[str, object]]:
        return [dict(vars(owner)) for owner in OWNERS]

    def same(one: list[dict[str, object]], other: list[dict[str, object]]) -> bool:
        ignored = ("__weakref__", "_abc_impl", "__annotations__", "__abstractmethods__", "__parameters__")
        return all(
            old.keys() == new.keys() and all(old[key] is new[key] for key in old if key not in ignored)
            for old, new in zip(one, other, strict=True)
        )

    before = snapshot()
    with capture():
        assert not same(before, snapshot())
    assert same(before, snapshot())


LATE = """
import asyncio, sys
from instrumentation import tenant
from instrumentation.testing import capture

with capture() as captured:
    assert "autogen_ext.runtimes.grpc" not in sys.modules
    from grid import AgentId, Ask, Desk, hosting, working

    async def main():
        async with hosting() as address, working(address, desk=Desk) as worker:
            with tenant("acme"):
                print((await worker.send_message(Ask("x"), AgentId("desk", "k"))).tenant)

    asyncio.run(main())
    print(*[span.name for span in captured.spans()])
"""


def test_a_runtime_that_is_imported_after_start() -> None:
    """The library looks at it when the first worker or host is made."""
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here.parent.parent, here.parent, here)))
    ran = subprocess.run(
        [sys.executable, "-c", LATE],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert ran.stdout.split("\n")[:2] == ["acme", "create_agent desk process desk"], ran.stderr


def test_logs_are_autogens_alone(caplog: pytest.LogCaptureFixture) -> None:
    """An application that reads AutoGen's log finds as many lines as without us, from the same places."""

    async def main() -> None:
        async with hosting() as address, working(address, desk=Desk) as worker:
            with contextlib.suppress(Exception):
                await worker.send_message(Ask("x"), AgentId("desk", "k"))

    def lines() -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            asyncio.run(main())
        return sorted(f"{record.name} {record.levelname} {record.module} {record.lineno}" for record in caplog.records)

    without = lines()
    with capture():
        assert lines() == without
    assert without
