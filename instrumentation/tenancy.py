"""Who is this work for? Validates tenant ids, binds them to a context and numbers them.

A `Tenant` is interned: one object an id, with a small `slot` number that the loop accounting and the metrics use
as an index. The number of tenants is bounded; beyond the bound everybody shares the tenant `other`. Work for which
nobody bound a tenant belongs to `unknown`.

What it refuses: to normalise an id. `Acme` and `acme` are two tenants; an id that is not in canonical Unicode form
(NFC) is invalid, not repaired, because two spellings that look the same would otherwise share one account.
"""

from __future__ import annotations

import functools
import inspect
import threading
import unicodedata
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from .diagnostics import count, fault

MAX_ID_CHARACTERS: Final = 255
UNKNOWN_SLOT: Final = 0
OTHER_SLOT: Final = 1
FIRST_SLOT: Final = 2
RESERVED: Final = ("unknown", "other")

F = TypeVar("F", bound=Callable[..., Any])


class InvalidTenantError(ValueError):
    """A tenant id breaks a rule. The message names the rule and never repeats the id."""


class Tenant:
    """One tenant, interned by `TenantTable.intern`.

    Attributes:
        id: as it appears in `tenant.id`; `other` for all beyond the bound.
        name: as the application bound it, beyond the bound too: what telemetry sums up, an application may route by.
        slot: index into every per-tenant table of this process, below the table's bound.
        binding: what a message carries across a queue: this tenant and nothing of the sender's own nesting.
    """

    __slots__ = ("binding", "id", "name", "slot")

    def __init__(self, tenant_id: str, slot: int, name: str | None = None) -> None:
        self.id = tenant_id
        self.name = tenant_id if name is None else name
        self.slot = slot
        self.binding: Binding | None = Binding(self)

    def __repr__(self) -> str:
        return f"Tenant({self.id!r}, slot={self.slot})"


class Binding:
    """What the context variable holds: a tenant, and what was bound before it.

    Leaving a `with` block looks at the binding, not at a `contextvars.Token`, so that a generator which is closed in
    another task, or one `tenant(...)` object that is shared by many tasks, unbinds what it bound and nothing else.

    Attributes:
        turn: the turn that has a budget, in whose context this is; None without one.
    """

    __slots__ = ("owner", "previous", "tenant", "turn")

    def __init__(self, tenant: Tenant, previous: Binding | None = None, owner: object = None) -> None:
        self.tenant = tenant
        self.previous = previous
        self.owner = owner
        self.turn: Any = None if previous is None else previous.turn


def validate(tenant_id: object) -> str:
    """Return `tenant_id` unchanged when it is a valid id, a subclass of `str` as the plain string that it holds.

    No method of the object itself is called: it may be anything.

    Raises:
        InvalidTenantError: not a string, empty, reserved, only white space around or in full, longer than 255
            characters, a control, format, surrogate or unassigned character in it, or not in Unicode normal form C.
    """
    kind = type(tenant_id)
    if kind is not str:
        if not issubclass(kind, str):
            raise InvalidTenantError("a tenant id must be a str")
        tenant_id = str.__str__(tenant_id)  # an enum's value, say
    assert type(tenant_id) is str  # noqa: S101  # for the type checker
    if not tenant_id:
        raise InvalidTenantError("a tenant id must not be empty")
    if tenant_id in RESERVED:
        raise InvalidTenantError("`unknown` and `other` stand for work without a tenant of its own")
    if len(tenant_id) > MAX_ID_CHARACTERS:
        raise InvalidTenantError(f"a tenant id has at most {MAX_ID_CHARACTERS} characters")
    if tenant_id.isascii():
        if not tenant_id.isprintable():
            raise InvalidTenantError("a tenant id must not contain control characters")
    else:
        # Cc control, Cf format (bidi overrides, zero-width), Cs lone surrogates, Cn unassigned, Zl/Zp line breaks.
        if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") for c in tenant_id):
            raise InvalidTenantError("a tenant id must not contain control, format or unassigned characters")
        if not unicodedata.is_normalized("NFC", tenant_id):
            raise InvalidTenantError("a tenant id must be in Unicode normal form C")
    if tenant_id != tenant_id.strip():
        raise InvalidTenantError("a tenant id must not begin or end with white space")
    return tenant_id


