"""How tenants are shown to people, and whose face is whose.

What the policy masks in telemetry is not to be read in alerts or on a page either, so everything that reaches people by
another way than telemetry bears a tenant's face. An alert that goes the way of telemetry must say the id itself, for
the policy makes a face of it there: the face of a face is somebody else's.

What it refuses: to say whose a face is that two tenants have, or that was not seen for long.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

NOBODY: Final = "unknown"
#: The face of everybody while no policy is in force, and of whom a policy does not show.
REDACTED: Final = "redacted"
MAX_FACES: Final = 8192  # some more than the tenants of one cell


class Faces:
    """Thread-safe.

    Args:
        face: of a tenant's id, by the policy in force.
    """

    def __init__(self, face: Callable[[str], str]) -> None:
        self._face = face
        self._lock = threading.Lock()
        self._whose: OrderedDict[str, str] = OrderedDict()

    def of(self, tenant: str) -> str:
        """How this tenant is shown."""
        face = self._face(tenant)
        with self._lock:
            known = self._whose.setdefault(face, tenant)
            if known != tenant:
                self._whose[face] = NOBODY
            self._whose.move_to_end(face)
            if len(self._whose) > MAX_FACES:
                self._whose.popitem(last=False)
        return face

    def whose(self, face: str) -> str:
        """The id of the one tenant who is shown so; `unknown` when nobody can tell."""
        with self._lock:
            return self._whose.get(face, NOBODY)
