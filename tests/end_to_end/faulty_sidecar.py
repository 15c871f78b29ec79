"""Run as a process of its own: a sidecar whose redaction fails on every attribute with the word `saboteur` in it.

No input is known that makes a rule of redaction fail; one that were would be a fault to correct. So one is put in.
"""

from __future__ import annotations

import sys

from sidecar.__main__ import main
from sidecar.redaction.gates import AttributeGate

_judge = AttributeGate.judge


def judge(self: AttributeGate, entry: bytes, keys: int, *tenant: bytes) -> object:
    """Fails, or does what it should."""
    if b"saboteur" in entry:
        raise ArithmeticError
    return _judge(self, entry, keys, *tenant)


AttributeGate.judge = judge  # type: ignore[method-assign, assignment]

if __name__ == "__main__":
    sys.exit(main([]))
