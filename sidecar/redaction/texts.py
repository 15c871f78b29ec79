"""The rule for one text: may it leave, must it be masked, is it refused?

A judgement is None (leaves as it stands), a `Masked`, or `Refused`. Lengths are bounded before anything is searched.
Many texts are judged together as far as that is cheap: `Text.sift`, which says of none anything else than `Text.judge`
does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from .bounds import Spent
from .detectors import LONG, REASONS, detect, is_name
from .encodings import ALL_DIGITS
from .guilt import surest_among
from .innocence import doubtful_among
from .memo import Memo
from .patterns import Patterns
from .shapes import ENUM, Shape

#: What stands in the place of a text that does not fit where a text must stand.
REDACTED: Final = b"redacted"
#: In the place of a judgement on one of many: it takes `judge` to say.
DOUBT: Final = ""


class Refused(Exception):  # noqa: N818  # a judgement, not an error
    """The value, or the message around it, must not leave; `reason` is one of a bounded set of words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Masked(NamedTuple):
    """What leaves in the value's place, the word for why, and for what was done."""

    reason: str
    content: bytes
    action: str = "mask"


@functools.cache  # as many as there are reasons, which a policy's patterns add to
def mask(reason: str) -> Masked:
    """The mask of a text."""
    return Masked(reason, f"[redacted:{reason}]".encode())


# They pass as they are: redacting twice changes nothing, and a sender who writes one has said nothing.
_HARMLESS: Final = frozenset({b"", REDACTED, *(mask(reason).content for reason in (*REASONS, "policy"))})


# A rule as a policy's file says it.
Written = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """A string: at most `max_length` characters, of a shape, without secrets.

    Attributes:
        misfit_masks: replace what does not fit with `redacted` rather than leave it out, for names that must
            be there.
    """

    shape: Shape
    max_length: int
    misfit_masks: bool = False
    #: The policy's own patterns, which are the same for all of its rules.
    patterns: Patterns | None = field(default=None, compare=False, repr=False)
    # Short names that passed, with zeros for digits: `agent-17` passes because `agent-00` stands here.
    _names: Memo = field(default_factory=Memo, init=False, compare=False, repr=False)

    @property
    def written(self) -> Written:
        """The rule as a policy's file says it."""
        rule: Written = {"shape": self.shape.name}
        if self.shape.words:
            rule["values" if self.shape.name == ENUM else "verbs"] = list(self.shape.words)
        if self.shape.name != ENUM:
            rule["max_length"] = self.max_length
        return rule | {"misfit": "mask"} if self.misfit_masks else rule

    def judge(self, raw: bytes) -> Masked | None:
        """`raw` is the content of a string field. Raises `Refused`."""
        if raw in _HARMLESS or (self.patterns is not None and raw in self.patterns.masks):
            return None
        short = len(raw) < LONG
        zeros = raw.translate(ALL_DIGITS) if short else raw
        if short and self._names.recall(zeros) is not None:
            return None
        try:
            text = self._fitting(raw)
        except Refused as refused:
            if self.misfit_masks:
                return Masked(refused.reason, REDACTED)
            raise
        if not self.shape.scanned:
            return None
        # Shapes without words of the policy's own take any digit where they take one; nobody knows that of patterns.
        if (
            short
            and raw.isascii()
            and not (self.shape.words or self.patterns is not None)
            and is_name(zeros.decode("ascii"))
        ):
            self._names.remember(zeros)
            return None
        return self.scan(text)

    def sift(self, raws: list[bytes]) -> list[str | None]:
        """What `judge` says of each of many texts, as far as that is cheap: None, the word for a mask, or `DOUBT`."""
        lines = b"\n".join(raws)
        if lines.isascii() and lines.count(b"\n") == len(raws) - 1:
            return self._sift(raws, lines)
        plain = [raw for raw in raws if raw.isascii() and b"\n" not in raw]
        told = dict(zip(plain, self._sift(plain, b"\n".join(plain)), strict=True))
        return [told.get(raw, DOUBT) for raw in raws]

    def _sift(self, raws: list[bytes], lines: bytes) -> list[str | None]:
        """The same of ASCII texts without line breaks, which `lines` has one behind the other."""
        if self.shape.scanned and self.patterns is not None:
            return [DOUBT] * len(raws)
        told: list[str | None] = [None] * len(raws)
        places: Sequence[int] = range(len(raws))
        fitting = raws
        if max(map(len, raws), default=0) > self.max_length or not self.shape.fit(lines):
            fits = self.shape.fits
            told = [None if len(raw) <= self.max_length and fits(raw.decode("ascii")) else DOUBT for raw in raws]
            places = [at for at, said in enumerate(told) if said is None]
            fitting = [raws[at] for at in places]
        if self.shape.scanned and (doubtful := doubtful_among(fitting)):
            found = self._guilty([fitting[at] for at in doubtful])
            for at in doubtful:
                told[places[at]] = found[fitting[at]]
        return told

    def _guilty(self, raws: list[bytes]) -> dict[bytes, str | None]:
        """What is found in texts that fit, without their readings: if anything is, `scan` finds that, too."""
        try:
            found = surest_among(raws)
        except Spent:
            found = {}
        told: dict[bytes, str | None] = {raw: found.get(raw) or DOUBT for raw in raws}
        told.update(dict.fromkeys(_HARMLESS.intersection(raws), DOUBT))
        return told

    def _fitting(self, raw: bytes) -> str:
        if len(raw) > 4 * self.max_length:  # no character takes more than four bytes
            raise Refused("length")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise Refused("utf8") from None
        if len(text) > self.max_length:
            raise Refused("length")
        if not self.shape.fits(text):
            raise Refused("shape")
        return text

    def scan(self, text: str) -> Masked | None:
        """The mask for what is found in a text that fits."""
        search = None if self.patterns is None else self.patterns.find
        found = detect(text, numbers=self.shape.numbers, search=search)
        return None if found is None else mask(found)
