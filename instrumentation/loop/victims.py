"""Whose ready work waited while a slice held the loop?

Looked at once, at the end of a slice that was long: the ready queue, the timers that came due, and the queues above the
loop, where an AutoGen runtime keeps the messages of all tenants until its one task gets to run. A piece of ready work
waited at most as long as the slice; it may have become ready in the middle, which no one records: the sum is an upper
bound. Sockets that became readable meanwhile are unknown until the loop polls them: they are not counted.

Reads two private attributes of asyncio's loops, `_ready` and `_scheduled`. uvloop keeps its own in C, and tells nobody
but the garbage collector of them, whose public interface is asked here. `tests/event_loop` pins both.
"""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from itertools import islice
from typing import Any, Final

from instrumentation import tenancy
from instrumentation.diagnostics import fault

_NOBODYS: Final = Context()
LIMIT: Final = 2_000  # handles and timers that one look examines: a flooded loop is not held up by being measured

#: (tenant slot, since when in monotonic nanoseconds) of every piece of work that waits in a queue above the loop.
Queued = Callable[[asyncio.AbstractEventLoop], Iterable[tuple[int, int]]]


def waits(
    loop: Any, culprit: int, began_ns: int, now_ns: int, own: asyncio.Handle | None, queued: Queued
) -> Counter[tuple[int, int]]:
    """How many pieces of work of other tenants waited for a slice, by (slot, nanoseconds).

    Args:
        loop: of asyncio's making or uvloop's, on its own thread.
        culprit: slot of the tenant whose slice held the loop.
        began_ns, now_ns: when the slice began, and now.
        own: our own timer, which is nobody's work.
        queued: what waits in queues above the loop.
    """
    held_ns = now_ns - began_ns
    found: Counter[tuple[int, int]] = Counter()
    now = loop.time()
    ready, due = _asyncios(loop, now) if isinstance(loop, asyncio.BaseEventLoop) else _uvloops(loop, now, own)
    for handle in ready:
        slot = _slot(handle)
        if slot != culprit and handle is not own and not handle.cancelled():
            found[slot, held_ns] += 1
    for timer in due:
        slot = _slot(timer)
        if slot != culprit and timer is not own and not timer.cancelled():
            found[slot, min(held_ns, round((now - timer.when()) * 1e9))] += 1
    try:
        for slot, since_ns in queued(loop):
            if slot != culprit:
                found[slot, now_ns - max(began_ns, since_ns)] += 1
    except Exception as error:  # not ours to know what a queue above is like; the loop's own are counted
        fault("victims.queued", error)
    return found


def _asyncios(loop: Any, now: float) -> tuple[Iterable[Any], Iterable[Any]]:
    # Copied in C: other threads append to the queue at any time.
    return list(islice(loop._ready, LIMIT)), _due(loop._scheduled, now)


def _uvloops(loop: Any, now: float, own: object) -> tuple[Iterable[Any], Iterable[Any]]:
    ready: list[Any] = []
    due: list[Any] = []
    for held in gc.get_referents(loop):
        if type(held) is deque:
            ready += [handle for handle in islice(held, LIMIT) if type(handle).__module__ == "uvloop.loop"]
        elif type(held) is set and own in held:  # not sorted, so all are looked at; few are due
            due += [timer for timer in islice(held, 10 * LIMIT) if timer.when() <= now]
    return ready, due[:LIMIT]


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
    try:
        context = handle._context
    except AttributeError:  # uvloop's
        context = next((held for held in gc.get_referents(handle) if type(held) is Context), _NOBODYS)
    binding = context.get(tenancy.BOUND)
    return tenancy.UNKNOWN_SLOT if binding is None else binding.tenant.slot
