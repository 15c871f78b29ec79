"""Findings: rules of tenant isolation that were seen broken.

`agent_shared`: one agent instance handled messages of more than one tenant, so that whatever it keeps between messages
(history, memory, a cache) is one tenant's to write and another's to read. Reported once an instance.

`tenant_forged`: a message from another process claimed a tenant that none of our keys vouches for. It was handled for
`unknown`; the finding is that tenant's, for whoever claimed it is not known, and the claim is not repeated.

`answer_crossed`: a caller got the answer to somebody else's call. AutoGen's host tells calls of one worker to another
apart by a number that each caller counts for itself, so two callers' calls can have the same. Reported for the tenant
whose caller got it.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Final

from instrumentation.diagnostics import count
from instrumentation.telemetry.recorder import Recorder
from instrumentation.tenancy import TABLE, UNKNOWN_SLOT, Tenant

AGENT_SHARED: Final = "agent_shared"
TENANT_FORGED: Final = "tenant_forged"
ANSWER_CROSSED: Final = "answer_crossed"
_MAX_AGENTS: Final = 10_000


class Isolation:
    """Remembers who an agent works for, for 10,000 agents at a time, and only while they live."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        # By the instance, and not by its id: a runtime for each tenant has agents of the same ids. The reference keeps
        # none alive, and takes the entry out before the address can come to mean another agent.
        self._first: dict[int, tuple[weakref.ref[object], Tenant, bool]] = {}

    def handled(self, agent: object, tenant: Tenant) -> None:
        """An agent is about to handle a message of this tenant's."""
        if tenant.slot == UNKNOWN_SLOT:
            return
        key = id(agent)
        known = self._first.get(key)
        if known is None:
            if len(self._first) < _MAX_AGENTS:
                with suppress(TypeError):  # a class with slots, whose instances cannot be watched like that
                    self._first[key] = (weakref.ref(agent, lambda _: self._first.pop(key, None)), tenant, False)
        elif not known[2] and known[1].name != tenant.name:
            self._first[key] = (known[0], known[1], True)  # reported
            self._recorder.finding(tenant.id, AGENT_SHARED)

    def forged(self) -> None:
        """A message claimed a tenant, and was not believed though it could have proved it."""
        self._recorder.finding(TABLE.unknown.id, TENANT_FORGED)

    def crossed(self, caller: Tenant, other: Tenant | None) -> None:
        """A caller got an answer of another trace; `other`: whose, None when nobody vouches for that.

        Among calls of one tenant it is counted, and no finding: the answer is still the wrong one.
        """
        count("answer.crossed")
        if other is None or other.name != caller.name:
            self._recorder.finding(caller.id, ANSWER_CROSSED)

    def first_tenant(self, agent: object) -> Tenant:
        """Whose message the agent handled first; `unknown` when it is not remembered."""
        known = self._first.get(id(agent))
        return TABLE.unknown if known is None or known[0]() is not agent else known[1]
