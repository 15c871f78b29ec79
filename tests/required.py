"""Programs of others that tests run: in PATH or in the user's cache, else the test is skipped.

Where the variable that goes with a program is 1, the test fails instead: nothing goes untested there unseen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent


def give_up(variable: str, why: str) -> NoReturn:
    """Skip the test, or fail it when `variable` is 1."""
    (pytest.fail if os.environ.get(variable) == "1" else pytest.skip)(why)
    raise AssertionError  # not reached


def program(*names: str, variable: str, package: str) -> str:
    """Path of a program, by any of its names."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or give_up(variable, f"no {names[0]} in PATH: on Debian `apt-get install {package}`")


def alertmanager() -> str:
    """Path of the Alertmanager."""
    package = "prometheus-alertmanager"
    return program("prometheus-alertmanager", "alertmanager", variable="REQUIRE_ALERTMANAGER", package=package)


def promtool() -> str:
    """Path of what checks Prometheus's files."""
    return program("promtool", variable="REQUIRE_PROMTOOL", package="prometheus")


def prometheus() -> str:
    """Path of Prometheus."""
    return program("prometheus", variable="REQUIRE_PROMTOOL", package="prometheus")


def made(module: str, *, variable: str, target: str) -> Path:
    """What `make TARGET` puts into the user's cache by running `module`."""
    command = [sys.executable, "-m", module, "--where"]
    found = Path(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip())
    return found if found.exists() else give_up(variable, f"{found.name} is not there: run `make {target}`")


def collector() -> Path:
    """Path of the Collector."""
    return made("deploy.collector.build", variable="REQUIRE_COLLECTOR", target="collector")
