"""The event loop by tenant: slices, the cells that publish them, and the link to the watchdog.

`Loops` joins them for one process. It accounts every asyncio loop of the process from the loop's next callback on,
however many there are, in whatever thread, made before or after `start`. It holds no loop alive.

What it refuses: to reach the application with a fault of its own. Whatever fails here is counted, and costs at most the
accounting of that loop. In a forked child it stands still and touches nothing of the parent's; the child makes another.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from instrumentation import tenancy
from instrumentation.diagnostics import fault
from instrumentation.settings import PERMITTED
from sidecar.wire import cell as layout

from . import cell as cells
from .account import Account
from .cpu_time import CpuDelay
from .delays import Delays
from .heartbeat import Heartbeat
from .link import Link
from .lookout import Lookout
from .offer import Offer
from .run_delay import own
from .slices import ATTRIBUTE, Slices
from .totals import Reader, Sum, Totals
from .victims import Queued

__all__ = ["Delays", "Loops", "Totals"]


class Loops:
    """Accounts the event loops of this process.

    Args:
        cell_dir: folder of the cells, ours alone; None picks one in shared memory.
        service_name: `service.name`, for the watchdog.
        instance: `service.instance.id`, for the watchdog.
        endpoint: where the sidecar listens: `http://host:port`, `https://host:port` or `unix:...`.
        read_stacks: whether the watchdog may read the stacks of loops from this process's memory, see `offer`.
        queued: tells what waits in queues above a loop, see `victims`.
        clock: nanoseconds of `CLOCK_MONOTONIC`.
        wall: nanoseconds since 1970.
        cpu_clock: nanoseconds of CPU time that the calling thread has used.
        run_delay: nanoseconds that the calling thread was ready and had no CPU; None when not known. Must not raise.
    """

    def __init__(
        self,
        cell_dir: Path | None,
        service_name: str,
        instance: str,
        endpoint: str,
        *,
        read_stacks: str = PERMITTED,
        queued: Queued = lambda _: (),
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], int] = time.time_ns,
        cpu_clock: Callable[[], int] = time.thread_time_ns,
        run_delay: Callable[[], int | None] = own,
    ) -> None:
        self._cell_dir = cell_dir
        self._queued = queued
        self._folder: Path | None = None
        self._clock = clock
        self._wall = wall
        self._cpu_clock = cpu_clock
        self._run_delay = run_delay
        self._slices = Slices(self._adopt, self._abandon, clock)
        self._read_stacks = read_stacks
        self._offer: Offer | None = None
        self._link = Link(endpoint, service_name, instance, self._alive, self._unreadable)
        self._lookout = Lookout(self._shared, clock)
        self._ids = itertools.count(1)
        # Written from the loops' threads, where waiting for a lock is out of the question.
        self._accounts: dict[int, Account] = {}
        self._heartbeats: dict[int, Heartbeat] = {}
        self._left_alone: list[weakref.ref[Any]] = []
        # Finalizers may run at any moment in any thread, also in one that holds a lock: `put` is safe there.
        self._ended: SimpleQueue[Account] = SimpleQueue()
        self._reading = threading.Lock()
        self._retired = Sum(tenancy.TABLE.slots)
        self._reader = Reader()
        self._cpu_delay = CpuDelay()
        self._running = False

    def start(self) -> None:
        """Account from the next callback of each loop on."""
        if self._running:
            return
        self._running = True
        _instances.add(self)
        self._folder = cells.folder(self._cell_dir)
        if self._folder is not None:
            cells.sweep(self._folder)
            self._offer = Offer(self._read_stacks)
        self._slices.install()

    def stop(self, timeout: float = 2.0) -> None:
        """Leave every loop as it was, remove the cells, end the link within `timeout` seconds. Totals stay readable."""
        if not self._running:
            return
        self._running = False
        self._slices.uninstall()
        for account in list(self._accounts.values()):
            try:
                self._leave(account)
            except Exception as error:
                fault("loop.leave", error)
        self._unmark_left_alone()
        self._lookout.stop(timeout / 4)
        self._link.stop(timeout)
        if self._offer is not None:
            self._offer.withdraw()
        with self._reading:
            self._settle()

    def totals(self) -> Totals:
        """A reading of all loops, those that ended included."""
        with self._reading:
            total, accounts = self._sum()
            threads = [account.words[layout.THREAD] for account in accounts]
            return self._reader.read(total, len(accounts), self._cpu_delay.read(threads), self._wall())

    def _sum(self) -> tuple[Sum, list[Account]]:
        self._settle()
        now = self._clock()
        total = Sum(tenancy.TABLE.slots)
        total.merge(self._retired)
        accounts = list(self._accounts.values())
        for account in accounts:
            total.add(account, now)
        return total, accounts

    def are_quiet(self, slot: int, since: int) -> bool:
        """Whether no loop can count in this slot any more, if its tenant left it at `since`, by the loops' clock."""
        with self._reading:
            self._settle()
            return all(account.is_quiet(slot, since) for account in list(self._accounts.values()))

    def hand_over(self, slot: int, owner: int) -> None:
        """A quiet slot is to be another tenant's, whose figures begin at 0; what was counted so far has been told.

        Args:
            owner: how many tenants the slot was taken from before.
        """
        with self._reading:
            for account in list(self._accounts.values()):
                account.give_up(slot)
            total, accounts = self._sum()
            self._reader.hand_over(slot, owner, total, self._wall())
            for account in accounts:
                account.vacate(slot)

    def overran(self, loop: Any, slot: int, budget: str) -> None:
        """A turn on this loop is over its budget: for the watchdog. On the loop's thread; never raises."""
        account = getattr(loop, ATTRIBUTE, None)
        if account is not None:
            account.overran(slot, budget)

    def queued(self, loop: Any, slot: int, wait_ns: int) -> None:
        """A message waited so long for its handler on this loop. On the loop's thread; never raises."""
        account = getattr(loop, ATTRIBUTE, None)
        if account is not None:
            account.queued(slot, wait_ns)

    def _adopt(self, loop: Any) -> Account | None:
        """At the first callback of a loop, on its thread."""
        try:
            if not self._slices.accounts(loop):
                raise TypeError("not a loop of asyncio or uvloop")
            loop_id = next(self._ids)
            cell = cells.Cell.create(self._folder, loop_id, self._clock(), self._clock)
            account = Account(
                loop,
                loop_id,
                tenancy.TABLE.slots,
                cell,
                self._clock,
                self._cpu_clock,
                self._queued,
                self._offer,
                self._run_delay,
                tenancy.TABLE.generations,
            )
            account.loop = weakref.ref(loop, lambda _: self._gone(account))
            heartbeat = Heartbeat(account, self._gone, self._slices.call_later)
            self._heartbeats[loop_id] = heartbeat
            self._accounts[loop_id] = account
            setattr(loop, ATTRIBUTE, account)
            heartbeat.arm(loop)
            account.heartbeat = heartbeat.timer
            self._link.announce(account)
            if self._reading.acquire(blocking=False):
                try:
                    self._settle()
                finally:
                    self._reading.release()
            return account
        except Exception as error:
            self._abandon(loop, error)
            return None

    def _abandon(self, loop: Any, error: Exception) -> None:
        """The accounting of this loop failed: count it, and leave the loop alone from now on."""
        try:
            account = getattr(loop, ATTRIBUTE, None)
            setattr(loop, ATTRIBUTE, None)
            self._left_alone = [known for known in self._left_alone if known() is not None] + [weakref.ref(loop)]
            fault("loop.accounting", error)
            if account is not None:
                self._leave(account)
                setattr(loop, ATTRIBUTE, None)
        except Exception as second:
            fault("loop.abandon", second)

    def _leave(self, account: Account) -> None:
        """Take everything of ours off a loop."""
        heartbeat = self._heartbeats.get(account.loop_id)
        loop = account.loop()
        if heartbeat is not None:
            if loop is not None and loop.is_running() and account.thread != threading.get_ident():
                with suppress(RuntimeError):  # closed this very moment
                    loop.call_soon_threadsafe(heartbeat.cancel, context=Context())
            else:
                heartbeat.cancel()
        if loop is not None:
            with suppress(AttributeError):
                delattr(loop, ATTRIBUTE)
        self._gone(account)

    def _unmark_left_alone(self) -> None:
        for known in self._left_alone:
            loop = known()
            if loop is not None:
                with suppress(AttributeError):
                    delattr(loop, ATTRIBUTE)
        self._left_alone = []

    def _gone(self, account: Account) -> None:
        """A loop was closed, freed, or left. May run inside a finalizer: takes no lock, and does not raise."""
        try:
            if account.finish():
                self._ended.put(account)
                self._link.withdraw(account.loop_id)
        except Exception:
            pass

    def _settle(self) -> None:
        """Move the accounts that ended to the retired totals; with `_reading` held."""
        for account in list(self._accounts.values()):
            loop = account.loop()
            if loop is not None and loop.is_closed():  # and somebody else holds our timer
                self._gone(account)
        with suppress(Empty):
            while True:
                account = self._ended.get_nowait()
                self._accounts.pop(account.loop_id, None)
                self._heartbeats.pop(account.loop_id, None)
                account.cell.release()
                account.let_go()
                self._retired.add(account, account.adopted)
                self._retired.forget_small_pairs()

    def _unreadable(self, stall_ns: int, watchdog: int) -> None:
        """The watchdog cannot read our memory; with 0 it can, or is gone."""
        if self._folder is None or self._offer is None or not self._running:
            return
        if stall_ns:
            self._offer.grant(watchdog)
        self._lookout.watch(self._folder, stall_ns)

    def _alive(self) -> dict[int, Account]:
        return self._accounts.copy()

    def _shared(self) -> dict[int, Account]:
        """The accounts whose cells others can open."""
        return {id_: account for id_, account in self._accounts.copy().items() if account.cell.path is not None}

    def forked(self) -> None:
        """In the child: nothing here is ours any more."""
        if not self._running:
            return
        self._running = False
        self._reading = threading.Lock()
        self._link.forget()
        self._lookout.forget()
        self._slices.uninstall()
        for account in self._accounts.values():
            account.forget()
        for account in self._accounts.values():
            loop = account.loop()
            if loop is not None:
                self._heartbeats[account.loop_id].cancel()
                with suppress(AttributeError):
                    delattr(loop, ATTRIBUTE)
        self._accounts = {}
        self._unmark_left_alone()


_instances: weakref.WeakSet[Loops] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for loops in list(_instances):
        try:
            loops.forked()
        except Exception as error:
            fault("loop.fork", error)


os.register_at_fork(after_in_child=_after_fork_in_child)
