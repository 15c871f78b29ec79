"""What is kept of the memory that a request has needed, and when it is looked through.

A request of half a megabyte takes a few megabytes for some milliseconds. Left to itself, glibc gives each thread a
store of its own, so that each of them keeps what its largest request has needed; and it puts large blocks among small
ones as soon as one was freed. What it keeps here is most of what the next request's objects
need, no more.

Python looks for objects that hold each other, among those that are new, whenever there are some hundreds more of them
(700, or 2000 from 3.13 on): often, in a request, and in vain, for nothing that is made for one holds itself, and all of
it goes when the request is done.

It refuses nothing: where there is no glibc, or its variables are set, memory is had as that says.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from typing import Final

# From glibc's malloc.h, and the variable that sets the same from outside.
_TRIM_THRESHOLD: Final = (-1, "MALLOC_TRIM_THRESHOLD_")
_MMAP_THRESHOLD: Final = (-3, "MALLOC_MMAP_THRESHOLD_")
_ARENA_MAX: Final = (-8, "MALLOC_ARENA_MAX")

#: Free memory at the end of a store that stays with the process: what a request needs, for one process; less where
#: several share the memory that all may have.
KEPT_BYTES: Final = 8 * 1024 * 1024
KEPT_BYTES_OF_SEVERAL: Final = 2 * 1024 * 1024
#: What is larger is had from the system alone and goes back whole: in a store, it would stand between small things that
#: stay, and the store would grow. A usual request's body is in the store where there is room for that: to have it from
#: the system is to have each page of it cleared.
ALONE_BYTES: Final = 1024 * 1024
ALONE_BYTES_OF_SEVERAL: Final = 256 * 1024
#: One for what redacts and one for gRPC's threads, by and large.
STORES: Final = 2
#: New objects, beyond those that went, after which Python looks for those that hold each other: what a request has at
#: once at most, by and large.
NEW_OBJECTS: Final = 20_000


def configure(*, several: bool) -> None:
    """To be called once, before there are threads.

    Args:
        several: whether there are other processes to do the work, or this is one of those.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    if "GLIBC_TUNABLES" in os.environ:
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for (parameter, variable), value in (
            (_TRIM_THRESHOLD, KEPT_BYTES_OF_SEVERAL if several else KEPT_BYTES),
            (_MMAP_THRESHOLD, ALONE_BYTES_OF_SEVERAL if several else ALONE_BYTES),
            (_ARENA_MAX, STORES),
        ):
            if variable not in os.environ:
                mallopt(parameter, value)
