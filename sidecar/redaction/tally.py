"""What a pass saw and did; and the bounds of it.

What it refuses: to go on counting when a request asks for more than one may (`bounds.py`).
"""

from __future__ import annotations

from collections import Counter

from .bounds import MAX_DROPPED, MAX_GROUPS, MAX_PARTS, MAX_RECORDS, TooMuch
from .steps import Action


class Tally:
    """An account of one request. Its own pass writes it, others read.

    Attributes:
        records_in, records_out: spans, data points or log records that were found, and that may leave.
        dropped: records that may not, by reason.
        taken: by tenant, when it is asked whose records are: those that may leave, and bytes of them as they came.
        refused: by tenant: records that were not taken, for the reason `quota`.
        actions: values that did not leave as they stood, by (what was done: "drop", "mask" and so on, reason).
    """

    __slots__ = (
        "_gone",
        "_groups",
        "_parts",
        "actions",
        "dropped",
        "records_in",
        "records_out",
        "refused",
        "taken",
    )

    def __init__(self) -> None:
        self._groups = 0
        self._gone = 0
        self._parts = 0
        self.records_in = 0
        self.records_out = 0
        self.taken: dict[bytes, tuple[int, int]] = {}
        self.refused: Counter[bytes] = Counter()
        self.dropped: Counter[str] = Counter()
        self.actions: Counter[Action] = Counter()

    def _count(self, done: Action, times: int) -> None:
        """What was done to so many values. Raises `TooMuch`, as all of these."""
        self.actions[done] += times
        if done[0] == "drop":
            self._gone += times
            if self._gone > MAX_DROPPED:
                raise TooMuch

    def _count_records(self, records: int) -> None:
        self.records_in += records
        if self.records_in > MAX_RECORDS:
            raise TooMuch

    def _charge(self, account: bytes, records: int, size: int) -> None:
        """Records that leave, and what they had in bytes."""
        taken, so_far = self.taken.get(account, (0, 0))
        self.taken[account] = taken + records, so_far + size

    def _count_groups(self, groups: int) -> None:
        self._groups += groups
        if self._groups > MAX_GROUPS:
            raise TooMuch

    def _count_parts(self, parts: int) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            raise TooMuch
