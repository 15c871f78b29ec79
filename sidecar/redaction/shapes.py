"""The shapes that an allowed text may have. A text that does not fit is not looked at any further: it is
refused.

Shapes are what keeps prose out. An identifier has no blanks, so no sentence, no JSON and no stack trace is
one, whatever they say. A policy picks shapes by name and cannot bring expressions of its own: there is none
to get wrong, to leave unanchored, or to run for ever.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from .detectors import UUID

# What names of classes, agents, tools and models are made of. A blank is not among it.
_IDENTIFIER: Final = r"[A-Za-z0-9_][A-Za-z0-9_.:/\-]*"

_FRAME: Final = r"[A-Za-z0-9_.+@~<>/\-]+:[0-9]{1,7} [A-Za-z0-9_.<>]+"


class Shape(NamedTuple):
    """A named test of a whole text.

    Attributes:
        name: as a policy writes it.
        fits: true for a text that has the shape.
        scanned: whether detectors look at what fits; not where the shape leaves no room for a secret.
        numbers: whether nine digits in a row are suspicious here.
        told_apart: whether two texts that are masked must not become one: whose series these are.
        words: those that the policy gave it, in alphabetical order.
    """

    name: str
    fits: Callable[[str], bool]
    scanned: bool = True
    numbers: bool = True
    told_apart: bool = False
    words: tuple[str, ...] = ()


def _pattern(expression: str) -> Callable[[str], bool]:
    compiled = re.compile(expression)
    return lambda text: compiled.fullmatch(text) is not None


def _is_written(text: str) -> bool:
    """No control, format, surrogate, private or unassigned character, no line break."""
    return text.isprintable() or not any(
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for character in text
    )


SHAPES: Final = {
    shape.name: shape
    for shape in (
        # Class names, agent types, tools, models, providers, metrics: no blanks.
        Shape("identifier", _pattern(_IDENTIFIER)),
        # Whatever a customer calls his customers, numbers included.
        Shape("tenant", _is_written, numbers=False, told_apart=True),
        Shape("uuid", _pattern(UUID), scanned=False),
        Shape("version", _pattern(r"[A-Za-z0-9][A-Za-z0-9.+_\-]*")),
        Shape("hostname", _pattern(r"[A-Za-z0-9][A-Za-z0-9._\-]*")),
        Shape("unit", _pattern(r"[A-Za-z0-9%/*.^'\[\]{}_\-]*")),
        Shape(
            "severity",
            _pattern(r"(?i:trace|debug|info|notice|warn|warning|error|critical|fatal|emergency|alert)[1-4]?"),
            scanned=False,
        ),
        Shape(
            "schema_url",
            _pattern(r"https://opentelemetry\.io/schemas/[0-9]{1,2}\.[0-9]{1,3}\.[0-9]{1,3}"),
            scanned=False,
        ),
        # Frames, a line each: file, line, function. No blank but the one before the function, so no prose.
        Shape("stack", _pattern(rf"{_FRAME}(?:\n{_FRAME})*")),
        # Anything that can be printed: only the patterns stand between it and the world. Unused by default.
        Shape("free", _is_written),
    )
}

#: Shapes that take words from the policy.
ENUM: Final = "enum"
OPERATION: Final = "operation"


def enum(values: Iterable[str]) -> Shape:
    """One of `values`."""
    words = frozenset(values)
    return Shape(ENUM, words.__contains__, scanned=False, words=tuple(sorted(words)))


def operation(verbs: Iterable[str]) -> Shape:
    """`{verb} {identifier}`, as semantic conventions name spans."""
    words = tuple(sorted(verbs))
    alternatives = "|".join(map(re.escape, words))
    return Shape(OPERATION, _pattern(rf"(?:{alternatives}) {_IDENTIFIER}"), words=words)
