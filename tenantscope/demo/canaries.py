"""Canaries: made-up secrets that stand wherever an application keeps content, so that a leak can be seen.

Every canary of a run begins with the run's random marker. Whoever searches looks for the marker alone, and so
also finds a canary that was cut short, or one that it never heard of because the planter died.

What it refuses: to look like a known kind of secret. A canary is random letters and digits, so nothing finds
it by its shape; it stays inside only if content in general does.
"""

from __future__ import annotations

import secrets
import string
import threading
from typing import Final

MARKER_CHARACTERS: Final = 11
CORE_CHARACTERS: Final = 22
_ALPHABET: Final = string.ascii_lowercase + string.digits


def new_marker() -> str:
    """A random marker for one run, 56 bits: no other data holds it by accident."""
    return _random(MARKER_CHARACTERS)


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))


class Canaries:
    """Mints canaries and remembers them; thread-safe.

    Args:
        marker: first characters of every canary, from `new_marker`.
        limit: how many distinct canaries there may be; beyond it the planted ones are planted again.
    """

    def __init__(self, marker: str, limit: int = 1000) -> None:
        self.marker = marker
        self._limit = limit
        self._lock = threading.Lock()
        self._planted: list[str] = []
        self._places: dict[str, int] = {}
        self._turn = 0

    def plant(self, place: str) -> str:
        """A canary to put into content of the kind `place` (`prompt`, `tool result` ...)."""
        with self._lock:
            self._places[place] = self._places.get(place, 0) + 1
            if len(self._planted) < self._limit:
                canary = self.marker + _random(CORE_CHARACTERS - MARKER_CHARACTERS)
                self._planted.append(canary)
                return canary
            self._turn = (self._turn + 1) % self._limit
            return self._planted[self._turn]

    def planted(self) -> list[str]:
        """Every distinct canary so far, in the order of planting."""
        with self._lock:
            return list(self._planted)

    def places(self) -> dict[str, int]:
        """How often something was planted, by place."""
        with self._lock:
            return dict(self._places)
