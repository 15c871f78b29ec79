"""What is to be done about a field as one letter, so that of a record it is one word.

Records of one application are of few such words, whatever is in them. What follows from a word (whether the record
stays as it is, which of its fields leave, whether it must be walked because something stands twice) is found out once;
what there is to be counted follows from how often there is each letter.

What it refuses: to know content. A kind is the place of a field and the words for what was done, nothing of the field.
"""

from __future__ import annotations

import itertools
from typing import Final, NamedTuple

from .steps import Action

#: The letter of a field of which nothing is known: its record must be walked.
UNSETTLED: Final = "\0"
#: Fields of a record that is not walked, behind its head.
MAX_FIELDS: Final = 128
_MAX_LETTERS: Final = 4096
_MAX_WORDS: Final = 4096


class Kind(NamedTuple):
    """What is said of a field.

    Attributes:
        bit: which of those that may stand once it is; 0 when it may stand again.
        actions: what was done, and how often; nothing: it leaves as it stands.
        leaves: whether anything leaves in its place.
        part: whether it is a message.
    """

    bit: int
    actions: tuple[tuple[Action, int], ...] = ()
    leaves: bool = True
    part: bool = False


class Row(NamedTuple):
    """What is to be done about records with these fields; nothing, if they all leave as they stand.

    The first is at 1, for the head is before them.

    Attributes:
        rewritten: the places of those in whose place something else leaves.
        gone: the places of those in whose place nothing does, from the last one on.
    """

    rewritten: tuple[int, ...]
    gone: tuple[int, ...]


class Kinds:
    """The letters in use, and what words of them say. Threads may share it: each step is one on a dictionary."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._letters: dict[Kind, str] = {}
        self._kinds: dict[str, Kind] = {}
        self._staying: dict[int, str] = {}  # by bit
        self._words: dict[str, Row | None] = {}

    @property
    def full(self) -> bool:
        """Whether it is time for another: what a sender can do to values is bounded, but not by little."""
        return len(self._kinds) > _MAX_LETTERS

    def letter(self, kind: Kind) -> str:
        letter = self._letters.get(kind)
        if letter is None:
            letter = chr(next(self._numbers))
            self._kinds[letter] = kind  # before anybody can hold it
            self._letters[kind] = letter
        return letter

    def stays(self, bit: int) -> str:
        """The letter of a field that leaves as it stands."""
        letter = self._staying.get(bit)
        if letter is None:
            letter = self._staying[bit] = self.letter(Kind(bit))
        return letter

    def row(self, word: str) -> Row | None:
        """What is to be done about a record; None when it must be walked."""
        try:
            return self._words[word]
        except KeyError:
            if len(self._words) >= _MAX_WORDS:
                self._words = {}
            row = self._words[word] = self._read(word)
            return row

    def _read(self, word: str) -> Row | None:
        if UNSETTLED in word or len(word) > MAX_FIELDS:
            return None
        kinds = [self._kinds[letter] for letter in word]
        bits = [kind.bit for kind in kinds if kind.bit]
        if len(set(bits)) < len(bits):
            return None
        changed = [(at, kind.leaves) for at, kind in enumerate(kinds, 1) if kind.actions]
        return Row(
            tuple(at for at, leaves in changed if leaves), tuple(at for at, leaves in reversed(changed) if not leaves)
        )
