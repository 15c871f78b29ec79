"""How much work one request may ask for, and what comes of asking for more.

Sizes bound memory; these bound time. A request of 4 MiB can hold two million empty resources, or texts of which every
character reads as eighteen others. Every figure here is far beyond what exporters send (512 spans of at most 128
attributes by default), so that only those who mean it run into one.

What it refuses: to look at a clock. A request has the same outcome on a slow machine as on a fast one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Resources, scopes and metrics of a request, together. With more, the request is refused.
MAX_GROUPS: Final = 20_000
#: Events, links, exemplars and the like of a request. With more, the request is refused.
MAX_PARTS: Final = 100_000
#: Spans, data points or log records of a request. With more, the request is refused.
MAX_RECORDS: Final = 50_000
#: Values of a request that are dropped. With more, the request is refused.
MAX_DROPPED: Final = 250_000
#: Attributes and unknown fields of one message that are dropped. With more, the message does not leave.
MAX_FIELDS: Final = 1_000
#: Characters of a request that are scanned at length: a text that has other forms than its own (`disguises.py`) counts,
#: each of those forms does, and what most detectors are asked about does once more. Texts that would need more are
#: dropped. The dearest known texts cost 2 us a character; plain names cost nothing of it.
MAX_SCANNED: Final = 600_000


class TooMuch(Exception):  # noqa: N818  # a verdict, not an error
    """A request asks for more than one may; nothing of it leaves."""


class Spent(Exception):  # noqa: N818  # a verdict, not an error
    """The texts of a request have been scanned for as long as they may be; this one has not, and must not leave."""


class _Allowance(threading.local):
    left: float = math.inf


_allowance: Final = _Allowance()


@contextmanager
def allowance(characters: float) -> Iterator[None]:
    """Inside, on this thread, so many characters may be scanned at length."""
    before, _allowance.left = _allowance.left, characters
    try:
        yield
    finally:
        _allowance.left = before


def spend(characters: int) -> None:
    """So many characters are about to be scanned.

    Raises:
        Spent: they are not to be.
    """
    _allowance.left -= characters
    if _allowance.left < 0:
        raise Spent
