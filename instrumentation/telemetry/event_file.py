"""A file with one line of JSON for each activity that ended: what the handbook calls structured file logging.

It is written beside whatever the application logs, by the export thread, without `logging`, and holds what spans hold:
names, numbers, ids, outcomes. Activities that sampling leaves out are left out here.

The file is its writer's alone, by a lock; a second process with the same setting writes beside it, to a name with its
process id. It grows to a bound and is then set aside as `.1`, `.2` and so on. What cannot be written is counted
(`event_log.unwritable`) and dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from instrumentation.diagnostics import count, fault
from instrumentation.telemetry.attributes import attributes_of
from instrumentation.telemetry.spans import ActivitySpan

_KEPT: Final = 5  # files that were set aside


class EventFile:
    """Writes ended spans to one file; called by one thread at a time.

    Args:
        path: of the file; its folder must exist.
        most_bytes: size at which it is set aside.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._file: int | None = None
        self._size = 0

    def write(self, spans: Iterable[ActivitySpan]) -> None:
        """Append a line for each span. Never raises."""
        lines = []
        for span in spans:
            try:
                lines.append(_line(span))
            except Exception as error:
                count("event_log.unwritable")
                fault("event_log.line", error)
        for line in lines:
            try:
                self._append(line)
            except Exception as error:  # no folder, no rights, no space
                count("event_log.unwritable")
                fault("event_log", error)
                self.close()

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _append(self, line: bytes) -> None:
        if self._file is not None and self._size + len(line) > self._most_bytes:
            self._set_aside()
        if self._file is None:
            self._file = self._open()
            self._size = os.fstat(self._file).st_size
            if self._size and self._size + len(line) > self._most_bytes:
                self._set_aside()
                self._file, self._size = self._open(), 0
        written = os.write(self._file, line)
        self._size += written
        if written < len(line):  # the disk is full: a torn line ends here, and the next one begins on its own
            os.write(self._file, b"\n")
            raise OSError("short write")

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            own = self._path.with_name(f"{self._path.stem}.{os.getpid()}{self._path.suffix}")
            if own == self._path:
                raise
            self._path = own
            return self._open()
        return file

    def _set_aside(self) -> None:
        """Rename while the lock is held, then let go."""
        for n in range(_KEPT - 1, 0, -1):
            older = self._numbered(n)
            if older.exists():
                older.replace(self._numbered(n + 1))
        self._path.replace(self._numbered(1))
        self.close()
        self._size = 0

    def _numbered(self, n: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{n}")


def _line(ended: ActivitySpan) -> bytes:
    activity = ended.activity
    about: dict[str, object] = {
        "time": datetime.fromtimestamp(ended.started_ns / 1e9, UTC).isoformat(),
        "activity": activity.kind.value,
        "name": activity.name,
        "outcome": activity.outcome.value,
        "seconds": ended.duration_ns / 1e9,
        "trace_id": f"{ended.trace_id:032x}",
        "span_id": f"{ended.span_id:016x}",
        "parent_span_id": None if ended.parent_id is None else f"{ended.parent_id:016x}",
        **attributes_of(activity),
    }
    return json.dumps(about).encode() + b"\n"
