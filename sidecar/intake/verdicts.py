"""What becomes of an export, in words for every protocol: the one place where a verdict becomes a status.

| verdict | status | gRPC | HTTP | what OTLP exporters do |
| --- | --- | --- | --- | --- |
| taken, n records dropped by the policy | `ok` | OK | 200 | go on; `partial_success` has n |
| `Malformed` | `invalid_argument` | INVALID_ARGUMENT | 400 | drop, never retry |
| `Busy` | `unavailable` | UNAVAILABLE and RetryInfo | 503 and Retry-After | retry |
| any other exception | `internal` | INTERNAL | 500 | drop: what broke the redactor gets no second chance |
| the caller is no client | `unauthenticated` | UNAUTHENTICATED | 401 | drop, until they are configured |
| the request never ends | `cancelled` | CANCELLED | 408 | gRPC's retry |
| it is too large | `resource_exhausted` | RESOURCE_EXHAUSTED, by gRPC itself | 413 | drop |
| it is encoded as we do not read it | `unimplemented` | UNIMPLEMENTED, by gRPC itself | 415 | drop |

What it refuses: to read anything of a body before it is known who sends it, and to let anything of a request, its
metadata or an exception's text into an answer or the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from sidecar.conventions import Signal
from sidecar.ledger import Ledger
from sidecar.network.otlp import SERVICES
from sidecar.senders.clients import Unknown

from .admission import Admission, Busy, Malformed

MALFORMED: Final = "the request is not valid OTLP"
BUSY: Final = "nothing can be taken now, try again later"
UNAUTHENTICATED: Final = "no valid credentials"
FAULT: Final = "internal error"
INCOMPLETE: Final = "the request did not arrive in time"
TOO_LARGE: Final = "the request is larger than 4 MiB"
UNREADABLE: Final = "requests are protobuf, with gzip, zstd or as they are"
DROPPED: Final = "records dropped by the redaction policy"

log = structlog.get_logger("sidecar.intake")


class Refusal(Exception):  # noqa: N818  # a verdict, not an error
    """The export is not taken.

    Attributes:
        status: gRPC's word, in lower case; requests are counted by it.
        text: for the sender, one of a fixed set.
        reason: one of a fixed set of words, for the count.
        retry_after: seconds after which the sender should try again, if it should.
    """

    def __init__(self, status: str, text: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.text = text
        self.reason = reason
        self.retry_after = retry_after


def incomplete() -> Refusal:
    """The body did not arrive."""
    return Refusal("cancelled", INCOMPLETE, "incomplete")


def too_large() -> Refusal:
    """It is larger than a request may be, as it is or inflated."""
    return Refusal("resource_exhausted", TOO_LARGE, "too_large")


def unreadable() -> Refusal:
    """Nobody here reads this type, or this compression."""
    return Refusal("unimplemented", UNREADABLE, "unreadable")


class Verdicts:
    """Leads exports through the admission. Thread-safe.

    Args:
        ledger: counts the answers.
    """

    def __init__(self, admission: Admission, ledger: Ledger) -> None:
        self._admission = admission
        self._ledger = ledger
        self._reported: set[str] = set()

    def export(
        self,
        signal: Signal,
        shown: tuple[Sequence[str], Sequence[str]],
        peer: str,
        cut: Callable[[], object],
        receive: Callable[[], bytes],
    ) -> bytes:
        """The answer to one request, an OTLP response.

        Args:
            shown: authorizations of the caller, and names in its certificate. peer: its connection.
            cut: ends the request from another thread.
            receive: the body; may raise Malformed and Refusal.

        Raises:
            Refusal: it is not taken; that has been counted.
        """
        try:
            client = self._admission.identify(*shown)
            with self._admission.turn(client, peer, cut) as turn:
                request = receive()
                turn.read()
                dropped = self._admission.take(signal, request, client, turn)
        except Unknown:
            raise self._refused(signal, Refusal("unauthenticated", UNAUTHENTICATED, "unknown_client")) from None
        except Malformed as malformed:
            raise self._refused(signal, Refusal("invalid_argument", MALFORMED, malformed.reason)) from None
        except Busy as busy:
            raise self._refused(signal, Refusal("unavailable", BUSY, busy.reason, busy.retry_after)) from None
        except Refusal as refusal:
            self._refused(signal, refusal)
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, its text may hold content
            self._report(signal, type(error).__name__)
            raise self._refused(signal, Refusal("internal", FAULT, "fault")) from None
        self._ledger.answered(signal, "ok")
        return SERVICES[signal].partial_success(dropped, DROPPED)

    def _refused(self, signal: Signal, refusal: Refusal) -> Refusal:
        """Counted. Whoever raises it must not keep it in a variable: it would hold the frame that holds the body."""
        self._ledger.answered(signal, refusal.status, refusal.reason)
        return refusal

    def _report(self, signal: Signal, kind: str) -> None:
        """One line for each type of exception; the metric counts requests."""
        if kind not in self._reported:
            self._reported.add(kind)
            log.error("export failed", signal=signal, error=kind)
