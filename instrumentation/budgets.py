"""How much may one turn use? A turn is the handling of one message by one agent.

    with instrumentation.budget(turn=30.0, loop=0.5, cancel=True):
        await runtime.send_message(...)

A budget is bound to a context like a tenant, and travels with messages as a tenant does: it counts for each turn that
is caused from inside, for each anew. What nobody bound is looked up by tenant in the table of `TENANTSCOPE_LIMITS`.

What it refuses: to raise for a limit that is none. Such a limit does not count, and is counted (`budget.invalid`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from sidecar.wire.limits import Limits, Tier, is_limit

from . import tenancy
from .diagnostics import count

F = TypeVar("F", bound=Callable[..., Any])


class TurnBudgetExceeded(Exception):  # noqa: N818  # the name that users catch
    """A handler was cancelled because it was over its budget. Whoever sent the message gets it instead of an answer.

    Attributes:
        agent: type of the agent whose handler it was.
        tenant: whose turn it was; `unknown` when nobody's.
        budget: `turn` (wall time) or `loop` (time that it held the event loop).
        limit: seconds that the budget allows.
        used: seconds that the turn had used when it was cancelled.
    """

    def __init__(self, agent: str, tenant: str, budget: str, limit: float, used: float) -> None:
        super().__init__(agent, tenant, budget, limit, used)  # all of them: it can be pickled
        self.agent = agent
        self.tenant = tenant
        self.budget = budget
        self.limit = limit
        self.used = used

    def __str__(self) -> str:
        what = "took" if self.budget == "turn" else "held the event loop for"
        return f"a turn of agent {self.agent} {what} {self.used:.3g} s; its {self.budget} budget is {self.limit:.3g} s"


class Budget:
    """Limits of one turn, in nanoseconds; None is no limit.

    Attributes:
        turn_ns: wall time, awaits included.
        loop_ns: time on the event loop.
        cancel: whether a handler that uses more is cancelled at its next await.
    """

    __slots__ = ("cancel", "loop_ns", "turn_ns")

    def __init__(self, turn_ns: int | None, loop_ns: int | None, cancel: bool) -> None:
        self.turn_ns = turn_ns
        self.loop_ns = loop_ns
        self.cancel = cancel

    @classmethod
    def of(cls, tier: Tier | None) -> Budget | None:
        """A tier's; None when it has none."""
        if tier is None or (tier.turn is None and tier.loop is None):
            return None
        return cls(_ns(tier.turn), _ns(tier.loop), tier.cancel)


class Bound:
    """What the context variable holds: a budget, and what was bound before it. See `tenancy.Binding`."""

    __slots__ = ("budget", "owner", "previous")

    def __init__(self, budget: Budget, previous: Bound | None = None, owner: object = None) -> None:
        self.budget = budget
        self.previous = previous
        self.owner = owner


BOUND: Final[ContextVar[Bound | None]] = ContextVar("tenantscope_budget", default=None)


def bind(bound: Bound | None) -> None:
    """Make `bound` this context's."""
    if BOUND.get() is not bound:
        BOUND.set(bound)


class Tiers:
    """The budgets of the table of limits.

    Args:
        limits: the table; None allows everybody everything.
    """

    def __init__(self, limits: Limits | None) -> None:
        tiers = {} if limits is None else {name: Budget.of(tier) for name, tier in limits.tiers.items()}
        self._by_tenant = {} if limits is None else {who: tiers[tier.name] for who, tier in limits.tenants.items()}
        self._default = None if limits is None or limits.default is None else tiers[limits.default.name]

    def of(self, tenant: tenancy.Tenant) -> Budget | None:
        """The budget of a tenant's turns."""
        return self._by_tenant.get(tenant.name, self._default)


class budget:  # noqa: N801  # reads as a verb at the place of use: `with budget(turn=30):`
    """Give a budget to every turn that the enclosed code causes: by what it sends or publishes, and what follows.

    Inside a handler it does not count for the turn that runs already: that one began under its sender's budget. A
    context manager for synchronous and asynchronous code, and a decorator for functions and coroutine functions, like
    `tenant`. The innermost counts, and nothing of the tenant's tier beside it; `budget()` lifts all limits.

    A turn over its budget is reported: a span, a metric, an alert. With `cancel` its handler is also cancelled at its
    next await, and whoever sent the message gets `TurnBudgetExceeded`. Code that does not await cannot be cancelled.

    Args:
        turn: seconds that a turn may take, awaits included; at most a day.
        loop: seconds for which it may hold the event loop, what it spawns on that loop included.
        cancel: whether a handler over its budget is cancelled.
    """

    __slots__ = ("_budget",)

    def __init__(self, *, turn: float | None = None, loop: float | None = None, cancel: bool = False) -> None:
        self._budget = Budget(_checked(turn), _checked(loop), cancel is True)

    def __enter__(self) -> None:
        BOUND.set(Bound(self._budget, BOUND.get(), self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        top = BOUND.get()
        if top is not None and top.owner is self:
            BOUND.set(top.previous)

    def __call__(self, function: F) -> F:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

            @functools.wraps(function)
            async def bound_coroutine(*args: Any, **kwargs: Any) -> Any:
                with self._again():  # of its own: one that is dropped, inside another call, unbinds only itself
                    return await function(*args, **kwargs)

            return cast("F", bound_coroutine)
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(
                "@budget(...) cannot decorate a generator: its body runs in pieces inside whoever iterates it; "
                "use `with budget(...)` around the pieces instead"
            )

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return cast("F", bound)

    def _again(self) -> budget:
        again = budget()
        again._budget = self._budget
        return again


def _checked(seconds: object) -> int | None:
    if seconds is None:
        return None
    if not is_limit(seconds):
        count("budget.invalid")
        return None
    return _ns(cast("float", seconds))


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)
