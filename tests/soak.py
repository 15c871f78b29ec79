"""The long run: every stage of it, one after the other, each in a process of its own.

    make soak [ARGS="--size 0.1 --only redaction fuzzer kills sidecar"]

Says before each stage when the whole will be over, which is worked out anew from how long the stages so far took, and
ends with a line for each. A stage that fails does not keep the others from being tried; status 1 when one failed.
What it refuses: to call a stage held that ended in any way but well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Stage:
    """A program, and how much there is for it to do.

    Attributes:
        seconds: that it takes in full on two cores with nothing else to do; always: that it takes even of a small size.
            Both for the estimate alone.
        script: under `tests/`. full: numbers by option, at size 1. least: below which it would not try anything.
        fixed: options that have no size.
    """

    seconds: float
    always: float
    script: str
    full: dict[str, int]
    least: int
    fixed: tuple[str, ...] = ()

    def takes(self, size: float) -> float:
        """Seconds, as far as one can know."""
        return self.always + self.seconds * size

    def command(self, size: float) -> list[str]:
        """What to run."""
        sized = [f"{option}={max(self.least, round(number * size))}" for option, number in self.full.items()]
        return [sys.executable, str(HERE / self.script), *sized, *self.fixed]


STAGES: Final = {
    "redaction": Stage(1500, 5, "redaction/soak_redaction.py", {"--messages": 1_000_000}, 4000, ("--fuzz-seconds=0",)),
    "fuzzer": Stage(600, 15, "redaction/soak_redaction.py", {"--fuzz-seconds": 600}, 10, ("--messages=4000",)),
    "kills": Stage(600, 5, "delivery/soak_delivery.py", {"--kills": 200}, 3),
    "sidecar": Stage(300, 120, "hostile_input/soak_sidecar.py", {"--tenants": 1_000_000, "--reloads": 1000}, 100),
}


def minutes(seconds: float) -> str:
    """For people."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def run(names: Sequence[str], size: float) -> dict[str, tuple[int, float]]:
    """Run these stages; the status of each, and the seconds that it took."""
    ended: dict[str, tuple[int, float]] = {}
    for number, name in enumerate(names, 1):
        slower = sum(took for _, took in ended.values()) / (sum(STAGES[done].takes(size) for done in ended) or 1)
        rest = sum(STAGES[left].takes(size) for left in names[number - 1 :]) * (slower or 1)
        over = time.strftime("%H:%M", time.localtime(time.time() + rest))
        command = STAGES[name].command(size)
        print(f"== {number} of {len(names)}: {name}; all over in about {minutes(rest)}, at {over}", flush=True)
        print(f"   {' '.join(command[1:])}", flush=True)
        begun = time.monotonic()
        status = subprocess.run(command, check=False).returncode
        ended[name] = status, time.monotonic() - begun
    return ended


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=1.0, help="share of the full run that is to be done")
    parser.add_argument("--only", nargs="+", default=list(STAGES), choices=STAGES, help="stages")
    options = parser.parse_args()
    ended = run(options.only, options.size)
    print(f"== {sum(status == 0 for status, _ in ended.values())} of {len(ended)} stages held, size {options.size:g}")
    for name, (status, took) in ended.items():
        print(f"   {name:10} {'held' if status == 0 else f'FAILED with status {status}'}, {minutes(took)}")
    return int(any(status for status, _ in ended.values()))


if __name__ == "__main__":
    sys.exit(main())
