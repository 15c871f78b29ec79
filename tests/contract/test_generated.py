"""What is written from the code is what the code says: documents, dashboards, the Collector's lists, rules."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest
from required import ROOT

import instrumentation
from docs.reference import ARGUMENTS
from instrumentation.settings import SETTINGS

WRITERS = [
    "docs.reference", "docs.coverage", "docs.reliability", "deploy.collector.lists", "dashboards.grafana.build",
    "deploy.kubernetes.written",
]  # fmt: skip


@pytest.mark.parametrize("module", WRITERS)
def test_what_is_written_is_up_to_date(module: str) -> None:
    """A setting, attribute, metric or alert that is new in a table is where it belongs, after `make docs`; and so is a
    test that proves what is covered, or withstood."""
    command = [sys.executable, "-m", module, "--check"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_make_docs_writes_all_of_it() -> None:
    """Each writer is a line of one target."""
    (recipe,) = re.findall(r"^docs:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"python -m (\S+)", recipe) == WRITERS


def test_arguments_of_start_are_the_ones_that_it_takes() -> None:
    """The reference says which argument wins over which setting; `resolver` has none."""
    taken = set(inspect.signature(instrumentation.start).parameters) - {"resolver"}
    assert set(ARGUMENTS.values()) == taken
    assert set(ARGUMENTS) <= {setting.key for setting in SETTINGS}
