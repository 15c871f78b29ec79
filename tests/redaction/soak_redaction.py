"""The long run of the redaction tests: a million trials on all cores, then the parser is fuzzed where coverage leads.

Every fortieth trial is of a long request (`row_trials.py`), every twentieth besides of what an attacker writes
(`wire_trials.py`), the others of small ones made from the descriptors.

    python tests/redaction/soak_redaction.py [--messages 1000000] [--fuzz-seconds 600]

Trials start at a seed drawn anew, which is printed: `--seed N --messages 1` runs one again. Fuzzing needs atheris,
which has no wheels for every platform: where it cannot be installed, `--fuzz-seconds 0` leaves it out. Status 1 when
anything failed, or was to be done and could not be.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
BLOCK = 2000
EVERY = 20


def block(start: int, count: int = BLOCK) -> tuple[list[str], Counter[str]]:
    """The failures of some trials, one line each; how many records of long requests there were, and were walked."""
    from redaction_trials import trial
    from row_trials import SEEN, row_trial
    from wire_trials import wire_trial

    SEEN.clear()
    failures = []
    for seed in range(start, start + count):
        try:
            (trial if seed % EVERY else wire_trial if seed % (2 * EVERY) else row_trial)(seed)
        except Exception as error:  # whatever it is, it is a failure of this seed
            failures.append(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} (seed {seed})")
    return failures, SEEN


def _block(start_and_count: tuple[int, int]) -> tuple[int, list[str], Counter[str]]:
    return start_and_count[1], *block(*start_and_count)


def run_trials(first: int, messages: int, workers: int) -> int:
    """Run them; how many failed."""
    starts = [(start, min(BLOCK, first + messages - start)) for start in range(first, first + messages, BLOCK)]
    done = failed = 0
    seen: Counter[str] = Counter()
    began = time.monotonic()
    # Each block in whichever process is free; none is forked after gRPC was used, for nothing here uses it.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for count, failures, records in pool.imap_unordered(_block, starts):
            done += count
            failed += len(failures)
            seen += records
            for line in failures[:5]:
                print(line, flush=True)
            if done % (10 * BLOCK) == 0:
                print(f"{done} of {messages}, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    seconds = time.monotonic() - began
    print(f"{done} messages from seed {first}: {failed} failed; {seconds:.0f} s, {workers} processes")
    rows = seen["records"] - seen["walked"]
    print(f"{seen['records']} records of long requests, {rows} of them judged with others")
    if not rows:
        print("no record was judged with others: this did not try what it is for")
        failed += 1
    return failed


def fuzz(seconds: int) -> int:
    """Run the fuzzer in a process of its own; its status."""
    if not seconds:
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed (`pip install --group soak`): the parser is not fuzzed")
        return 1
    command = [sys.executable, str(HERE / "fuzz_redaction.py"), f"-max_total_time={seconds}", "-max_len=1200"]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Trials, then fuzzing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(40))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fuzz-seconds", type=int, default=600)
    options = parser.parse_args()
    failed = run_trials(options.seed, options.messages, options.workers)
    return 1 if fuzz(options.fuzz_seconds) or failed else 0


if __name__ == "__main__":
    sys.exit(main())
