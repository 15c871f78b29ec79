"""Takes the stack of a slice before it is a stall, so that a watchdog finds it when it asks.

A thread that wakes a few times in each threshold. It takes the stacks of slices that have lasted for 60 % of it, and
again each time their age has doubled; a slice that ends before costs nothing. While it sleeps, `faulthandler`'s timer
stands by: it is due before any slice can reach the threshold, and put off each time the thread wakes. So it only ever
goes off when this thread could not run, which is when the interpreter is held and frames stand still.

What it refuses: to run without a watchdog, which tells the threshold; to be in a forked child, where a timer that was
armed would keep the child from exiting for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from instrumentation.diagnostics import fault
from sidecar.wire import cell
from sidecar.wire import stacks as layout

from .account import Account
from .stack import text_of
from .stacks import StacksFile
from .timer import Timer, usable

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
        self._timer = Timer()
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
        """Look no more; the file goes, and the timer is the application's again."""
        self._stopping = True
        self._changed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def before_fork(self) -> None:
        """Call the timer off, and keep it off until `after_fork`."""
        self._timer.hold()

    def after_fork(self) -> None:
        """In the parent."""
        self._timer.release()
        self._changed.set()

    def forget(self) -> None:
        """In a forked child: nothing here is ours."""
        self._stopping = True
        self._timer.forget()
        if self._file is not None:
            self._file.forget()

    def _run(self) -> None:
        file = self._file
        assert file is not None  # noqa: S101  # for mypy: made before the thread
        self._timer.open()
        try:
            while not self._stopping:
                self._changed.clear()
                self._changed.wait(self._round(file))
        finally:
            self._timer.close()
            file.close()

    def _round(self, file: StacksFile) -> float | None:
        """Look once; returns the seconds until the next look, None: until something changes."""
        if self._stopping or not self._stall_ns:
            self._timer.cancel()
            return None
        try:
            now = self._clock()
            text, due, wake = self.look(now)
            if text is not None:
                file.publish(now, text)
            if now >= self._check_at:
                self._check_at = now + _CHECK_NS
                if not file.ours():
                    raise OSError("the descriptor was closed by somebody else")
            self._stand_by(file, due)
            return max(0, wake - self._clock()) / 1e9
        except Exception as error:
            fault("loop.lookout", error)
            self._stopping = True
            self._timer.cancel()
            return 0

    def _stand_by(self, file: StacksFile, due: int) -> None:
        self._timer.cancel()
        if not usable():
            file.expect(0, layout.NO_TIMER)
        elif self._timer.in_use:
            file.expect(0, layout.TIMER_IN_USE)
        else:
            file.expect(due, 0)
            self._timer.arm((due - self._clock()) / 1e9, file.descriptor)

    def look(self, now: int) -> tuple[bytes | None, int, int]:
        """The stacks to publish if there are new ones, when the timer is due, and when to look next."""
        stall = self._stall_ns
        seen: dict[int, tuple[int, int, bytes | None]] = {}
        new = False
        oldest = now  # a slice that has yet to begin cannot be older
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
            elif text is None:
                oldest = min(oldest, began)
            seen[loop_id] = running, again, text
            wake = min(wake, again)
        self._seen = seen
        texts = b"".join(text or b"" for _, _, text in seen.values())
        return texts if new else None, oldest + stall * 9 // 10, wake
