"""Who waits in AutoGen's own queues: messages of other tenants behind a slice that holds the loop.

The event loop does not know them. A runtime has one queue for all tenants, and one task that takes messages out of it;
while that task cannot run, whole tenants wait, and not one callback of theirs is ready. The loop accounting asks here.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from instrumentation import tenancy
from instrumentation.diagnostics import fault

from .passport import Passport

_LIMIT: Final = 2_000  # messages of one runtime that one look examines


def queue_of(runtime: Any) -> Any:
    """The envelopes in a runtime's queue; a worker of a distributed runtime has none."""
    queue = getattr(runtime, "_message_queue", None)
    return () if queue is None else queue._queue  # noqa: SLF001


class _Dispatching(weakref.ref[Any]):
    """A runtime, and the loop on which it dispatches.

    Attributes:
        key: of the entry.
    """

    __slots__ = ("key", "loop")

    key: int
    loop: weakref.ref[Any]


class Waiting:
    """The runtimes that dispatch, each with the loop it does so on; neither is kept alive."""

    def __init__(self) -> None:
        known: dict[int, _Dispatching] = {}
        self._runtimes = known
        self._gone: Callable[[_Dispatching], object] = lambda runtime: known.pop(runtime.key, None)

    def dispatches(self, runtime: Any) -> None:
        """`runtime` is about to take a message out of its queue, on the running loop. Never raises."""
        try:
            loop = asyncio.get_running_loop()
            key = id(runtime)
            known = self._runtimes.get(key)
            if known is None or known() is not runtime or known.loop() is not loop:
                found = _Dispatching(runtime, self._gone)
                found.key, found.loop = key, weakref.ref(loop)
                self._runtimes[key] = found
        except BaseException as error:
            fault("waiting", error)

    def runtimes(self) -> list[Any]:
        """Those that have dispatched and are still alive."""
        found = (known() for known in list(self._runtimes.values()))
        return [runtime for runtime in found if runtime is not None]

    def on(self, loop: asyncio.AbstractEventLoop) -> Iterator[tuple[int, int]]:
        """(tenant slot, when it was sent in monotonic nanoseconds) of every message that waits on this loop."""
        for known in list(self._runtimes.values()):
            runtime = known()
            if runtime is not None and known.loop() is loop:
                for envelope in list(islice(queue_of(runtime), _LIMIT)):
                    passport = envelope.metadata
                    if type(passport) is Passport and passport.sent_ns is not None:
                        binding = passport.binding
                        slot = tenancy.UNKNOWN_SLOT if binding is None else binding.tenant.slot
                        yield slot, passport.sent_ns
