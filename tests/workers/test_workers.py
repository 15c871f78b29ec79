"""Worker processes answer as the redactor in this process does, and one that fails costs nobody a record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from otlp_peers import PATIENCE, trace_request

from sidecar.redaction import Malformed, MasterKey, Policy, Pseudonyms, Redacted, Redactor
from sidecar.senders.debtors import Debtors
from sidecar.workers.member import Member
from sidecar.workers.pool import Unavailable, Workers

KEY = MasterKey("k7", bytes(range(32)))
REQUEST = trace_request(20, tenant="bob@example.com", message="a prompt")
POLICY = Policy.default()
IN_PROCESS = Redactor(POLICY, Pseudonyms(KEY))


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2)
    made.start()
    yield made
    made.stop()


def wait_until(what: Callable[[], bool]) -> None:
    by = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < by
        time.sleep(0.01)


def pids(workers: Workers) -> list[int]:
    """Of the free ones, the next to be asked last."""
    with workers._changed:
        return [member.pid for member in workers._free]


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: is_stopped(pid))


def is_gone(pid: int) -> bool:
    """Not even a zombie is left."""
    return not Path(f"/proc/{pid}").exists()


def replaced(workers: Workers) -> dict[str, float]:
    _, family = workers.collect()
    return {sample.labels["reason"]: sample.value for sample in family.samples}


def ready(workers: Workers) -> float:
    return next(iter(workers.collect())).samples[0].value


def test_answers_are_those_of_the_redactor(workers: Workers) -> None:
    """Bytes, counts, pseudonyms, what a sender may name, and what it is refused for."""
    kernel = workers.kernel(POLICY, KEY)
    assert kernel.redact("traces", REQUEST) == IN_PROCESS.redact("traces", REQUEST)
    harmless = trace_request(3)
    assert kernel.redact("traces", harmless).payload is harmless
    named = frozenset({"acme", "globex"})
    for tenant in ("acme", "initech"):
        request = trace_request(2, tenant=tenant)
        for debtors in (None, Debtors(frozenset()), Debtors(frozenset({b"acme"}))):
            assert kernel.redact("traces", request, named, debtors) == IN_PROCESS.redact(
                "traces", request, named, debtors
            )
    with pytest.raises(Malformed, match=r"^wire$"):
        kernel.redact("traces", b"\x0a\xff")
    with pytest.raises(Malformed, match=r"^limits$"):
        kernel.redact("traces", b"\x0a\x00" * 30_000)


def test_a_large_request_passes_and_comes_back(workers: Workers) -> None:
    """Larger by far than what a socket holds at once, either way."""
    request = trace_request(12_000)
    changed = trace_request(12_000, message="no")
    kernel = workers.kernel(POLICY, KEY)
    assert kernel.redact("traces", request).records_out == 12_000
    assert kernel.redact("traces", changed) == IN_PROCESS.redact("traces", changed)


def test_each_policy_is_its_own_kernel(workers: Workers) -> None:
    """More of them than a worker keeps, in turn: each answers by its own policy and key."""
    kernels = [
        (workers.kernel(policy, key), Redactor(policy, Pseudonyms(key)))
        for policy in (POLICY, Policy.load("strict"), Policy.load("genai"))
        for key in (KEY, MasterKey("k8", bytes(32)))
    ]
    for _ in range(2):
        for kernel, expected in kernels:
            assert kernel.redact("traces", REQUEST) == expected.redact("traces", REQUEST)


def test_a_worker_that_dies_over_a_request_is_replaced_and_the_request_redone(workers: Workers) -> None:
    """The request is with the worker when that is killed; its sender gets its answer all the same."""
    kernel = workers.kernel(POLICY, KEY)
    other, victim = pids(workers)
    freeze(victim)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(kernel.redact, "traces", REQUEST)
        wait_until(lambda: victim not in pids(workers))
        os.kill(victim, signal.SIGKILL)
        assert answer.result(PATIENCE) == IN_PROCESS.redact("traces", REQUEST)
    assert replaced(workers) == {"died": 1, "hung": 0}
    wait_until(lambda: ready(workers) == 2 and is_gone(victim))
    assert set(pids(workers)) > {other}


def test_a_worker_that_hangs_is_replaced_and_the_request_redone() -> None:
    """It is killed, so that its late answer can never be taken for another's."""
    workers = Workers(2, answer_seconds=2.0)
    workers.start()
    try:
        kernel = workers.kernel(POLICY, KEY)
        _, victim = pids(workers)
        freeze(victim)
        assert kernel.redact("traces", REQUEST) == IN_PROCESS.redact("traces", REQUEST)
        assert replaced(workers) == {"died": 0, "hung": 1}
        wait_until(lambda: ready(workers) == 2 and is_gone(victim))
    finally:
        workers.stop()


