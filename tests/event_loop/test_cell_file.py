"""The cell's file: private, complete when it appears, gone when its loop is, and never a reason to fail."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instrumentation import diagnostics, tenancy
from instrumentation.loop import Loops, cell
from instrumentation.tenancy import tenant
from sidecar.wire import cell as layout
from sidecar.wire import process

NOWHERE = "unix:/nonexistent/tenantscope.sock"


def names_in(raw: bytes) -> list[str]:
    words = memoryview(raw).cast("Q")
    slots = words[layout.SLOTS]
    found = []
    for slot in range(words[layout.NAMES]):
        at = layout.name_offset(slots, slot)
        found.append(raw[at + 8 : at + 8 + words[at // 8]].decode())
    return found


def test_the_file_is_private_complete_and_names_its_tenants(
    loops: Loops, cells: Path, make_loop: Callable[[], Any]
) -> None:
    """Mode 0600 whatever the umask, of the announced size, with identity, and with names old and new."""
    before = tenancy.TABLE.intern("named-before")
    old = os.umask(0o777)
    try:
        make_loop().run_until_complete(asyncio.sleep(0))
    finally:
        os.umask(old)
    after = tenancy.TABLE.intern("named-after-ü")
    (path,) = cells.iterdir()
    raw = path.read_bytes()
    words = memoryview(raw).cast("Q")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(raw) == layout.size(tenancy.TABLE.slots)
    assert words[layout.MAGIC] == layout.MAGIC_VALUE
    assert words[layout.LAYOUT] == layout.VERSION
    assert words[layout.PID] == os.getpid()
    assert words[layout.PROCESS_START] == process.own_start() > 0
    names = names_in(raw)
    assert names[before.slot] == "named-before"
    assert names[after.slot] == "named-after-ü"
    assert names == [known.id for known in tenancy.TABLE.in_order()]


@pytest.mark.parametrize("kind", ["missing", "link", "open to others", "a file"])
def test_without_a_usable_folder_the_accounting_goes_on(
    kind: str, tmp_path: Path, clock: Any, make_loop: Callable[[], Any]
) -> None:
    """A folder that is not ours alone is never used; the totals are the same, and it is counted."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    folder = tmp_path / "folder"
    if kind == "missing":
        folder = tmp_path / "no" / "such" / "folder"
    elif kind == "link":
        folder.symlink_to(private)
    elif kind == "open to others":
        folder.mkdir()
        folder.chmod(0o750)
    else:
        folder.write_text("")
    before = diagnostics.counts().get("cell.no_folder", 0)
    loops = Loops(folder, "service", "instance", NOWHERE, clock=clock)
    loops.start()

    async def work() -> None:
        with tenant("acme"):
            clock.advance(10)

    make_loop().run_until_complete(work())

    assert loops.totals().active_ns[tenancy.TABLE.intern("acme").slot] == 10_000_000
    assert diagnostics.counts()["cell.no_folder"] == before + 1
    assert [path for path in tmp_path.rglob("*") if path.suffix] == []
    loops.stop()


def test_a_full_file_system_is_noticed_before_it_could_hurt(
    clock: Any, cells: Path, make_loop: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks are allocated at once: without room the words go elsewhere, where a later store would be a SIGBUS."""

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)
    loops.start()
    make_loop().run_until_complete(asyncio.sleep(0))

    assert loops.totals().loops == 1
    assert list(cells.iterdir()) == []
    loops.stop()


def test_leftovers_of_killed_processes_are_swept_and_nothing_else(cells: Path) -> None:
    """A dead process's files go; a living one's, a locked one and foreign files stay."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [cells / f"{dead.pid}-1-1.cell", cells / f"{dead.pid}-1-2.new", cells / f"{os.getpid()}-1-1.cell"]
    kept = [cells / f"{os.getpid()}-{process.own_start()}-1.cell", cells / "foreign.txt", cells / "not-ours.cell"]
    for path in gone + kept:
        path.write_bytes(b"")
    link = cells / f"{dead.pid}-1-3.cell"
    link.symlink_to(kept[1])

    assert cell.sweep(cells) == 3
    assert sorted(cells.iterdir()) == sorted([*kept, link])


def test_a_cell_in_use_is_not_swept_by_a_process_that_cannot_see_its_writer(
    loops: Loops, cells: Path, make_loop: Callable[[], Any]
) -> None:
    """Containers may share the folder and not their pids: the writer's lock protects its file."""
    make_loop().run_until_complete(asyncio.sleep(0))
    (path,) = cells.iterdir()
    disguised = path.rename(cells / "1-1-1.cell")
    assert cell.sweep(cells) == 0
    disguised.rename(path)


def test_two_of_the_same_name_are_two(cells: Path) -> None:
    """Containers that share the folder may have processes of the same pid, begun in the same hundredth of a second."""
    made = [cell.Cell.create(cells, 1, 1) for _ in range(2)]
    paths = [one.path for one in made if one.path is not None]
    assert sorted(paths) == sorted(cells.iterdir())
    for one, number in zip(made, (7, 8), strict=True):
        one.words[layout.BEAT] = number
    beats = [int.from_bytes(path.read_bytes()[layout.BEAT * 8 :][:8], sys.byteorder) for path in paths]
    assert beats == [7, 8]
    for one in made:
        one.close()
        one.release()
    assert list(cells.iterdir()) == []


def test_a_cell_that_is_closed_is_not_forgotten_once_more(cells: Path) -> None:
    """What stands in for the words of a closed cell is everybody's: a fork right after a loop's end leaves it."""
    ended, later = (cell.Cell.create(cells, number, 1) for number in (1, 2))
    ended.close()
    for _ in range(2):
        ended.forget()
        later.forget()
    for one in (ended, later):
        one.words[layout.BEAT] = 7
        one.release()


ORPHANS = """
import asyncio, os, signal, sys
from pathlib import Path
from instrumentation.loop import Loops
loops = Loops(Path(sys.argv[1]), "service", "instance", "unix:/nonexistent")
loops.start()
async def main():
    loops._lookout.watch(Path(sys.argv[1]), 10**9)
    if os.fork() == 0:
        print("forked", flush=True)
        sys.stdin.read()
        os._exit(0)
    signal.pause()
asyncio.run(main())
"""


def test_a_child_does_not_pass_for_its_dead_parent(cells: Path) -> None:
    """The lock of a cell says that its writer lives; a child that was forked by it has no part in that."""
    code = [sys.executable, "-c", ORPHANS, str(cells)]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        assert sorted(path.suffix for path in cells.iterdir()) == [".cell", ".stacks"]
        parent.kill()
        parent.wait()
        assert cell.sweep(cells) == 2  # while the child lives


def test_a_table_with_too_many_tenants_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot must fit into the low bits of RUNNING."""
    monkeypatch.setattr(tenancy, "TABLE", tenancy.TenantTable(layout.MAX_SLOTS))
    with pytest.raises(ValueError, match="more slots"):
        cell.Cell.create(None, 1, 1)
