"""May a cell be trusted? Opens the file that a process announced, and verifies all that can be verified.

What it refuses is in `open_cell`; each refusal is one of the words in `REASONS`. A process in another pid namespace
(a container that shares the folder) cannot be looked up by its pid, and somebody else may have that pid here: the lock
that it holds on its cell tells whether it lives.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from sidecar.wire import cell as layout
from sidecar.wire import process

from .cell import CellReader, RefusedError, header_of, locked
from .holders import Shown
from .mode import Mode

REASONS: Final = (
    "path", "missing", "folder", "not_a_file", "owner", "mode", "size", "magic", "version", "slots", "pid", "process",
    "loop", "truncated", "clock", "loops", "announced",
)  # fmt: skip
_MAX_PATH: Final = 4096


def open_cell(path: str, pid: int, loop_id: int, shown: Shown = str, namespace: int = 0) -> CellReader:
    """Open and verify the cell that a process announced; `shown` says how a tenant's id is shown to people.

    The file must be a regular one, reached by no symbolic link at its end, ours (the watchdog runs as the application's
    user), closed to others like its folder, of exactly the size that its header implies, and written by the process
    that announced it: its pid, and the start time that the system tells of that pid. Where that cannot be looked up,
    somebody must hold the lock.

    Args:
        namespace: in which the process counts pids, as it said; 0 when it does not know.

    Raises:
        RefusedError: it is not.
    """
    if not path.startswith("/") or len(path) > _MAX_PATH or "\0" in path:
        raise RefusedError("path", "the path is not absolute, too long, or holds NUL")
    _check_folder(Path(path).parent)
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise RefusedError("missing", f"it cannot be opened: {error.strerror}") from None
    try:
        return _verified(descriptor, pid, loop_id, Path(path).parent, shown, namespace)
    except BaseException:
        os.close(descriptor)
        raise


def _check_folder(folder: Path) -> None:
    try:
        found = folder.lstat()
    except OSError as error:
        raise RefusedError("folder", f"its folder cannot be looked at: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise RefusedError("folder", "its folder is a link, another user's, or open to others")


def _verified(descriptor: int, pid: int, loop_id: int, folder: Path, shown: Shown, namespace: int) -> CellReader:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise RefusedError("not_a_file", "it is not a regular file")
    if found.st_uid != os.geteuid():
        raise RefusedError("owner", "it belongs to another user")
    if found.st_mode & 0o077:
        raise RefusedError("mode", "others may read or write it")
    header = header_of(descriptor)
    if header[layout.MAGIC] != layout.MAGIC_VALUE:
        raise RefusedError("magic", "it is not a cell")
    if header[layout.LAYOUT] != layout.VERSION:
        raise RefusedError("version", f"it has layout {header[layout.LAYOUT]}, not {layout.VERSION}")
    slots = header[layout.SLOTS]
    if not 2 <= slots <= layout.MAX_SLOTS:
        raise RefusedError("slots", "it has an impossible number of slots")
    if found.st_size != layout.size(slots):
        raise RefusedError("size", "its size is not that of its slots")
    if header[layout.PID] != pid:
        raise RefusedError("pid", "it is another process's")
    if header[layout.LOOP_ID] != loop_id:
        raise RefusedError("loop", "it is another loop's")
    start = header[layout.PROCESS_START]
    mode = _mode(descriptor, pid, start, namespace)
    counting = "" if mode is Mode.CELL else f"namespace {namespace}"
    return CellReader(descriptor, slots, mode, (counting, pid, start), loop_id, folder, shown)


def _mode(descriptor: int, pid: int, start: int, namespace: int) -> Mode:
    ours = process.pid_namespace()
    if namespace in (0, ours):
        alive = process.stat(pid)
        if alive is not None and alive[1] == start:
            return Mode.CELL
    if (namespace and namespace == ours) or not locked(descriptor):
        raise RefusedError("process", "no such process runs here, or it gave its cell up")
    return Mode.CELL_ALONE
