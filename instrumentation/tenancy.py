"""Who is this work for? Binds tenants to a context, and says who is bound.

Who a tenant is, and who has figures of his own, is for `slots` to say. Work for which nobody bound a tenant belongs to
`unknown`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, TypeVar, cast

from .bindings import NOBODY as NOBODY
from .bindings import UNKNOWN_SLOT as UNKNOWN_SLOT
from .bindings import Binding as Binding
from .bindings import Tenant as Tenant
from .slots import FIRST_SLOT as FIRST_SLOT
from .slots import OTHER_SLOT as OTHER_SLOT
from .slots import TenantTable as TenantTable
from .tenant_ids import InvalidTenantError as InvalidTenantError
from .tenant_ids import validate as validate

F = TypeVar("F", bound=Callable[..., Any])

BOUND: ContextVar[Binding | None] = ContextVar("tenantscope_tenant", default=None)
TABLE = TenantTable()

# Set while loops are being accounted: told that the running slice changes hands in the middle of a callback.
_on_switch: Callable[[Binding | None, Binding | None], None] | None = None


def on_switch(listener: Callable[[Binding | None, Binding | None], None] | None) -> None:
    """Install the one listener that is told when the tenant of the running code changes, or None.

    It is told what is bound from now on, and what was bound before.
    """
    global _on_switch
    _on_switch = listener


def current() -> Tenant | None:
    """The tenant bound to this context, or None."""
    binding = BOUND.get()
    return None if binding is None or binding.tenant is NOBODY else binding.tenant


def current_tenant() -> str | None:
    """The id of the tenant that the running code works for, as it was bound; None when nobody bound one.

    `unknown` for an invalid id. Also of a tenant without a slot it is the id: only telemetry says `other`.
    """
    tenant = current()
    return None if tenant is None else tenant.name


def bind(binding: Binding | None) -> None:
    """Make `binding` this context's; the running slice changes hands with it."""
    before = BOUND.get()
    if before is not binding:
        BOUND.set(binding)
        if _on_switch is not None:
            _on_switch(binding, before)


def rebind(token: Token[Binding | None], before: Binding | None) -> None:
    """Undo `BOUND.set(before)`, and whatever was bound since; the running slice changes hands with it.

    Raises:
        ValueError: the token is another context's; nothing was changed.
    """
    bound = BOUND.get()
    BOUND.reset(token)
    if bound is not before and _on_switch is not None:
        _on_switch(before, bound)


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
