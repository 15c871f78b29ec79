"""The workers together: whose turn it is, what becomes of a request whose worker fails, and who takes its place.

One request is with one worker at a time, and whoever waits for it has one of intake's places, so what is under way is
bounded by them. A worker that dies or does not answer in time is replaced, and its request is given to another, once: a
request that ends two workers is put off, not tried on all of them. A request waits for a free worker as long as it
would for an answer, then it is put off too.

What it refuses: to let anything pass that no worker has redacted. Without workers nothing is taken.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import structlog
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from sidecar import conventions
from sidecar.configuration.settings import ConfigurationError
from sidecar.conventions import Signal
from sidecar.network.backoff import Backoff
from sidecar.redaction import Kernel, Malformed, MasterKey, Policy, Redacted
from sidecar.senders.debtors import Debtors

from .member import Member, Version
from .messages import Ended

KEY: Final = "TENANTSCOPE_WORKERS"
#: Half of the time after which exporters give a request up: it can be tried twice. The largest that `bounds.py` lets
#: through takes a tenth of it on an idle machine.
ANSWER_SECONDS: Final = 4.0
START_SECONDS: Final = 30.0
ATTEMPTS: Final = 2
DIED, HUNG = "died", "hung"
_LOOK_SECONDS: Final = 1.0
_BACKOFF: Final = Backoff(first=0.1, longest=5.0, longest_asked=5.0)

log = structlog.get_logger("sidecar.workers")


class Unavailable(Exception):  # noqa: N818  # a verdict, not an error
    """No worker could be had for the request, or two have failed on it; nothing of it leaves, the sender may retry."""


class Workers(Collector):
    """Worker processes, always so many. Thread-safe; a collector of `prometheus_client`.

    Args:
        count: at least 1.
        answer_seconds: how long a request may take.
    """

    def __init__(
        self, count: int, *, answer_seconds: float = ANSWER_SECONDS, hire: Callable[[], Member] = Member
    ) -> None:
        self._count = count
        self._answer_seconds = answer_seconds
        self._hire = hire
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._free: list[Member] = []
        self._all: set[Member] = set()
        self._fallen: list[Member] = []  # to be buried by the keeper
        self._replaced: Counter[str] = Counter({DIED: 0, HUNG: 0})
        self._failures = 0  # in a row, without a request that was answered in between
        self._stopping = False
        self._keeper = threading.Thread(target=self._keep, name="workers", daemon=True)

    def kernel(self, policy: Policy, key: MasterKey | None) -> Kernel:
        """The kernel of a policy, run by the workers. It raises `Unavailable`, too."""
        return _Pooled(self, Version(next(self._numbers), policy, key))

    # Life ---------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start them; returns when all are there.

        Raises:
            ConfigurationError: they don't start. Nothing is left running then.
        """
        self._keeper.start()
        with self._changed:
            ready = self._changed.wait_for(lambda: len(self._free) == self._count, START_SECONDS)
        if not ready:
            self.stop()
            raise ConfigurationError(f"{KEY}: no worker process starts")

    def stop(self) -> None:
        """End them, those that are at work too. Idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._keeper.ident is not None:
            self._keeper.join()

    @property
    def ready(self) -> bool:
        """Whether there is one."""
        with self._changed:
            return bool(self._all) and not self._stopping

    # Requests -----------------------------------------------------------------------------------------------
    def redact(
        self,
        version: Version,
        signal: Signal,
        payload: bytes,
        tenants: frozenset[str] | None,
        debtors: Debtors | None,
    ) -> Redacted:
        """The answer of a worker. Raises `Malformed` and `Unavailable`."""
        for _ in range(ATTEMPTS):
            by = time.monotonic() + self._answer_seconds
            member = self._take(by)
            try:
                redacted = member.redact(version, signal, payload, tenants, debtors, by)
            except Ended:
                self._lose(member, DIED)
            except TimeoutError:
                self._lose(member, HUNG)
            except Malformed:
                self._give_back(member)
                raise
            except BaseException:
                # Its answer may be on the way, and would be taken for that to the next request.
                self._lose(member, DIED)
                raise
            else:
                self._give_back(member)
                return redacted
        raise Unavailable

    def _take(self, by: float) -> Member:
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._stopping, max(0.0, by - time.monotonic()))
            if self._stopping or not self._free:
                raise Unavailable
            return self._free.pop()  # the last that came back: its memory is warm

    def _give_back(self, member: Member) -> None:
        with self._changed:
            self._failures = 0
            self._free.append(member)
            self._changed.notify_all()

    def _lose(self, member: Member, why: str) -> None:
        with self._changed:
            self._replaced[why] += 1
            self._failures += 1
            self._all.discard(member)
            self._fallen.append(member)
            self._changed.notify_all()
        log.error("a redaction worker is replaced", reason=why, worker=member.pid)

    # The keeper ---------------------------------------------------------------------------------------------
    def _keep(self) -> None:
        """Workers end with the thread that made them, so one thread makes them all."""
        while not self._stopping:
            self._bury(0.0)
            with self._changed:
                missing, failures = self._count - len(self._all), self._failures
            if missing:
                # One that falls at once, again and again, must not cost a core.
                self._pause(_BACKOFF.delay(failures - 1) if failures else 0.0)
                if not self._stopping:
                    self._add(missing)
            else:
                self._pause(_LOOK_SECONDS)
                self._look()
        with self._changed:
            self._fallen += self._all
            self._all.clear()
            self._free.clear()
        self._bury(1.0)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or bool(self._fallen), seconds)

    def _bury(self, grace: float) -> None:
        with self._changed:
            fallen, self._fallen = self._fallen, []
        for member in fallen:
            member.dismiss(grace)

    def _add(self, missing: int) -> None:
        hired = []
        try:
            hired += [self._hire() for _ in range(missing)]
        except OSError as error:
            log.error("a redaction worker cannot be started", error=type(error).__name__)
            with self._changed:
                self._failures += 1
        for member in hired:
            started = member.greet(START_SECONDS)
            with self._changed:
                if started:
                    self._all.add(member)
                    self._free.append(member)
                else:
                    self._failures += 1
                    self._fallen.append(member)
                self._changed.notify_all()

    def _look(self) -> None:
        """Those that died while nobody asked them."""
        with self._changed:
            dead = [member for member in self._free if not member.alive]
            self._free = [member for member in self._free if member not in dead]
        for member in dead:
            self._lose(member, DIED)

    # What an operator asks ----------------------------------------------------------------------------------
    def collect(self) -> Iterator[Family]:
        """For `/metrics`."""
        ready, replaced = conventions.WORKERS.family(), conventions.WORKERS_REPLACED.family()
        with self._changed:
            ready.add_metric((), len(self._all))
            for why, count in self._replaced.items():
                replaced.add_metric((why,), count)
        yield from (ready, replaced)


class _Pooled:
    """A `Kernel` of the workers."""

    def __init__(self, workers: Workers, version: Version) -> None:
        self._workers = workers
        self._version = version

    def redact(
        self,
        signal: Signal,
        payload: bytes,
        tenants: frozenset[str] | None = None,
        debtors: Debtors | None = None,
    ) -> Redacted:
        """As `Kernel.redact`. Raises `Unavailable`, too."""
        return self._workers.redact(self._version, signal, payload, tenants, debtors)
