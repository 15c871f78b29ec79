"""Takes the stack of a slice before it is a stall, so that a watchdog finds it when it asks.

A thread that wakes a few times in each threshold. It takes the stacks of slices that have lasted for 60 % of it, and
again each time their age has doubled; a slice that ends before costs nothing.

While C code holds the interpreter (a regular expression that backtracks), no thread can take a stack, and there is none
but for what was taken before. What it refuses: to let `faulthandler`'s timer take one then. It walks frames without the
interpreter's lock, and when this thread was only starved and frames were changing meanwhile, the application crashed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from instrumentation.diagnostics import fault
from sidecar.wire import cell

from .account import Account
from .stack import text_of
from .stacks import StacksFile

_CHECK_NS: Final = 1_000_000_000
_SHORTEST_NS: Final = 5_000_000  # a threshold below it is taken for this: we would do nothing but look
_LONGEST_NS: Final = 3_600_000_000_000


class Lookout:
    """Looks after the loops that `accounts` yields, by id, from the first `watch` on.

    Args:
        accounts: the loops whose cells a watchdog reads.
        clock: nanoseconds, monotonic.
    """

    def __init__(self, accounts: Callable[[], dict[int, Account]], clock: Callable[[], int]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._file: StacksFile | None = None
        self._stall_ns = 0
        # Slices that were seen: loop id -> (its RUNNING word, when to take its stack, the last one; None: not yet).
        self._seen: dict[int, tuple[int, int, bytes | None]] = {}
        self._check_at = 0
        self._changed = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def watch(self, folder: Path, stall_ns: int) -> None:
        """A watchdog came, with this threshold; 0: it left."""
        self._stall_ns = min(max(stall_ns, _SHORTEST_NS), _LONGEST_NS) if stall_ns else 0
        self._changed.set()
        if self._stall_ns and self._thread is None and not self._stopping:
            try:
                self._file = StacksFile.create(folder)
                self._thread = threading.Thread(target=self._run, name="tenantscope-lookout", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError) as error:  # no room; no more threads
                self._stopping = True
                fault("loop.stacks", error)

    def stop(self, timeout: float) -> None:
        """Look no more; the file goes."""
        self._stopping = True
        self._changed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def forget(self) -> None:
        """In a forked child: nothing here is ours."""
        self._stopping = True
        if self._file is not None:
            self._file.forget()

    def _run(self) -> None:
        file = self._file
        assert file is not None  # noqa: S101  # for mypy: made before the thread
        try:
            while not self._stopping:
                self._changed.clear()
                self._changed.wait(self._round(file))
        finally:
            file.close()

    def _round(self, file: StacksFile) -> float | None:
        """Look once; returns the seconds until the next look, None: until something changes."""
        if self._stopping or not self._stall_ns:
            return None
        try:
            now = self._clock()
            text, wake = self.look(now)
            if text is not None:
                file.publish(now, text)
            if now >= self._check_at:
                self._check_at = now + _CHECK_NS
                if not file.ours():
                    raise OSError("the descriptor was closed by somebody else")
            return max(0, wake - self._clock()) / 1e9
        except Exception as error:
            fault("loop.lookout", error)
            self._stopping = True
            return 0

    def look(self, now: int) -> tuple[bytes | None, int]:
        """The stacks to publish if there are new ones, and when to look next."""
        stall = self._stall_ns
        seen: dict[int, tuple[int, int, bytes | None]] = {}
        new = False
        wake = now + stall // 2
        for loop_id, account in self._accounts().items():
            running = account.words[cell.RUNNING]
            if not running:
                continue
            began = running & cell.START_BITS
            before, again, text = self._seen.get(loop_id, (0, 0, None))
            if before != running:
                again, text = began + stall * 6 // 10, None
            if now >= again:
                text = text_of(account)
                # Asked again after the frames were taken: what was taken before the slice's end is of this slice.
                if account.words[cell.RUNNING] != running:
                    continue
                again = now + max(now - began, stall)
                new = True
            seen[loop_id] = running, again, text
            wake = min(wake, again)
        self._seen = seen
        texts = b"".join(text or b"" for _, _, text in seen.values())
        return texts if new else None, wake
