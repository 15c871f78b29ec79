"""Decides what may leave: a default-deny policy, compiled into one table for every field of all three
signals.

`Redactor.redact` takes the bytes of an OTLP request and returns bytes in which nothing is left that the
policy does not allow. It works on the wire format, never on parsed messages: parsers keep what they don't
know, and merge what comes twice. Why so: `docs/decisions/0004-redaction-on-the-wire.md`.
"""

from __future__ import annotations

from .kernel import Kernel, Malformed, Redacted
from .policy import Policy, PolicyError
from .pseudonyms import MasterKey, Pseudonyms
from .redactor import Redactor, log_fault

__all__ = [
    "Kernel",
    "Malformed",
    "MasterKey",
    "Policy",
    "PolicyError",
    "Pseudonyms",
    "Redacted",
    "Redactor",
    "log_fault",
]