class TenantTable:
    """Numbers tenants from `FIRST_SLOT` on, at most `bound` of them; thread-safe.

    Args:
        bound: how many tenants get a slot of their own; the rest share `other`.
    """

    def __init__(self, bound: int = 254) -> None:
        self.unknown = Tenant("unknown", UNKNOWN_SLOT)
        self.other = Tenant("other", OTHER_SLOT)
        self.slots = bound + FIRST_SLOT
        self._by_id: dict[str, Tenant] = {}
        self._in_order: list[Tenant] = [self.unknown, self.other]
        # Re-entered by finalizers and signal handlers, which run wherever the interpreter happens to be.
        self._lock = threading.RLock()
        self._adding = False
        self._listeners: list[Callable[[Tenant], None]] = []

    def intern(self, tenant_id: object) -> Tenant:
        """The tenant of this id; `unknown` for an invalid one (counted), `other` beyond the bound. Never raises."""
        if type(tenant_id) is str:
            known = self._by_id.get(tenant_id)
            if known is not None:
                return known
        try:
            return self._add(validate(tenant_id))
        except InvalidTenantError:
            count("tenant.invalid")
        except Exception as error:
            fault("tenant", error)
        return self.unknown

    def _add(self, tenant_id: str) -> Tenant:
        with self._lock:
            known = self._by_id.get(tenant_id)
            if known is not None:
                return known
            if len(self._in_order) >= self.slots:
                count("tenant.over_bound")
                return Tenant(self.other.id, OTHER_SLOT, tenant_id)  # not kept: there may be millions
            if self._adding:  # a finalizer or signal handler in the middle of the lines below: two would get one slot
                count("tenant.reentered")
                return self.unknown
            self._adding = True
            try:
                tenant = Tenant(tenant_id, len(self._in_order))
                for listener in self._listeners:
                    _tell(listener, tenant)
                # Published last: who finds the tenant in the table also finds its name wherever listeners wrote it.
                self._in_order.append(tenant)
                self._by_id[tenant_id] = tenant
            finally:
                self._adding = False
            return tenant

    def listen(self, listener: Callable[[Tenant], None]) -> None:
        """Call `listener` for every tenant known so far and for each later one, before it is first used."""
        with self._lock:
            for tenant in self.in_order():
                _tell(listener, tenant)
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Tenant], None]) -> None:
        """Undo `listen`; unknown listeners are ignored."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def resize(self, bound: int) -> None:
        """Change the bound; for `start()`, before anybody counts by slot.

        Tenants that are known keep their slots, also beyond a smaller bound: they may be bound already, and a number
        that comes to mean somebody else would charge one tenant's time to another.
        """
        with self._lock:
            self.slots = max(bound + FIRST_SLOT, len(self._in_order))

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._adding = False

    def in_order(self) -> list[Tenant]:
        """All tenants so far; the position is the slot."""
        return list(self._in_order)


def _tell(listener: Callable[[Tenant], None], tenant: Tenant) -> None:
    try:
        listener(tenant)
    except Exception as error:
        fault("tenant.listener", error)


BOUND: ContextVar[Binding | None] = ContextVar("tenantscope_tenant", default=None)
TABLE = TenantTable()
#: Whose a turn without a tenant is: what is bound while it runs names no tenant, and is carried by no message.
NOBODY: Final = Tenant("unknown", UNKNOWN_SLOT)
NOBODY.binding = None

# Set while loops are being accounted: told that the running slice changes hands in the middle of a callback.
_on_switch: Callable[[Binding | None], None] | None = None


def on_switch(listener: Callable[[Binding | None], None] | None) -> None:
    """Install the one listener that is told when `bind` changes the tenant of the running code, or None."""
    global _on_switch
    _on_switch = listener


def current() -> Tenant | None:
    """The tenant bound to this context, or None."""
    binding = BOUND.get()
    return None if binding is None or binding.tenant is NOBODY else binding.tenant


def current_tenant() -> str | None:
    """The id of the tenant that the running code works for, as it was bound; None when nobody bound one.

    `unknown` for an invalid id. Beyond the bound on tenants it is still the id: only telemetry says `other`.
    """
    tenant = current()
    return None if tenant is None else tenant.name


def bind(binding: Binding | None) -> None:
    """Make `binding` this context's; the running slice changes hands with it."""
    if BOUND.get() is not binding:
        BOUND.set(binding)
        if _on_switch is not None:
            _on_switch(binding)


def rebind(token: Token[Binding | None], before: Binding | None) -> None:
    """Undo `BOUND.set(before)`, and whatever was bound since; the running slice changes hands with it.

    Raises:
        ValueError: the token is another context's; nothing was changed.
    """
    bound = BOUND.get()
    BOUND.reset(token)
    if bound is not before and _on_switch is not None:
        _on_switch(before)


class tenant:  # noqa: N801  # reads as a verb at the place of use: `with tenant("acme"):`
    """Bind a tenant to the enclosed code, and to everything that it sends, publishes, awaits or spawns.

    A context manager for synchronous and asynchronous code, and a decorator for functions and coroutine functions; for
    generators it is not one, and says so. One object may be entered many times, also by many tasks at once.

    An invalid id never raises here, for the application comes first: it binds `unknown`, and is counted in
    `tenantscope.faults` as `tenant.invalid`.

    Example:
        >>> with tenant("acme"):
        ...     current_tenant()
        'acme'
    """

    __slots__ = ("_id",)

    def __init__(self, tenant_id: str) -> None:
        self._id = tenant_id

    def __enter__(self) -> None:
        bind(Binding(TABLE.intern(self._id), BOUND.get(), self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        top = BOUND.get()
        if top is not None and top.owner is self:
            bind(top.previous)

    def __call__(self, function: F) -> F:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

            @functools.wraps(function)
            async def bound_coroutine(*args: Any, **kwargs: Any) -> Any:
                with tenant(self._id):  # of its own: one that is dropped, inside another call, unbinds only itself
                    return await function(*args, **kwargs)

            return cast("F", bound_coroutine)

        async def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
            with tenant(self._id):
                return await coroutine

        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(
                "@tenant(...) cannot decorate a generator: its body runs in pieces inside whoever iterates it; "
                "use `with tenant(...)` around the pieces instead"
            )

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            with self:
                made = function(*args, **kwargs)
            # Its body has not run yet, and would run with whatever is bound where it is awaited.
            return awaited(made) if inspect.iscoroutine(made) else made

        return cast("F", bound)
