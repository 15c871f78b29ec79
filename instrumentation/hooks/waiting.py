"""Who waits in AutoGen's own queues: messages of other tenants behind a slice that holds the loop.

The event loop does not know them. A runtime has one queue for all tenants, and one task that takes messages out of it;
while that task cannot run, whole tenants wait, and not one callback of theirs is ready. The loop accounting asks here.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Iterator
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


class Waiting:
    """The runtimes that dispatch, each with the loop it does so on; neither is kept alive."""

    def __init__(self) -> None:
        self._runtimes: dict[int, tuple[weakref.ref[Any], weakref.ref[Any]]] = {}

    def dispatches(self, runtime: Any) -> None:
        """`runtime` is about to take a message out of its queue, on the running loop. Never raises."""
        try:
            loop = asyncio.get_running_loop()
            key = id(runtime)
            known = self._runtimes.get(key)
            if known is None or known[0]() is not runtime or known[1]() is not loop:
                gone = functools.partial(self._runtimes.pop, key)
                self._runtimes[key] = (weakref.ref(runtime, gone), weakref.ref(loop))
        except BaseException as error:
            fault("waiting", error)

    def runtimes(self) -> list[Any]:
        """Those that have dispatched and are still alive."""
        found = (runtime_ref() for runtime_ref, _ in list(self._runtimes.values()))
        return [runtime for runtime in found if runtime is not None]

    def on(self, loop: asyncio.AbstractEventLoop) -> Iterator[tuple[int, int]]:
        """(tenant slot, when it was sent in monotonic nanoseconds) of every message that waits on this loop."""
        for runtime_ref, loop_ref in list(self._runtimes.values()):
            runtime = runtime_ref()
            if runtime is not None and loop_ref() is loop:
                for envelope in list(islice(queue_of(runtime), _LIMIT)):
                    passport = envelope.metadata
                    if type(passport) is Passport and passport.sent_ns is not None:
                        binding = passport.binding
                        slot = tenancy.UNKNOWN_SLOT if binding is None else binding.tenant.slot
                        yield slot, passport.sent_ns
