"""The redactor: the kernel (`kernel.py`) that works in this process, in Python.

Thread-safe: plans and rules are immutable, memos bear races, everything else belongs to one pass. It raises
`Malformed` and nothing else. Neither its errors nor its log nor its counts hold anything that was in a
request: reasons are words from a fixed set, and the log names types of exceptions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.conventions import Signal
from sidecar.senders.debtors import Debtors

from .bounds import TooMuch
from .gates import TENANT_KEY, UNLISTED, read_entry
from .kernel import Malformed, Redacted
from .plan import Planner
from .policy import Policy
from .pseudonyms import Pseudonyms
from .rows import RowsPass
from .rules import string_in
from .texts import REDACTED, Refused
from .wire_format import Broken, delimited

_MAX_REPORTED: Final = 32
MAX_FACES: Final = 8192  # some more than the tenants of one cell


def log_fault(kind: str) -> None:
    """A line in this process's log."""
    import structlog  # half of what a redaction worker would have in memory, for a line that is hardly ever written

    structlog.get_logger("tenantscope.redaction").error("redaction failed, what it failed on is dropped", error=kind)


class Redactor:
    """A `Kernel`.

    Args:
        policy: the rules.
        names: made from a master key. With them, tenants whose ids are masked stay apart: each mask ends in a tag of
            its own. Without, all that are masked for one reason share one mask, and overwrite each other's series;
            and what the policy says to hash or to pseudonymise is masked.
        log_fault: told of the type of an exception that there should not have been.
    """

    def __init__(
        self, policy: Policy, names: Pseudonyms | None = None, log_fault: Callable[[str], None] = log_fault
    ) -> None:
        self._planner = Planner(policy, names)
        self._plans = self._planner.requests()
        self._log_fault = log_fault
        self._reported: set[str] = set()
        self._faces: dict[str, str] = {}  # asked for at every look of people's, and a pseudonym takes 15 us

    def redact(
        self,
        signal: Signal,
        payload: bytes,
        tenants: frozenset[str] | None = None,
        debtors: Debtors | None = None,
    ) -> Redacted:
        """What may leave of `payload`; as `Kernel.redact`."""
        work = RowsPass(payload, self._report, tenants, debtors)
        try:
            allowed = work.run(self._plans[signal])
        except (Broken, Refused):
            raise Malformed("wire") from None
        except TooMuch:
            raise Malformed("limits") from None
        except Exception as error:  # noqa: BLE001  # whatever it is, nothing leaves, and nobody reads its text
            self._report(error)
            raise Malformed("error") from None
        return Redacted(
            allowed,
            work.records_in,
            work.records_out,
            dict(work.dropped),
            dict(work.actions),
            work.taken,
            dict(work.refused),
        )

    def tenant(self, tenant_id: str) -> str:
        """A tenant's id as telemetry shows it, for what reaches people by another way. `redacted` if it does not."""
        face = self._faces.get(tenant_id)
        if face is None:
            if len(self._faces) >= MAX_FACES:
                self._faces.clear()
            face = self._faces[tenant_id] = self._face(tenant_id)
        return face

    def _face(self, tenant_id: str) -> str:
        try:
            tenant = tenant_id.encode()
            tier = self._planner.membership.tier_of(tenant)
            planner = self._planner if tier is None else self._planner.tiers[tier]
            entry = delimited(1, TENANT_KEY) + delimited(2, delimited(1, tenant))
            _, masked = planner.attributes.judge(entry, 0, tenant)
            if masked is None:
                return tenant_id
            if masked == UNLISTED or isinstance(masked, str):
                return REDACTED.decode()
            return string_in(read_entry(masked.content)[1]).decode()
        except Exception:  # noqa: BLE001  # refused, or not even text
            return REDACTED.decode()

    def stands_apart(self, tenant_id: str) -> bool:
        """Whether no other tenant is shown as this one is, so that what is shown so is its own."""
        everybody = self._planner
        if any(planner.attributes.shortens(TENANT_KEY) for planner in (everybody, *everybody.tiers.values())):
            return False  # another tenant's id may begin as this one
        own = everybody.attributes.of_tenant(tenant_id.encode("utf-8", "replace"))
        return self.tenant(tenant_id) == tenant_id or own.tells_apart(TENANT_KEY)

    def _report(self, error: Exception) -> None:
        """Log an unexpected exception by type, once each: the counts say how often."""
        kind = type(error).__name__
        if kind not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported.add(kind)
            self._log_fault(kind)
