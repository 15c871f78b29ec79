"""A process offers its memory only if it has proved that its stacks would be read right; and it stays as it was."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instrumentation import diagnostics
from instrumentation.loop import Loops, offer
from instrumentation.loop.offer import Offer
from sidecar.wire import cell as layout
from sidecar.wire import frames

PYTHON = sys.hexversion >> 16
DEADLINE = 30.0
NOWHERE = "unix:/nonexistent/tenantscope.sock"


def words(loops: Loops) -> memoryview:
    (account,) = loops._accounts.values()
    return account.words


def test_the_thread_of_a_loop_is_offered(loops: Loops, make_loop: Callable[[], Any]) -> None:
    """In the cell; and of the thread that runs the loop now, if that is another one later."""
    loop = make_loop()
    found: list[tuple[int, int, int]] = []

    def run() -> None:
        loop.run_until_complete(asyncio.sleep(1))  # long enough for the loop's own timer
        found.append((words(loops)[layout.PYTHON], words(loops)[layout.THREAD_STATE], offer_of_this_thread()))

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE)
    (first, second) = found
    assert first == (PYTHON, first[2], first[2])
    assert second == (PYTHON, second[2], second[2])
    assert first[1] != second[1]


def offer_of_this_thread() -> int:
    return offer._thread_state_of_caller()()


# Names in the proof are ASCII, and 3.11 has no frames that only mark a call from C: `shapes` in tests/stalls has both.
NOT_IN_THE_PROOF = ("wide_text", "owner")
FIELDS = [field.name for field in dataclasses.fields(frames.Layout) if field.name not in NOT_IN_THE_PROOF]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("off_by", [-8, 8, 16])
def test_a_layout_that_does_not_hold_is_not_proved(field: str, off_by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever offset is wrong: what would be read is not what Python says, and the process goes on."""
    right = frames.LAYOUTS[PYTHON]
    value = getattr(right, field)
    wrong = (value[0] + off_by, *value[1:]) if isinstance(value, tuple) else value + off_by
    monkeypatch.setitem(frames.LAYOUTS, PYTHON, dataclasses.replace(right, **{field: wrong}))
    assert not offer._proved.__wrapped__()


def test_what_is_not_proved_is_not_offered(
    cells: Path, monkeypatch: pytest.MonkeyPatch, make_loop: Callable[[], Any]
) -> None:
    """A version that is not known: counted once, and its loops are accounted as ever."""
    monkeypatch.delitem(frames.LAYOUTS, PYTHON)
    offer._proved.cache_clear()
    before = diagnostics.counts().get("stacks.not_offered", 0)
    try:
        for _ in range(2):
            loops = Loops(cells, "service", "instance", NOWHERE)
            loops.start()
            asyncio.run(asyncio.sleep(0))
            assert sum(loops.totals().active_ns)
            loops.stop()
        assert Offer().python == Offer().thread_state() == 0
    finally:
        offer._proved.cache_clear()
    assert diagnostics.counts()["stacks.not_offered"] == before + 1


def test_nothing_is_offered_when_it_is_not_to_be() -> None:
    """`never` proves nothing and grants nothing."""
    never = Offer("never")
    assert (never.python, never.thread_state()) == (0, 0)
    never.grant(os.getpid())
    never.withdraw()
    assert never._granted is None


def test_only_who_asked_for_it_is_granted_to_be_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each watchdog, and taken back at the end. A system without Yama says so, and is not asked again."""
    asked: list[int] = []
    monkeypatch.setattr(offer, "_let_trace", asked.append)
    permitted, granted = Offer("permitted"), Offer("granted")
    permitted.grant(4711)
    permitted.withdraw()
    assert asked == []
    granted.grant(0)
    granted.grant(4711)
    granted.grant(4711)
    granted.grant(4712)
    granted.withdraw()
    granted.withdraw()
    assert asked == [4711, 4712, 0]


GRANTING = """
import subprocess, sys
from instrumentation.loop.offer import Offer
offer = Offer("granted")
sibling = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
offer.grant(sibling.pid)
print(offer._granted == sibling.pid, offer._may_grant)
offer.withdraw()
sibling.kill()
sibling.wait()
"""


def test_the_system_is_asked_as_it_wants_to_be_asked() -> None:
    """With Yama, the grant is accepted; without, it is known to be impossible."""
    done = subprocess.run([sys.executable, "-c", GRANTING], capture_output=True, text=True, timeout=DEADLINE)
    yama = Path("/proc/sys/kernel/yama/ptrace_scope").exists()
    assert done.stdout == ("True True\n" if yama else "False False\n"), done.stderr


WITHOUT = """
import asyncio, sys
from pathlib import Path
from instrumentation import diagnostics
from instrumentation.loop import Loops
sys.modules["ctypes"] = None  # what we import ourselves has imported it
loops = Loops(Path(sys.argv[1]), "s", "i", "unix:/nonexistent")
loops.start()
async def main():
    await asyncio.sleep(0)
    return len(loops._accounts)
print(asyncio.run(main()), diagnostics.counts()["stacks.not_offered"])
loops.stop()
"""


def test_a_python_without_ctypes_is_accounted_as_ever(cells: Path) -> None:
    """It offers nothing, and says so once."""
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(cells)], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout == "1 1\n", done.stderr
    assert done.stderr.count("stacks cannot be read from outside") == 1
    assert "Traceback" not in done.stderr


def test_the_applications_ctypes_stays_as_it_was(loops: Loops, make_loop: Callable[[], Any]) -> None:
    """What is set on a function of `ctypes.pythonapi` is set for everybody."""
    make_loop().run_until_complete(asyncio.sleep(0))
    assert ctypes.pythonapi.PyThreadState_Get.restype is ctypes.c_int
    assert ctypes.pythonapi.PyThreadState_Get.argtypes is None


def test_the_proof_leaves_no_thread() -> None:
    """The one that was read is gone."""
    assert offer._misread() == ""
    assert not [thread for thread in threading.enumerate() if thread.name == "tenantscope-proof"]
