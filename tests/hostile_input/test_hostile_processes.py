"""Strict interpreters, and processes that beget processes: the same output, and every process's own telemetry."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import Upstream, running_upstream
from processes import run_python

from instrumentation import conventions

SAMPLE = """
    import asyncio, logging, sys, warnings
    from autogen_apps import Ask, Asked, ask_runtime, two_agent_team
    from autogen_core import AgentId, CancellationToken

    def lookup() -> str:
        '''A tool.'''
        return "found"

    async def main():
        seen = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: seen.append(about["message"]))
        result = await two_agent_team(lookup).run(task="go")
        print([type(message).__name__ for message in result.messages], result.stop_reason)
        async for item in two_agent_team(lookup).run_stream(task="go"):
            print(type(item).__name__)
            if type(item).__name__ == "ToolCallExecutionEvent":
                break
        def fail(_):
            raise KeyError("handler")
        runtime = await ask_runtime(asked=Asked, failing=lambda: Asked(work=fail))
        runtime.start()
        for name in ("asked", "failing"):
            answers = await asyncio.gather(runtime.send_message(Ask("x"), AgentId(name, "k")), return_exceptions=True)
            print([getattr(answer, "text", repr(answer)) for answer in answers])
        token = CancellationToken()
        sending = asyncio.ensure_future(runtime.send_message(Ask("x"), AgentId("asked", "k"), cancellation_token=token))
        await asyncio.sleep(0)
        token.cancel()
        print((await asyncio.gather(sending, return_exceptions=True)))
        await runtime.stop()
        print(seen)
"""
WATCHED = "import instrumentation; instrumentation.start(service_name='strict')"
STRICT = ("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning")


@pytest.mark.parametrize("ending", ["asyncio.run(main())", "asyncio.run(main(), debug=True)"])
def test_a_strict_interpreter_finds_nothing(ending: str) -> None:
    """Development mode, warnings that are errors, asyncio's debug mode: the output is what it is without us."""
    bare = run_python(SAMPLE, ending, options=STRICT)
    watched = run_python(SAMPLE, WATCHED, ending, options=STRICT)
    assert bare.returncode == 0, bare.stderr
    assert (watched.returncode, watched.stdout) == (0, bare.stdout), watched.stderr
    # asyncio's debug mode tells how slow a step was: on a busy machine there are such steps, with us and without.
    bare_lines = [line for line in bare.stderr.splitlines() if not line.startswith("Executing <")]
    lines = [
        line
        for line in watched.stderr.splitlines()
        if "logger=tenantscope" not in line and not line.startswith("Executing <")
    ]
    assert [line for line in lines if "instrumentation" in line] == []
    assert len(lines) <= len(bare_lines) + 2, watched.stderr


APPLICATION = """
    import asyncio, multiprocessing, os, signal, sys, threading, time
    import instrumentation
    from autogen_apps import Ask, Asked, ask_runtime
    from autogen_core import AgentId

    async def work(n=1, name="asked"):
        runtime = await ask_runtime(**{name: Asked})
        runtime.start()
        with instrumentation.tenant("acme"):
            for _ in range(n):
                await runtime.send_message(Ask("x"), AgentId(name, "k"))
        await runtime.stop_when_idle()

    def child(n):
        asyncio.run(work(n, "child"))
"""


def spans_by_instance(upstream: Upstream) -> dict[str, list[str]]:
    """Names of the `process` spans that each process sent, by its instance id."""
    found: dict[str, list[str]] = {}
    for signal, payload in list(upstream.taken):
        if signal == "traces":
            for group in ExportTraceServiceRequest.FromString(payload).resource_spans:
                about = {a.key: a.value.string_value for a in group.resource.attributes}
                names = [span.name for scope in group.scope_spans for span in scope.spans if span.name[:7] == "process"]
                found.setdefault(about["service.instance.id"], []).extend(names)
    return found


def messages_by_instance(upstream: Upstream) -> dict[str, int]:
    """Messages that each process counted, by its instance id."""
    found: dict[str, int] = {}
    for signal, payload in list(upstream.taken):
        if signal == "metrics":
            for group in ExportMetricsServiceRequest.FromString(payload).resource_metrics:
                about = {a.key: a.value.string_value for a in group.resource.attributes}
                for metric in (metric for scope in group.scope_metrics for metric in scope.metrics):
                    if metric.name == conventions.MESSAGES.name:  # cumulative: the last one counts
                        found[about["service.instance.id"]] = sum(point.as_int for point in metric.sum.data_points)
    return found


