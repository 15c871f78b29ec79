"""Whose ready work waited while a slice held the loop?

Looked at once, at the end of a slice that was long: the ready queue, and the timers that came due. A piece of ready
work waited at most as long as the slice; it may have become ready in the middle, which no one records, so the sum is
an upper bound. Sockets that became readable meanwhile are unknown until the loop polls them: they are not counted.

Reads two private attributes of asyncio's loops, `_ready` and `_scheduled`; `tests/event_loop` pins them.
"""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from instrumentation import tenancy

LIMIT: Final = 10_000  # handles that one look examines: a flooded loop is not held up by being measured


def waits(loop: Any, culprit: int, held_ns: int, own: asyncio.Handle | None) -> Iterator[tuple[int, int]]:
    """(slot, nanoseconds) for every piece of work of another tenant than `culprit` that waited for this slice.

    Args:
        loop: an asyncio loop, on its own thread.
        culprit: slot of the tenant whose slice held the loop.
        held_ns: how long.
        own: our own timer, which is nobody's work.
    """
    # Copied in C: other threads append to the queue at any time.
    for handle in list(islice(loop._ready, LIMIT)):
        slot = _slot(handle)
        if slot != culprit and handle is not own and not handle._cancelled:
            yield slot, held_ns
    now = loop.time()
    for timer in _due(loop._scheduled, now):
        slot = _slot(timer)
        if slot != culprit and timer is not own and not timer._cancelled:
            yield slot, min(held_ns, round((now - timer._when) * 1e9))


def _due(heap: list[Any], now: float) -> Iterator[Any]:
    """The timers of a heap that are due: the children of one that is not due aren't either."""
    unseen = [0]
    for _ in range(LIMIT):
        if not unseen:
            return
        index = unseen.pop()
        if index < len(heap) and heap[index]._when <= now:
            yield heap[index]
            unseen += (2 * index + 1, 2 * index + 2)


def _slot(handle: Any) -> int:
    binding = handle._context.get(tenancy.BOUND)
    return tenancy.UNKNOWN_SLOT if binding is None else binding.tenant.slot