def test_a_request_that_ends_two_workers_is_put_off() -> None:
    """It is not passed, nor tried on a third; the next request finds new workers."""
    places, more = [None] * 3, threading.Event()

    def hire() -> Member:
        if not places:
            more.wait(PATIENCE)
        else:
            places.pop()
        return Member()

    workers = Workers(3, hire=hire)
    workers.start()
    try:
        kernel = workers.kernel(POLICY, KEY)
        spared, *victims = pids(workers)
        for victim in victims:
            freeze(victim)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(kernel.redact, "traces", REQUEST)
            for victim in reversed(victims):
                wait_until(lambda victim=victim: victim not in pids(workers))
                os.kill(victim, signal.SIGKILL)
            assert isinstance(answer.exception(PATIENCE), Unavailable)
        assert pids(workers) == [spared]
        more.set()
        wait_until(lambda: ready(workers) == 3)
        assert all(map(is_gone, victims))
        assert kernel.redact("traces", REQUEST) == IN_PROCESS.redact("traces", REQUEST)
    finally:
        more.set()
        workers.stop()


def test_one_that_dies_unasked_is_replaced(workers: Workers) -> None:
    """Nobody has to run into it."""
    victim = pids(workers)[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: is_gone(victim) and ready(workers) == 2)
    assert replaced(workers) == {"died": 1, "hung": 0}


def test_without_a_free_worker_a_request_is_put_off() -> None:
    """It waits as long as it would for an answer, and nothing of it passes."""
    workers = Workers(1, answer_seconds=0.2)
    workers.start()
    try:
        member = workers._take(time.monotonic() + PATIENCE)
        with pytest.raises(Unavailable):
            workers.kernel(POLICY, KEY).redact("traces", REQUEST)
        workers._give_back(member)
    finally:
        workers.stop()


def test_none_is_left_after_a_stop(workers: Workers) -> None:
    """Not even one that hangs; and nothing is redacted any more."""
    found = pids(workers)
    freeze(found[0])
    workers.stop()
    assert all(map(is_gone, found))
    assert not workers.ready
    with pytest.raises(Unavailable):
        workers.kernel(POLICY, KEY).redact("traces", REQUEST)


def test_workers_that_cannot_be_started_are_tried_again() -> None:
    """The system had no process to give; later it has."""
    refusals = [OSError(11, "no"), OSError(12, "no")]

    def hire() -> Member:
        if refusals:
            raise refusals.pop()
        return Member()

    workers = Workers(1, hire=hire)
    workers.start()
    try:
        assert workers.kernel(POLICY, KEY).redact("traces", REQUEST) == IN_PROCESS.redact("traces", REQUEST)
    finally:
        workers.stop()


def test_a_worker_has_in_memory_what_redaction_needs() -> None:
    """Neither the log, nor metrics, nor whatever speaks to others: with it, a worker would be half as large again."""
    others = [
        *("grpc", "structlog", "prometheus_client", "ssl", "asyncio"),
        *("sidecar.alerts", "sidecar.intake", "sidecar.delivery"),
    ]
    script = f"import sys, sidecar.workers.process; print([name for name in {others} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert ran.stdout.strip() == "[]", ran.stdout


def test_what_a_worker_has_to_say_is_a_line_in_the_log() -> None:
    """The log is set up when there is something for it, and says what happened and nothing of a request."""
    script = "from sidecar.workers.process import _log_fault; _log_fault('ZeroDivisionError')"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE)
    (line,) = ran.stderr.splitlines()
    assert "level=error" in line
    assert 'event="redaction failed, what it failed on is dropped" error=ZeroDivisionError' in line


def test_one_whose_answer_was_not_read_is_never_asked_again() -> None:
    """No memory for an answer: it would be taken for that to the next request, which is another sender's."""

    class Short(Member):
        """The first answer of a request of its comes when there is no room for it."""

        failing = True

        def redact(self, *asked: Any) -> Redacted:
            if not Short.failing:
                return super().redact(*asked)
            Short.failing = False
            received = self._link.receive

            def no_room(by: float | None = None) -> tuple[int, list[bytes]]:
                raise MemoryError

            self._link.receive = no_room  # type: ignore[method-assign]
            try:
                return super().redact(*asked)
            finally:
                self._link.receive = received  # type: ignore[method-assign]

    workers = Workers(1, hire=Short)
    workers.start()
    try:
        kernel = workers.kernel(POLICY, KEY)
        with pytest.raises(MemoryError):
            kernel.redact("traces", trace_request(3, tenant="globex"))
        assert kernel.redact("traces", REQUEST) == IN_PROCESS.redact("traces", REQUEST)
    finally:
        workers.stop()
