"""Is anything heard of a loop? Judged for those that are cut off, and for those that heartbeats tell of."""

from __future__ import annotations

from typing import Final

from .mode import Mode
from .sayings import Sayings
from .stall import SILENCED
from .watched import Watched

SILENT_NS: Final = 15_000_000_000  # longer than an application waits before it tries its link anew
LATE_NS: Final = 2_000_000_000  # for heartbeats that come several times a second
GIVEN_UP_NS: Final = 300_000_000_000  # after so long without heartbeats, though the stream seems to be there


def listen(watched: Watched, now: int, sayings: Sayings) -> None:
    """Say so when a loop is late, or give it up."""
    if watched.cell.mode is not Mode.HEARTBEATS:
        # While a stall lasts, the cell tells enough.
        if watched.cut_off and watched.stall is None and now - watched.quiet_since() >= SILENT_NS:
            watched.leaving = SILENCED
        return
    quiet = now - watched.cell.heard()
    if quiet >= LATE_NS:
        sayings.late(watched, now)
    else:
        sayings.heard(watched, now)
    if quiet >= (SILENT_NS if watched.cut_off else GIVEN_UP_NS):
        watched.leaving = SILENCED
