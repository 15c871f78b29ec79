"""Runs `tenantscope policy` in this process and keeps what it printed."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

from tenantscope.cli import main

SMALL = """\
version: 1
attributes:
  tenant.id: {type: string, shape: tenant, max_length: 10}
  a.count: {type: int, min: 0, max: 100}
  a.share: {type: double, min: 0, max: 1}
  a.flag: {type: bool}
  a.list: {type: "string[]", shape: identifier, max_length: 64, max_items: 4}
  a.word: {type: string, shape: enum, values: [b, a]}
events: {}
resource: {}
fields:
  Metric.name: {shape: identifier, max_length: 64}
  Span.name: {shape: operation, verbs: [chat], max_length: 64, misfit: mask}
"""


class Ran(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


def policy(*arguments: str | Path) -> Ran:
    """`tenantscope policy ...`"""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(["policy", *map(str, arguments)])
        except SystemExit as end:
            status = int(str(end.code))
    return Ran(status, out.getvalue(), err.getvalue())


def written(folder: Path, content: str, name: str = "policy.yaml") -> Path:
    """A file with this content."""
    file = folder / name
    file.write_text(content)
    return file
