"""What asyncio and uvloop are without us, and a few words for tests of what they are with us."""

from __future__ import annotations

import asyncio
from asyncio import events

import uvloop

from instrumentation import tenancy

VERY_ORIGINAL = events.Handle._run
ASYNCIOS_OWN = dict(vars(asyncio.BaseEventLoop))
UVLOOPS_OWN = set(vars(uvloop.Loop))
NOWHERE = "unix:/nonexistent/tenantscope.sock"


def slot(name: str) -> int:
    """The tenant's number."""
    return tenancy.TABLE.intern(name).slot


def nothing_of_ours_is_installed() -> bool:
    """Whether both are as they were."""
    return (
        events.Handle._run is VERY_ORIGINAL
        and dict(vars(asyncio.BaseEventLoop)) == ASYNCIOS_OWN
        and set(vars(uvloop.Loop)) == UVLOOPS_OWN
    )
