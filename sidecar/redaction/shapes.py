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
        lines: finds out of many texts at once whether all fit, each with a line break behind it; None when it takes
            to ask of each.
    """

    name: str
    fits: Callable[[str], bool]
    scanned: bool = True
    numbers: bool = True
    told_apart: bool = False
    words: tuple[str, ...] = ()
    lines: re.Pattern[bytes] | None = None

    def fit(self, lines: bytes) -> bool:
        """Whether all of these ASCII texts, with a line break between them, have the shape."""
        if self.lines is None:
            return all(map(self.fits, lines.decode("ascii").split("\n")))
        return self.lines.fullmatch(lines + b"\n") is not None


def _of(name: str, expression: str, *, line: str = "", scanned: bool = True, words: tuple[str, ...] = ()) -> Shape:
    """A shape of texts that an expression matches; `line` matches those without a line break, if it is another."""
    compiled = re.compile(expression)
    line = line or expression
    return Shape(
        name,
        lambda text: compiled.fullmatch(text) is not None,
        scanned=scanned,
        words=words,
        lines=re.compile(b"(?:(?:%b)\n)*" % line.encode("ascii")) if line.isascii() and "\n" not in line else None,
    )


def _is_written(text: str) -> bool:
    """No control, format, surrogate, private or unassigned character, no line break."""
    return text.isprintable() or not any(
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for character in text
    )


SHAPES: Final = {
    shape.name: shape
    for shape in (
        # Class names, agent types, tools, models, providers, metrics: no blanks.
        _of("identifier", _IDENTIFIER),
        # Whatever a customer calls his customers, numbers included.
        Shape("tenant", _is_written, numbers=False, told_apart=True),
        _of("uuid", UUID, scanned=False),
        _of("version", r"[A-Za-z0-9][A-Za-z0-9.+_\-]*"),
        _of("hostname", r"[A-Za-z0-9][A-Za-z0-9._\-]*"),
        _of("unit", r"[A-Za-z0-9%/*.^'\[\]{}_\-]*"),
        _of(
            "severity",
            r"(?i:trace|debug|info|notice|warn|warning|error|critical|fatal|emergency|alert)[1-4]?",
            scanned=False,
        ),
        _of("schema_url", r"https://opentelemetry\.io/schemas/[0-9]{1,2}\.[0-9]{1,3}\.[0-9]{1,3}", scanned=False),
        # Frames, a line each: file, line, function. No blank but the one before the function, so no prose.
        _of("stack", rf"{_FRAME}(?:\n{_FRAME})*", line=_FRAME),
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
    return _of(OPERATION, rf"(?:{alternatives}) {_IDENTIFIER}", words=words)
