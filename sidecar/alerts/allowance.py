"""How often one tenant's changes may be told: some at once, then one at a time, evenly spread over the minute.

What comes faster is not lost: it waits in the outbox and is told in sum. One number a tenant: the time at which its
whole allowance is back (the "theoretical arrival time" of the generic cell rate algorithm, ITU-T I.371).
"""

from __future__ import annotations

from typing import Final

PER_MINUTE: Final = 10
_MANY: Final = 2000


class Allowance:
    """Changes a tenant may have told; times are seconds of the caller's clock. Used by one thread.

    Args:
        per_minute: at most so many at once, and so many a minute in the long run.
    """

    def __init__(self, per_minute: int = PER_MINUTE) -> None:
        self._each = 60.0 / per_minute
        self._burst = 60.0 - self._each
        self._whole_at: dict[str, float] = {}

    def free_at(self, tenant: str, now: float, planned: int = 0) -> float:
        """When the tenant may have one more, after `planned` others that have not been spent yet; `now` or later."""
        whole = max(now, self._whole_at.get(tenant, now)) + planned * self._each
        # Rounding must not put off by a hair what is due now.
        return now if whole - self._burst <= now + 1e-6 else whole - self._burst

    def spend(self, tenant: str, now: float) -> None:
        """The tenant had one."""
        self._whole_at[tenant] = max(now, self._whole_at.get(tenant, now)) + self._each
        if len(self._whole_at) > _MANY:
            self._whole_at = {name: at for name, at in self._whole_at.items() if at > now}
