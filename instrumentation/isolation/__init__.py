"""Findings: rules of tenant isolation that were seen broken.

One rule so far. `agent_shared`: one agent instance handled messages of more than one tenant, so that whatever it keeps
between messages (history, memory, a cache) is one tenant's to write and another's to read. Reported once an instance.
"""

from __future__ import annotations

import weakref
from typing import Final

from instrumentation.telemetry.recorder import Recorder
from instrumentation.tenancy import TABLE, UNKNOWN_SLOT, Tenant

AGENT_SHARED: Final = "agent_shared"
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
                self._first[key] = (weakref.ref(agent, lambda _: self._first.pop(key, None)), tenant, False)
        elif not known[2] and known[1].name != tenant.name:
            self._first[key] = (known[0], known[1], True)  # reported
            self._recorder.finding(tenant.id, AGENT_SHARED)

    def first_tenant(self, agent: object) -> Tenant:
        """Whose message the agent handled first; `unknown` when it is not remembered."""
        known = self._first.get(id(agent))
        return TABLE.unknown if known is None or known[0]() is not agent else known[1]
