"""A tenant, and what a context holds that works for one.

What it refuses: to lead back to itself. Of a million tenants most are gone again with what they were bound to, also in
an application that has switched the garbage collector off.
"""

from __future__ import annotations

from typing import Any, Final

from .tenant_ids import RESERVED

UNKNOWN_SLOT: Final = 0
UNKNOWN: Final = RESERVED[0]


class Tenant:
    """One tenant, interned by `TenantTable.intern`.

    Attributes:
        id: as it appears in `tenant.id`; `other` while it has no slot.
        name: as the application bound it, whatever telemetry shows: an application may route by it.
        slot: index into every per-tenant table of this process, below the table's bound.
        weight: how often it was seen since it has its slot: bound, or an activity of its ended. Additions of two
            threads may be lost: it tells who is busy, and nothing else.
    """

    __slots__ = ("__weakref__", "id", "name", "slot", "weight")

    def __init__(self, tenant_id: str, slot: int, name: str | None = None) -> None:
        self.id = tenant_id
        self.name = tenant_id if name is None else name
        self.slot = slot
        self.weight = 0

    def __repr__(self) -> str:
        return f"Tenant({self.id!r}, slot={self.slot})"


class Binding:
    """What the context variable holds: a tenant, and what was bound before it.

    Leaving a `with` block looks at the binding, not at a `contextvars.Token`, so that a generator which is closed in
    another task, or one `tenant(...)` object that is shared by many tasks, unbinds what it bound and nothing else.

    Attributes:
        turn: the turn that has a budget, in whose context this is; None without one.
    """

    __slots__ = ("_carried", "owner", "previous", "tenant", "turn")

    def __init__(self, tenant: Tenant, previous: Binding | None = None, owner: object = None) -> None:
        self.tenant = tenant
        self.previous = previous
        self.owner = owner
        self.turn: Any = None if previous is None else previous.turn
        self._carried: Binding | None = None

    def carried(self) -> Binding | None:
        """What a message takes across a queue: this tenant, nothing of its sender's own nesting. None for nobody's."""
        if self.owner is None and self.previous is None and self.turn is None:
            return self
        if self._carried is None and self.tenant is not NOBODY:
            self._carried = Binding(self.tenant)
        return self._carried


#: Whose a turn without a tenant is: what is bound while it runs names no tenant, and is carried by no message.
NOBODY: Final = Tenant(UNKNOWN, UNKNOWN_SLOT)
