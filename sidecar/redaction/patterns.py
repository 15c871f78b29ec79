"""A policy's own patterns: what else is a secret here. They are RE2's expressions (google-re2), not Python's.

RE2 runs in linear time whatever the expression and the text, so none can hold the interpreter; it knows neither
lookaround nor back-references, and says so when the policy is read. Every reading of a text is searched
(`disguises.py`), as for the detectors that are built in.

What it refuses: a pattern that is found in nothing at all, one that takes more memory than is reasonable, and a name
that could not stand in a metric and a mask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import re2

MAX_PATTERNS: Final = 64
MAX_EXPRESSION: Final = 1024
_MAX_MEMORY: Final = 1 << 20
#: Names of patterns, and of tiers: they stand in metrics and masks.
NAME: Final = "[a-z][a-z0-9-]{0,31}"


class Patterns:
    """Named expressions, in the order of the policy. Immutable once made.

    Attributes:
        written: expression by name, as the policy's file says it.
        masks: what stands in the place of what they are found in.
    """

    def __init__(self, written: Mapping[str, str]) -> None:
        self.written = dict(written)
        self.masks = frozenset(f"[redacted:{name}]".encode() for name in self.written)
        self._compiled = tuple((name, compile_pattern(expression)) for name, expression in self.written.items())

    def find(self, text: str) -> str | None:
        """The name of the first pattern that is found in a text."""
        return next((name for name, pattern in self._compiled if pattern.search(text) is not None), None)


def compile_pattern(expression: str) -> Any:
    """An expression, ready to search with.

    Raises:
        ValueError: in words: what is wrong with it.
    """
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        pattern = re2.compile(expression, options)
    except re2.error as error:
        what = error.args[0] if error.args else ""
        what = what.decode(errors="replace") if isinstance(what, bytes) else str(what)
        raise ValueError(f"is not an expression of RE2: {what}") from None
    if pattern.search("") is not None:
        raise ValueError("is found in an empty text: it would mask everything")
    return pattern


def is_name(word: str) -> bool:
    """Whether a pattern or a tier may be called so."""
    return re.fullmatch(NAME, word) is not None
