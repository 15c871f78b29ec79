"""What is held by nothing but itself: for tests that nothing waits for the collector to come by."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[Callable[[bytes], list[str]]]:
    """Have the collector stay away, and a function that says what types of objects hold these bytes and themselves."""

    def holders(content: bytes) -> list[str]:
        gc.collect()
        return [type(one).__name__ for one in gc.garbage if any(content == held for held in gc.get_referents(one))]

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield holders
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
