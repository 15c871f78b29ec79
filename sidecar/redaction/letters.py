"""Letters of fields (`kinds.py`), of many at once: of a column, say, which stands at one place in records that are
alike.

Most columns have one letter, which is said once. What it refuses: to know what the letters stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

#: Of some fields, in their order: the letter of all of them, or that of each.
Letters = str | list[str]


def across(columns: Iterable[Letters]) -> Iterable[str]:
    """The words that stand in these columns, one behind the other; for ever, if it is one word for all."""
    runs: list[Letters] = [""]
    for letters in columns:
        last = runs[-1]
        if isinstance(letters, str) and isinstance(last, str):
            runs[-1] = last + letters
        else:
            runs.append(letters)
    if len(runs) == 1 and isinstance(runs[0], str):
        return repeat(runs[0])
    return map("".join, zip(*(repeat(run) if isinstance(run, str) else run for run in runs), strict=False))


def merged(chosen: Sequence[bool], letters: Letters, others: Letters) -> list[str]:
    """The letters of the fields that were chosen and of the others, in the order of all."""
    if isinstance(others, str) and not isinstance(letters, str):  # nearly always
        of_chosen = iter(letters)
        return [next(of_chosen) if one else others for one in chosen]
    some, rest = (repeat(each) if isinstance(each, str) else iter(each) for each in (letters, others))
    return [*map(next, map((rest, some).__getitem__, chosen))]


def of_groups(fields: Sequence[bytes], groups: Iterable[tuple[Sequence[bytes], Letters]]) -> Letters:
    """The letters of fields, from those of groups of them."""
    letters: dict[bytes, str] = {}
    for some, found in groups:
        letters.update(by_field(some, found))
    return [*map(letters.__getitem__, fields)]


def by_field(fields: Sequence[bytes], letters: Letters) -> dict[bytes, str]:
    return dict.fromkeys(fields, letters) if isinstance(letters, str) else dict(zip(fields, letters, strict=True))
