"""The main promise: who holds the loop is named while the loop is held, by another process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from instrumentation.loop import Loops
from sidecar.alerts import Alerts
from sidecar.watchdog import Watchdog

DEADLINE = 30.0
APPLICATION = Path(__file__).with_name("application.py")

Start = Callable[..., subprocess.Popen[str]]


@pytest.mark.parametrize("loop", ["", "uvloop:"])
@pytest.mark.parametrize("kind", ["sleep", "spin"])
def test_the_tenant_is_named_while_it_blocks(
    kind: str, loop: str, start: Start, inbox: Any, release: Path, watchdog: Watchdog, sample: Any, cells: Path
) -> None:
    """The alert arrives before anything could end the block, with tenant and stack; then it resolves, with victims."""
    application = start(loop + kind)

    firing = inbox.next()  # `release` does not exist: the code that is named is still in its loop
    assert not release.exists()
    assert firing.status == "firing"
    assert firing.labels == {
        "alertname": "EventLoopStalled",
        "tenant_id": "hooli",
        "service_name": "billing-agents",
        "instance": "instance-1",
    }
    assert firing.annotations["runbook_url"] == "https://runbooks.example/EventLoopStalled.md"
    assert sample("tenantscope_stall_active", tenant_id="hooli", service_name="billing-agents", instance="instance-1")
    (stall,) = watchdog.stalls()
    assert stall["active"]
    wait_until(lambda: watchdog.stalls()[0]["stack"])  # at the latest now, by the process that is blocked
    innermost = watchdog.stalls()[0]["stack"][-1]
    assert f"hold_by_{kind}" in "\n".join(watchdog.stalls()[0]["stack"]), innermost
    assert "instrumentation/loop" not in "\n".join(watchdog.stalls()[0]["stack"])
    (loop,) = watchdog.loops()
    assert loop["running"]["tenant"] == "hooli"

    release.touch()
    resolved = inbox.next()
    assert resolved.status == "resolved"
    assert resolved.fingerprint == firing.fingerprint
    assert resolved.starts_at == firing.starts_at
    assert {"acme", "globex", "initech"} <= set(resolved.annotations["victims"].split(", "))
    assert "hooli" not in resolved.annotations["victims"]
    assert f"hold_by_{kind}" in resolved.annotations["stack"]
    output, _ = application.communicate(timeout=DEADLINE)
    assert output == "done\n"
    assert application.returncode == 0
    wait_until(lambda: watchdog.loops() == [])
    assert list(cells.iterdir()) == []
    assert inbox.empty()
    assert sample("tenantscope_stalls_total", tenant_id="hooli") == 1
    assert sample("tenantscope_stall_seconds_total", tenant_id="hooli") > 0.1


def test_a_process_that_dies_in_the_middle_ends_its_stall(
    start: Start, inbox: Any, watchdog: Watchdog, sample: Any
) -> None:
    """SIGKILL during a block: the stall resolves and says why, the process is dead, its loop is watched no more."""
    application = start("sleep")
    assert inbox.next().status == "firing"

    application.kill()
    application.wait(DEADLINE)
    resolved = inbox.next()

    assert resolved.status == "resolved"
    assert "the process died" in resolved.annotations["summary"]
    dead = inbox.next()
    assert (dead.name, dead.status, dead.labels["tenant_id"]) == ("EventLoopDead", "firing", "unknown")
    assert "Tenant hooli had the loop" in dead.annotations["summary"]
    wait_until(lambda: watchdog.loops() == [])
    assert (
        sample("tenantscope_stall_active", tenant_id="hooli", service_name="billing-agents", instance="instance-1")
        is None
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_in_good_health_is_dead(
    how: signal.Signals, start: Start, inbox: Any, watchdog: Watchdog
) -> None:
    """It did not take its leave, and that is all that is said."""
    application = start("idle")
    wait_until(lambda: watchdog.loops())
    application.send_signal(how)
    application.wait(DEADLINE)
    dead = inbox.next()
    assert (dead.name, dead.status) == ("EventLoopDead", "firing")
    assert dead.labels["service_name"] == "billing-agents"
    assert dead.annotations["runbook_url"] == "https://runbooks.example/EventLoopDead.md"
    wait_until(lambda: watchdog.loops() == [])
    assert inbox.empty()


def test_a_process_that_ends_in_good_order_is_not_told_of(
    start: Start, inbox: Any, watchdog: Watchdog, release: Path
) -> None:
    """Its loop was closed: no alert, nothing under watch."""
    application = start("idle")
    wait_until(lambda: watchdog.loops())
    release.touch()
    output, _ = application.communicate(timeout=DEADLINE)
    assert (output, application.returncode) == ("done\n", 0)
    wait_until(lambda: watchdog.loops() == [])
    assert inbox.empty()


def test_a_process_that_is_stopped_for_a_while_is_told_of_as_such(
    start: Start, inbox: Any, watchdog: Watchdog, release: Path
) -> None:
    """SIGSTOP, long enough for a stall, in the middle of its work; SIGCONT: no tenant is blamed."""
    application = start("idle")
    wait_until(lambda: watchdog.loops() and watchdog.loops()[0]["tenants"])
    application.send_signal(signal.SIGSTOP)
    stopped = inbox.next()
    assert (stopped.name, stopped.status, stopped.labels["tenant_id"]) == ("EventLoopStopped", "firing", "unknown")
    wait_until(lambda: watchdog.loops()[0]["heartbeat_age_seconds"] > 0.5)
    application.send_signal(signal.SIGCONT)
    resolved = inbox.next()
    assert (resolved.name, resolved.status) == ("EventLoopStopped", "resolved")
    release.touch()
    application.communicate(timeout=DEADLINE)
    assert watchdog.stalls() == []
    assert inbox.empty()


def test_a_forked_child_is_watched_under_its_own_name(
    start: Start, inbox: Any, release: Path, watchdog: Watchdog, cells: Path
) -> None:
    """A child that accounts anew has a link and a cell of its own; its parent's stay as they are."""
    application = start("sleep", "fork")
    assert inbox.next().labels["tenant_id"] == "hooli"
    (stall,) = watchdog.stalls()
    assert stall["pid"] != application.pid
    assert {loop["pid"] for loop in watchdog.loops()} == {application.pid, stall["pid"]}
    release.touch()
    assert inbox.next().status == "resolved"
    output, _ = application.communicate(timeout=DEADLINE)
    assert output == "done\n"
    assert application.returncode == 0
    assert list(cells.iterdir()) == []


