"""The kernel: all that the rest of the sidecar knows of redaction's machinery.

    kernel(signal, bytes, tenants, debtors) -> Redacted         or raises Malformed

A kernel is made for one policy and one master key, and is that for as long as it lives; another policy is another
kernel. Bytes of a request go in; bytes that may leave come out, with an account of the difference. Nothing else passes
between the two: no object of a request, no callback, no state. So a kernel can be in this process (`Redactor`), in
others (`sidecar.workers`), or one day in another language, and nobody who calls it has to change. Whoever makes one has
the tests of `tests/redaction` to pass, the reference redactor and a million messages among them.

What a kernel may never do: answer with anything of a request that its policy does not allow; name content in a reason,
in an error or in the log; raise anything but `Malformed` for what is in a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sidecar.conventions import Signal
from sidecar.senders.debtors import Debtors


class Malformed(ValueError):  # noqa: N818  # part of the contract with intake
    """The request is not OTLP, or too much of it; its text is a word (`wire`, `limits`, `error`), never content."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A request after redaction.

    Attributes:
        payload: an `Export*ServiceRequest` that may leave.
        records_in: spans, metric data points or log records that the request held.
        records_out: those of them that are in `payload`; the others are in `dropped`.
        dropped: whole records, by reason.
        actions: single values and parts that did not leave as they stood, by (what was done, reason).
        taken: by tenant, if it was asked whose the records are: those in `payload`, and bytes of them as they came.
        refused: by tenant: records that were dropped for the reason `quota`.
    """

    payload: bytes
    records_in: int
    records_out: int
    dropped: Mapping[str, int]
    actions: Mapping[tuple[str, str], int]
    taken: Mapping[bytes, tuple[int, int]] = field(default_factory=dict)
    refused: Mapping[bytes, int] = field(default_factory=dict)


class Kernel(Protocol):
    """Redacts requests by one policy. Thread-safe."""

    def redact(
        self,
        signal: Signal,
        payload: bytes,
        tenants: frozenset[str] | None = None,
        debtors: Debtors | None = None,
    ) -> Redacted:
        """What may leave of `payload`.

        Args:
            tenants: the ids that the sender may name; None when it may name all.
            debtors: the tenants whose records are not taken now; None when it does not matter whose they are.

        Raises:
            Malformed: the request cannot be read down to its records, or asks for more than one may (`bounds.py`);
                nothing of it may leave.
        """
