"""The process dies, or the power goes, at every single operation on the disk: nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from otlp_peers import PATIENCE, outlet

from sidecar.delivery import Batch, BatchQueue, Way
from sidecar.delivery.disk import Folder
from sidecar.ledger import Ledger

BOUND = 8 * 136  # segments of 136 bytes: every third batch begins a new one
OPERATIONS = ["create", "write", "reserve", "truncate", "sync", "sync_names", "rename", "remove"]


class Died(BaseException):
    """The end of the process."""


class Life:
    """One process's use of the disk; it dies at operation number `last`, before it or after it.

    What the disk would show after a power cut is known too: files that were written and not synced, names that were
    changed and not synced.
    """

    def __init__(self, last: int, after: bool) -> None:
        self.left, self.after = last, after
        self.died = False
        self.synced: dict[str, int] = {}  # sizes of files that would survive
        self.undone: list[tuple[str, bytes | None]] = []  # names and contents before changes that may not survive

    def folder(self, path: Path) -> Folder:
        life = self

        class Watched(Folder):
            def __getattribute__(self, name: str) -> Any:
                real = super().__getattribute__(name)
                return life.step(self, name, real) if name in OPERATIONS else real

        return Watched(path)

    def step(self, folder: Folder, name: str, real: Any) -> Any:
        def operation(*arguments: Any) -> Any:
            if self.died:
                raise Died
            self.left -= 1
            if self.left < 0 and not self.after:
                self.died = True
                if name == "write":  # half of it got through
                    data = b"".join(arguments[1:])
                    real(arguments[0], data[: len(data) // 2])
                raise Died
            self.before(folder, name, arguments)
            result = real(*arguments)
            if name == "sync":
                self.synced[name_of(arguments[0])] = os.fstat(arguments[0]).st_size
            if name == "sync_names":
                self.undone.clear()
            if self.left < 0:
                self.died = True
                raise Died
            return result

        return operation

    def before(self, folder: Folder, name: str, arguments: tuple[Any, ...]) -> None:
        def remember(file: str) -> None:
            path = folder.path / file
            self.undone.append((file, path.read_bytes() if path.exists() else None))

        if name in ("create", "remove"):
            remember(arguments[0])
        if name == "rename":
            remember(arguments[0])
            remember(arguments[1])

    def cut_power(self, path: Path) -> None:
        """Leave on disk only what was synced."""
        for file, size in self.synced.items():
            if (path / file).exists() and (path / file).stat().st_size > size:
                os.truncate(path / file, size)
        for file, content in reversed(self.undone):
            if content is None:
                (path / file).unlink(missing_ok=True)
            else:
                (path / file).write_bytes(content)


def name_of(descriptor: int) -> str:
    return Path(f"/proc/self/fd/{descriptor}").readlink().name


def bury(queue: BatchQueue | None) -> None:
    """What the kernel does for a dead process."""
    if queue is not None:
        queue._owner.release()
        for outlet in queue.outlets.values():
            outlet._reader.close()
        if queue._writer._descriptor >= 0:
            os.close(queue._writer._descriptor)
        queue._folder.leave()


WAYS = (Way("near"), Way("far", may_lose=False))  # the far one is at half the pace
NAMES = [way.name for way in WAYS]


def opened(state: Path, open_folder: type[Folder] | Any = Folder) -> BatchQueue:
    return BatchQueue(state, Ledger(NAMES), BOUND, ways=WAYS, open_folder=open_folder)


class Story:
    """What senders and the destinations saw."""

    def __init__(self) -> None:
        self.offered = 0
        self.acknowledged: list[int] = []
        self.delivered: dict[str, list[tuple[str, int]]] = {name: [] for name in NAMES}

    def live(self, state: Path, life: Life) -> bool:
        """Offers, deliveries, a good end, and again; False when it was cut short."""
        for _ in range(2):
            queue = None
            try:
                queue = opened(state, life.folder)
                self.work(queue)
                queue.release()
            except Died:
                bury(queue)
                return False
        return True

    def work(self, queue: BatchQueue) -> None:
        for round_ in range(4):
            for _ in range(3):
                self.offered += 1
                if queue.offer(Batch("traces", f"{self.offered:010}".encode(), 1)) is None:
                    self.acknowledged.append(self.offered)
            for number in range(round_ + 1):
                self.deliver(queue, "near")
                if number % 2:
                    self.deliver(queue, "far")
            queue._stock.note()

    def deliver(self, queue: BatchQueue, name: str) -> bool:
        batch = queue.outlets[name].head(0)
        if batch is None:
            return False
        self.delivered[name].append((batch.id, int(batch.payload)))
        queue.outlets[name].done()
        return True


def check(state: Path, story: Story) -> None:
    """The next process delivers what is missing, in order; what comes twice comes under the same id."""
    queue = opened(state)
    for destination, delivered in story.delivered.items():
        before = len(delivered)
        while story.deliver(queue, destination):
            pass
        after = [number for _, number in delivered[before:]]
        assert after == sorted(set(after))
        assert {number for _, number in delivered} >= set(story.acknowledged)
        names: dict[int, str] = {}
        for name, number in delivered:
            assert names.setdefault(number, name) == name
        assert len(set(names.values())) == len(names)
    assert queue.offer(Batch("traces", b"1", 1)) is None
    queue.release()


def steps() -> int:
    """How many operations the whole story takes."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(10**9, after=False)
        assert Story().live(Path(folder) / "state", life)
        return 10**9 - life.left


@pytest.mark.parametrize("power", ["power stays", "power goes"])
@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
def test_death_at_every_operation(tmp_path: Path, after: bool, power: str) -> None:
    """Write, sync, rename, remove, cut: whichever is the last, acknowledged batches arrive at both, in order."""
    total = steps()
    assert total > 100
    for last in range(0, total, 3 if after else 1):  # after one is before the next, but for halves of writes
        state = tmp_path / f"{last}"
        life, story = Life(last, after), Story()
        assert not story.live(state, life)
        if power == "power goes":
            life.cut_power(state / "queue")
        check(state, story)


def test_death_while_recovering_from_death(tmp_path: Path) -> None:
    """A second crash during the first one's recovery changes nothing."""
    for first in range(20, steps(), 7):
        for second in range(6):
            state = tmp_path / f"{first}-{second}"
            story = Story()
            assert not story.live(state, Life(first, after=False))
            story.live(state, Life(second, after=True))
            check(state, story)


def test_progress_that_is_noted_during_a_write_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new segment is being written while the last one before it is removed: the cursor stays before the new one."""
    queue = BatchQueue(tmp_path / "state", Ledger(), 8)  # every batch has a segment of its own
    queue._max_bytes = 1_000
    assert queue.offer(Batch("traces", b"first", 1)) is None
    assert outlet(queue).head(0) is not None
    outlet(queue).done()
    busy, go_on, real = threading.Event(), threading.Event(), os.fdatasync

    def sync(descriptor: int) -> None:
        if threading.current_thread() is sender:
            busy.set()
            assert go_on.wait(PATIENCE)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    answers: list[str | None] = []
    sender = threading.Thread(target=lambda: answers.append(queue.offer(Batch("traces", b"second", 1))))
    sender.start()
    assert busy.wait(PATIENCE)
    assert outlet(queue).head(0) is None  # notes progress, and removes the first segment
    go_on.set()
    sender.join()
    assert answers == [None]
    bury(queue)
    queue = BatchQueue(tmp_path / "state", Ledger())
    batch = outlet(queue).head(0)
    assert batch is not None
    assert batch.payload == b"second"
    queue.release()