def test_a_sidecar_that_comes_late_or_never_changes_nothing(cells: Path, release: Path) -> None:
    """Without anybody at the endpoint the application does its work and exits."""
    release.touch()
    command = [sys.executable, str(APPLICATION), "http://127.0.0.1:9", str(cells), str(release), "sleep"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == "done\n"
    assert done.stderr.count("no watchdog at the endpoint") <= 1
    assert list(cells.iterdir()) == []


def test_a_sidecar_that_restarts_is_told_again(cells: Path, tmp_path: Path) -> None:
    """The link comes back by itself and announces every loop anew, over a Unix socket too."""
    endpoint = f"unix:{tmp_path}/sidecar.sock"
    loops = Loops(cells, "service", "instance", endpoint)
    loops.start()
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(asyncio.sleep(0))
        for _ in range(2):
            registry = CollectorRegistry()
            watchdog = Watchdog(100_000_000, Alerts([]), registry)
            server = grpc.server(ThreadPoolExecutor(4))
            watchdog.add_to(server)
            server.add_insecure_port(endpoint)
            watchdog.start()
            server.start()
            wait_until(lambda watchdog=watchdog: [told["loop_id"] for told in watchdog.loops()] == [1])
            server.stop(0).wait(DEADLINE)
            assert [told["loop_id"] for told in watchdog.loops()] == [1]  # the cell goes on telling
            watchdog.stop()
    finally:
        loop.close()
        loops.stop()


def wait_until(condition: Callable[[], object]) -> None:
    """Another process or thread has to come round to it; a deadline, no timing."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)
