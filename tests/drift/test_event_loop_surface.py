"""What the accounting stands on in asyncio and uvloop is private; these tests fail when a release moves it."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import gc
from asyncio import events

import uvloop


def test_the_seams_of_asyncio_are_as_expected() -> None:
    """Fails when asyncio changes what the accounting stands on."""
    loop = asyncio.new_event_loop()
    try:
        assert set(events.Handle.__slots__) >= {"_callback", "_args", "_cancelled", "_loop", "_context"}
        assert "_when" in events.TimerHandle.__slots__
        assert "_run" not in vars(events.TimerHandle)
        assert hasattr(loop._ready, "popleft")
        assert isinstance(loop._scheduled, list)
        assert events._get_running_loop() is None
    finally:
        loop.close()


def test_the_seams_of_uvloop_are_as_expected() -> None:
    """Fails when uvloop changes what the accounting, and the look at who waits, stand on."""
    loop = uvloop.Loop()
    try:
        handle, timer = loop.call_soon(print), loop.call_later(3600, print)
        (ready,) = [held for held in gc.get_referents(loop) if isinstance(held, collections.deque)]
        assert list(ready) == [handle]
        assert any(held == {timer} for held in gc.get_referents(loop) if isinstance(held, set))
        assert type(handle).__module__ == "uvloop.loop"
        assert [type(held) for held in gc.get_referents(handle)].count(contextvars.Context) == 1
        assert [type(held) for held in gc.get_referents(timer)].count(contextvars.Context) == 1
        assert handle._source_traceback is None
        assert not set(vars(uvloop.Loop)) & {"call_soon", "call_soon_threadsafe", "call_later", "call_at"}
    finally:
        loop.close()
