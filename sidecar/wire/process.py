"""Which process is this? Both sides of the cell tell a process from a later one with the same pid by its start time.

Linux only: without `/proc` there is no answer, and nothing that depends on it is trusted.
"""

from __future__ import annotations

import os
from pathlib import Path


def read(path: str) -> bytes:
    """A small file of `/proc`, at a fifth of what a file object costs.

    Raises:
        OSError: there is no such process any more.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 16_384)
    finally:
        os.close(descriptor)


def stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time (fields 3 and 22 of `/proc/<pid>/stat`) of a process; None when there is none."""
    try:
        return parsed(read(f"/proc/{pid}/stat"))
    except OSError:
        return None


def parsed(stat: bytes) -> tuple[str, int]:
    """State letter and start time in the text of a `stat` file."""
    # The second field is the command in parentheses, and may itself hold spaces and parentheses.
    fields = stat[stat.rfind(b")") + 2 :].split(b" ", 20)
    return fields[0].decode("ascii"), int(fields[19])


def run_delay(pid: int, thread: int) -> int:
    """Nanoseconds that a thread was ready to run and had no CPU, since it began; 0 when the system does not tell."""
    try:
        return int(read(f"/proc/{pid}/task/{thread}/schedstat").split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def own_start() -> int:
    """Start time of this process; 0 when the system does not tell."""
    found = stat(os.getpid())
    return 0 if found is None else found[1]


def clock() -> str:
    """Whose `CLOCK_MONOTONIC` this is: two processes with the same answer share one; empty when nobody can tell.

    The boot of the kernel, and the time namespace, which may shift that clock.
    """
    try:
        boot = read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
        return f"{boot}/{_namespace('time')}"
    except (OSError, UnicodeDecodeError):
        return ""


def pid_namespace() -> int:
    """In which of the kernel's pid namespaces this process counts pids; 0 when the system does not tell."""
    return _namespace("pid")


def _namespace(kind: str) -> int:
    try:
        return Path(f"/proc/self/ns/{kind}").stat().st_ino
    except OSError:
        return 0
