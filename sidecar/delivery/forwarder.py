"""The forwarder: one thread that hands the oldest batch to its destination until it is taken, refused or
given up.

A batch that was joined from several and is refused is taken apart first. One that is refused for what is in it is
halved until the records at fault stand alone: the others are taken. What is refused for good becomes a dead letter.

A destination that cannot take a batch now is asked again, for as long as it takes: the queue fills behind it,
the senders are put off, and nothing is lost without somebody being told. What is left at the end stays in the queue,
for the next process. What it refuses: to outlive its grace period, to skip a batch without a count, and to log anything
but reasons.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog

from sidecar.ledger import Account
from sidecar.network.backoff import Backoff
from sidecar.pulse import Pulse

from .batch import Batch, Destination, Refused, RetryLater
from .dead_letters import DeadLetters
from .halves import halves
from .outlet import Outlet

#: Back within 10 s of the destination.
BACKOFF: Final = Backoff(first=0.25, longest=5.0, longest_asked=30.0)
FAULT: Final = "delivery_fault"
#: Longer than an attempt and the longest wait after it take together.
PULSE_SECONDS: Final = 60.0
# Finds four bad records among 512. A destination that refuses everything must not cost a thousand calls for each batch.
MAX_HALVINGS: Final = 40
_JOIN_SECONDS: Final = 5.0

log = structlog.get_logger("sidecar.delivery")


class Forwarder:
    """Empties an outlet of the queue into its destination and settles each batch in the account.

    Args:
        name: of the destination, for the log. dead_letters: keeps what the destination refuses for good.
        pulse: is told of every attempt; None: nobody asks.
        wait: waits so many seconds or until the forwarder is to give up; True in that case. For tests.
    """

    def __init__(
        self,
        name: str,
        outlet: Outlet,
        destination: Destination,
        account: Account,
        dead_letters: DeadLetters,
        *,
        backoff: Backoff = BACKOFF,
        pulse: Pulse | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._outlet = outlet
        self._destination = destination
        self._account = account
        self._dead_letters = dead_letters
        self._backoff = backoff
        self._pulse = pulse or Pulse(PULSE_SECONDS)
        self._abandon = threading.Event()
        self._wait = wait or self._abandon.wait
        self._able = threading.Event()
        self._failures = 0
        self._refusal = ""
        self._log = log.bind(destination=name)
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    def start(self) -> None:
        """Begin; to be called once."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the destination took what it was last given, or answered when it was last probed."""
        return self._able.is_set() and self._thread.is_alive()

    def wait_until_ready(self, timeout: float) -> bool:
        """Wait until the destination has answered, at most `timeout` seconds."""
        return self._able.wait(timeout)

    def stop(self, grace: float) -> bool:
        """Deliver what is in the queue, which is closed, for `grace` seconds, and leave the rest in it.

        Returns:
            Whether the forwarder has let go of the queue.
        """
        if self._thread.ident is not None:
            self._thread.join(grace)
            self._abandon.set()
            if self._thread.is_alive():
                self._destination.close()  # ends the attempt that is in progress
            self._thread.join(_JOIN_SECONDS)
        self._able.clear()
        self._destination.close()
        return not self._thread.is_alive()

    # The thread ---------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            self._empty()
        except BaseException:
            self._pulse.lose()
            raise

    def _empty(self) -> None:
        while True:
            # Without work, a destination that is not known to be able is probed, so that readiness tells the
            # truth.
            self._pulse.rest()
            batch = self._outlet.head(None if self._able.is_set() else 0)
            self._pulse.beat()
            if batch is not None:
                if not self._settle(batch):
                    return
            elif self._outlet.closed:
                return
            elif not self._able.is_set():
                self._probe()

    def _probe(self) -> None:
        try:
            self._destination.probe()
        except RetryLater as later:
            self._put_off(later)
            # Waits for work as well as for time: a batch must not wait for a probe.
            self._outlet.head(self._backoff.delay(self._failures - 1))
        except Exception as error:  # noqa: BLE001  # a probe must not end the thread
            self._put_off(RetryLater(type(error).__name__))
            self._outlet.head(self._backoff.delay(self._failures - 1))
        else:
            self._works()

    def _settle(self, batch: Batch) -> bool:
        """Deliver the batch, part by part if need be; False when there is no time left for all of it."""
        parts, halvings = [batch], 0
        while parts:
            part = parts.pop()
            try:
                if not self._deliver(part):
                    return False
            except Refused as refusal:
                if self._outlet.separate():
                    return True  # whichever of them it was, the others have nothing to do with it
                both = halves(part) if refusal.divisible and halvings < MAX_HALVINGS else None
                if both is not None:
                    halvings += 1
                    parts += reversed(both)
                    continue
                self._refused(part, refusal.reason)
            self._outlet.partly_done(part.records)
        self._outlet.done()
        return True

    def _refused(self, part: Batch, reason: str) -> None:
        self._account.rejected(part.signal, part.records, reason)
        self._dead_letters.keep(part)
        if reason != self._refusal:  # the first of a row; the metric counts the others
            self._log.warning("batch refused", signal=part.signal, reason=reason, kept_in=self._dead_letters.path)
        self._refusal = reason

    def _deliver(self, batch: Batch) -> bool:
        """Deliver the batch, or a part of one; False when there is no time left for it. Raises Refused."""
        while not self._abandon.is_set():
            self._pulse.beat()
            try:
                refused = min(self._destination.deliver(batch), batch.records)
            except RetryLater as later:
                if self._abandon.is_set():
                    break
                self._account.retried()
                self._put_off(later)
                self._wait(self._backoff.delay(self._failures - 1, later.after))
            except Refused:
                self._works()
                raise
            except Exception as error:  # noqa: BLE001  # a fault of ours costs one batch, with a count
                self._account.dropped(batch.signal, batch.records, FAULT)
                self._log.error(
                    "delivery failed", signal=batch.signal, records=batch.records, error=type(error).__name__
                )
                return True
            else:
                self._account.forwarded(batch.signal, batch.records - refused, refused)
                self._refusal = ""
                self._works()
                return True
        return False

    def _put_off(self, later: RetryLater) -> None:
        if self._failures == 0:  # one line when it begins, one when it ends; the metric counts what is between
            self._log.warning("destination cannot take data, retrying", reason=later.reason)
        self._failures += 1
        self._able.clear()

    def _works(self) -> None:
        if self._failures:
            self._log.info("destination takes data again", attempts=self._failures)
        self._failures = 0
        self._able.set()
