"""JSON that may be anything, read by what it should be.

What is missing is empty or 0; what has another type is too, but is noted. All text is escaped here, once, so that
nothing behind this file can write to a terminal; all numbers are finite and not negative.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from sidecar.alerts import printable

_NAME: Final = 128  # characters of an id
_LINE: Final = 512  # of a sentence, or of a frame
_COUNTERS: Final = 16
_MOST: Final = 2**64  # what any counter can hold

_T = TypeVar("_T")


class Fields:
    """The fields of one JSON object.

    Args:
        faults: the name of each field that has another type than it should is put here.
    """

    def __init__(self, document: dict[str, Any], faults: list[str]) -> None:
        self._document = document
        self._faults = faults

    def has(self, name: str) -> bool:
        """Whether it is there, and not null."""
        return self._document.get(name) is not None

    def names(self, limit: int) -> list[str]:
        """The names that are fit to be shown; nobody has more than `limit`."""
        names = [name for name in self._document if name == printable(name, _NAME)]
        if len(names) < len(self._document):
            self._faults.append("a name")
        return names[:limit]

    def text(self, name: str) -> str:
        """One line of it."""
        value = self._document.get(name, "")
        return printable(value, _LINE) if isinstance(value, str) else self._fault(name, "")

    def texts(self, name: str, limit: int) -> tuple[str, ...]:
        """The last `limit` texts of a list."""
        found = self._list(name)
        texts = tuple(printable(text, _LINE) for text in found if isinstance(text, str))
        if len(texts) < len(found):
            self._faults.append(name)
        return texts[-limit:]

    def number(self, name: str) -> float:
        """Not negative, below 2**64."""
        value = self._document.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
            return self._fault(name, 0.0)
        return float(value)

    def count(self, name: str) -> int:
        """A whole number, likewise."""
        value = self._document.get(name, 0)
        return value if type(value) is int and 0 <= value < _MOST else self._fault(name, 0)

    def counts(self) -> dict[str, int]:
        """All fields, each of them a count."""
        return {name: self.count(name) for name in self.names(_COUNTERS)}

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._document.get(name, False)
        return value if isinstance(value, bool) else self._fault(name, False)

    def record(self, name: str) -> Fields:
        """An object in this one."""
        value = self._document.get(name, {})
        return Fields(value if isinstance(value, dict) else self._fault(name, {}), self._faults)

    def each(self, name: str) -> list[Fields]:
        """The objects of a list."""
        found = self._list(name)
        records = [Fields(value, self._faults) for value in found if isinstance(value, dict)]
        if len(records) < len(found):
            self._faults.append(name)
        return records

    def _list(self, name: str) -> list[Any]:
        value = self._document.get(name, [])
        return value if isinstance(value, list) else self._fault(name, [])

    def _fault(self, name: str, instead: _T) -> _T:
        self._faults.append(name)
        return instead
