"""Values that are read from files, and read again when one of the files changes.

Tokens and certificates are replaced while the sidecar runs. Two files are never replaced at one moment, and one may be
half written when it is looked at: as long as what is there cannot be used, what was there before is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

from .settings import ConfigurationError

T = TypeVar("T")

_log: Final = structlog.get_logger("sidecar")


class Renewed(Generic[T]):
    """A value, and the files that it is read from. Thread-safe.

    Args:
        what: is read, in the plural, for the log.
        files: what `read` reads.
        read: the value. Raises ConfigurationError, whose lines hold no secret.

    Raises:
        ConfigurationError: the value cannot be read now, in the beginning.
    """

    def __init__(self, what: str, files: Sequence[Path], read: Callable[[], T]) -> None:
        self._what = what
        self._files = tuple(files)
        self._read = read
        self._lock = threading.Lock()
        # Before the value is read: what changes meanwhile is then seen as a change.
        self._seen = looks(self._files)
        self._value = read()

    @property
    def value(self) -> T:
        """What was read last and could be used."""
        return self._value

    def renew(self) -> bool:
        """Look at the files, read them if they have changed; whether there is another value since.

        Who comes while another reads them does not wait: what was there before holds until they are read.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._renew()
        finally:
            self._lock.release()

    def _renew(self) -> bool:
        seen = looks(self._files)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            value = self._read()
        except ConfigurationError as error:
            _log.warning(f"new {self._what} cannot be used, the old ones stay", reasons=error.lines)
            return False
        if value == self._value:
            return False
        self._value = value
        _log.info(f"new {self._what} are in use")
        return True


def looks(files: Iterable[Path]) -> tuple[tuple[int, int, int] | None, ...]:
    """What files look like from outside: inode, size, and time of change in ns; None for one that is not there."""
    return tuple(map(_look, files))


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
