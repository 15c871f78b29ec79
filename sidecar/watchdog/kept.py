"""Small files of `/proc` that are read again and again: opened once, for opening is most of what a look costs.

A descriptor belongs to the process that had the pid when it was opened. When that is gone, reading it fails, and the
file is opened anew: another process may have the pid by then.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final

MOST: Final = 512  # descriptors; a process has 1024, and the cells and streams take theirs
_BYTES: Final = 4096


class KeptFiles:
    """At most `most` open files, those that were read last. Not for more than one thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._open: OrderedDict[str, int] = OrderedDict()

    def read(self, path: str) -> bytes:
        """What is in the file now.

        Raises:
            OSError: there is no such process, or not any more.
        """
        descriptor = self._open.get(path)
        if descriptor is None:
            return self._first(path)
        self._open.move_to_end(path)
        try:
            return os.pread(descriptor, _BYTES, 0)
        except OSError:
            del self._open[path]
            os.close(descriptor)
            return self._first(path)

    def _first(self, path: str) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.pread(descriptor, _BYTES, 0)
        except OSError:
            os.close(descriptor)
            raise
        self._open[path] = descriptor
        if len(self._open) > self._most:
            os.close(self._open.popitem(last=False)[1])
        return text
