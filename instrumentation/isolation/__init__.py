"""Findings: rules of tenant isolation that were seen broken.

One rule so far. `agent_shared`: one agent instance handled messages of more than one tenant, so that whatever it keeps
between messages (history, memory, a cache) is one tenant's to write and another's to read. Reported once an instance.
"""

from __future__ import annotations

from typing import Final

from autogen_core import AgentId

from instrumentation.telemetry.recorder import Recorder
from instrumentation.tenancy import UNKNOWN_SLOT, Tenant

AGENT_SHARED: Final = "agent_shared"
_MAX_AGENTS: Final = 10_000


class Isolation:
    """Remembers who an agent works for, for the first 10,000 agents of the process."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        # By identity: an agent hands out the same AgentId object all its life, and hashing one costs Python calls.
        # The id is kept beside the tenant, so that its address cannot come to mean another agent.
        self._first: dict[int, tuple[AgentId, Tenant | None]] = {}

    def handled(self, agent_id: AgentId, tenant: Tenant) -> None:
        """An agent is about to handle a message of this tenant's."""
        if tenant.slot == UNKNOWN_SLOT:
            return
        known = self._first.get(id(agent_id))
        if known is None:
            if len(self._first) < _MAX_AGENTS:
                self._first[id(agent_id)] = (agent_id, tenant)
        elif known[1] is not tenant and known[1] is not None:
            self._first[id(agent_id)] = (agent_id, None)
            self._recorder.finding(tenant.id, AGENT_SHARED)
