"""Asks hop after hop, and prints what each says; the first that fails is the last that is asked."""

from __future__ import annotations

import sys
from typing import TextIO

from sidecar.alerts import printable
from tenantscope.view.client import Admin

from .hops import HOPS, Failed, Visit

_WIDTH = max(len(name) for name, _ in HOPS)
_MAX_LINE = 400


def run(endpoint: str | None, admin: Admin, out: TextIO = sys.stdout) -> int:
    """0 when a span gets all the way, 1 when it doesn't."""
    return visit(Visit(endpoint, admin), out)


def visit(state: Visit, out: TextIO) -> int:
    """Ask every hop of `HOPS` in turn."""
    for number, (name, hop) in enumerate(HOPS):
        try:
            said = hop(state)
        except Failed as failed:
            _line(out, name, "FAILS", failed.why)
            for advice in failed.advice:
                _line(out, "", "", advice)
            rest = ", ".join(other for other, _ in HOPS[number + 1 :])
            if rest:
                _line(out, "", "", f"(not asked: {rest})")
            return 1
        _line(out, name, "ok", said)
    return 0


def _line(out: TextIO, name: str, verdict: str, text: str) -> None:
    print(f"  {name:{_WIDTH}}  {verdict:5}  {printable(text, _MAX_LINE)}", file=out, flush=True)
