"""What the runtimes hold at this moment: messages in their queues, calls that another process owes an answer to, agents
that they keep. Read in the export thread.

The queue and the table of agents are AutoGen's own and are read where they are, so that nothing needs to be counted on
the way, and nothing is left over when a runtime throws its queue away. Each reading copies at most `_LIMIT` entries of
a runtime in one step of the interpreter; what is beyond counts as `other`.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any, Final

from instrumentation import tenancy
from instrumentation.activity import name_of
from instrumentation.diagnostics import fault
from instrumentation.isolation import Isolation

from .passport import Awaited, Passport
from .waiting import Waiting, queue_of

_LIMIT: Final = 20_000
#: Pairs of tenant and agent type that have a figure of their own; the rest counts for its tenant.
_MAX_PAIRS: Final = 2_000
Figures = dict[tuple[str | None, ...], int]


class Census:
    """Reads all runtimes that dispatch. A figure that has come down to nothing is told once more, as 0."""

    def __init__(self, waiting: Waiting, isolation: Isolation, awaited: Awaited) -> None:
        self._waiting = waiting
        self._awaited = awaited
        self._isolation = isolation
        self._queued: Figures = {}
        self._owed: Figures = {}
        self._agents: Figures = {}

    def queued(self) -> Figures:
        """Messages and responses in the queues, by (tenant,). Never raises."""
        found: Counter[tuple[str | None, ...]] = Counter()
        for runtime in self._waiting.runtimes():
            try:
                _count_messages(queue_of(runtime), found)
            except Exception as error:
                fault("census.queue", error)
        before, self._queued = self._queued, dict(found)
        return dict.fromkeys(before, 0) | found

    def awaited(self) -> Figures:
        """Calls that another process owes an answer to, by (tenant,). Never raises."""
        found: Counter[tuple[str | None, ...]] = Counter()
        for passport in self._awaited.passports():
            found[passport.tenant.id,] += 1
        before, self._owed = self._owed, dict(found)
        return dict.fromkeys(before, 0) | found

    def agents(self) -> Figures:
        """Agents that the runtimes keep, by (tenant whose message each handled first, agent type). Never raises."""
        found: Counter[tuple[str | None, ...]] = Counter()
        for runtime in self._waiting.runtimes():
            try:
                _count_agents(runtime._instantiated_agents, self._isolation, found)  # noqa: SLF001
            except Exception as error:
                fault("census.agents", error)
        before, self._agents = self._agents, dict(found)
        return dict.fromkeys(before, 0) | found


def _count_messages(messages: Any, found: Counter[tuple[str | None, ...]]) -> None:
    for envelope in list(islice(messages, _LIMIT)):
        passport = envelope.metadata
        tenant = passport.tenant if type(passport) is Passport else tenancy.TABLE.unknown
        found[tenant.id,] += 1
    if len(messages) > _LIMIT:
        found[tenancy.TABLE.other.id,] += len(messages) - _LIMIT


def _count_agents(kept: Any, isolation: Isolation, found: Counter[tuple[str | None, ...]]) -> None:
    for agent_id, agent in list(islice(kept.items(), _LIMIT)):
        tenant = isolation.first_tenant(agent).id
        pair = (tenant, name_of(agent_id.type))
        found[pair if pair in found or len(found) < _MAX_PAIRS else (tenant, None)] += 1
    if len(kept) > _LIMIT:
        found[tenancy.TABLE.other.id, None] += len(kept) - _LIMIT
