"""What the process keeps of the memory that requests have needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys, threading
from sidecar import memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def request():
    return [bytes(100_000) for _ in range(int(sys.argv[2]))]

if sys.argv[1] != "left alone":
    memory.configure(several=sys.argv[1] == "one of several")
request()
before = faults()
for _ in range(10):
    request()
print(faults() - before)

meeting = threading.Barrier(20)
def work():
    meeting.wait()
    held = [bytes(10_000) for _ in range(20)]
    meeting.wait()
for thread in (threads := [threading.Thread(target=work) for _ in range(20)]):
    thread.start()
for thread in threads:
    thread.join()
sys.stdout.flush()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def run(how: str, blocks: int = 15, **environment: str) -> tuple[int, int]:
    """Pages had from the system for ten requests of so many blocks after the first; stores of all threads."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM, how, str(blocks)]
    printed = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True).stdout
    return int(printed.split("\n", 1)[0]), printed.count("<heap nr=")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")
def test_memory_of_a_request_is_there_for_the_next() -> None:
    """Not had from the system page by page again; and threads that take turns share what they keep."""
    for how in ("alone", "one of several"):
        pages, stores = run(how)
        assert pages < 200
        assert stores <= 2
    left_alone, of_threads = run("left alone")
    assert left_alone > 2000
    assert of_threads > 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")
def test_of_several_processes_none_keeps_what_one_alone_would() -> None:
    """What all may have together is bounded."""
    assert run("alone", 60)[0] < 1000
    assert run("one of several", 60)[0] > 2000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")
def test_the_operators_own_settings_win() -> None:
    """What glibc's variables say is left as it is."""
    pages, stores = run("alone", MALLOC_ARENA_MAX="5", MALLOC_TRIM_THRESHOLD_="131072")
    assert pages > 2000
    assert stores > 2