PREFORK = """
    instrumentation.start(service_name="prefork")
    workers = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            asyncio.run(work(5, "child"))
            sys.exit(0)  # as gunicorn's workers do: atexit runs
        workers.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in workers] == [0, 0, 0]
    asyncio.run(work(2, "master"))
"""
MULTIPROCESSING = """
    from processes import spawned
    if __name__ == "__main__":
        instrumentation.start(service_name="multi")
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=child, args=(5,)) for _ in range(2)]
        where = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
        processes.append(multiprocessing.get_context("spawn").Process(target=spawned, args=(where,)))
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        asyncio.run(work(2, "master"))
"""


@pytest.mark.parametrize("code", [PREFORK, MULTIPROCESSING], ids=["prefork", "multiprocessing"])
def test_children_tell_of_themselves(code: str) -> None:
    """Children that are made before the master sends anything: each sends what it did under an id of its own, also one
    that ends at once."""
    with running_upstream() as upstream:
        ran = run_python(APPLICATION, code, OTEL_EXPORTER_OTLP_ENDPOINT=upstream.url)
        assert ran.returncode == 0, ran.stderr
        found = spans_by_instance(upstream)
    assert sorted(found.values()) == [["process child"] * 5] * 3 + [["process master"] * 2]
    # Each question is handled, and makes a note that nobody wants to have.
    assert messages_by_instance(upstream) == {instance: 2 * len(names) for instance, names in found.items()}


def test_forks_in_the_middle_of_everything() -> None:
    """Thirty children, forked while another thread sends messages and the exporter is at work.

    All of them work and end. None is watched, for gRPC must not be used there; the master is, as if nothing had been.
    """
    code = """
        instrumentation.start(service_name="forks")
        asyncio.run(work(1, "master"))
        assert instrumentation.flush(20)
        enough = threading.Event()
        def busy():
            while not enough.is_set():
                asyncio.run(work(20, "master"))
                instrumentation.flush(0)
        thread = threading.Thread(target=busy)
        thread.start()
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)
                asyncio.run(work(3, "child"))
                instrumentation.stop(10)
                os._exit(0)
            status = os.waitpid(pid, 0)[1]
            assert status == 0, status
        enough.set()
        thread.join()
    """
    with running_upstream() as upstream:
        ran = run_python(APPLICATION, code, OTEL_EXPORTER_OTLP_ENDPOINT=upstream.url, timeout=110)
        assert ran.returncode == 0, ran.stderr
        found = spans_by_instance(upstream).values()
    assert [set(names) for names in found] == [{"process master"}]


def test_a_child_that_is_forked_in_a_handler_ends_it() -> None:
    """While another thread of its parent's has the lock of the figures, which nobody gives back in the child."""
    code = """
        def hold():
            with instrumentation.lifecycle.running().accumulators.lock:
                held.set()
                enough.wait()

        def forks(_):
            thread = threading.Thread(target=hold)
            thread.start()
            held.wait()
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                sys.exit(0)  # out of the handler, and of all that is open around it
            status.append(os.waitpid(child, 0)[1])
            enough.set()
            thread.join()

        async def ask():
            runtime = await ask_runtime(forks=lambda: Asked(work=forks))
            runtime.start()
            await runtime.send_message(Ask("x"), AgentId("forks", "k"))
            await runtime.stop_when_idle()

        held, enough, status = threading.Event(), threading.Event(), []
        instrumentation.start(service_name="forks")
        asyncio.run(work(1, "master"))
        assert instrumentation.flush(20)
        asyncio.run(ask())
        assert status == [0], status
    """
    with running_upstream() as upstream:
        ran = run_python(APPLICATION, code, OTEL_EXPORTER_OTLP_ENDPOINT=upstream.url, timeout=60)
        assert ran.returncode == 0, ran.stderr
        found = [name for names in spans_by_instance(upstream).values() for name in names]
    assert found == ["process master", "process forks"]
