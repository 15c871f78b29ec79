"""Which series and labels a PromQL expression reads: enough of the language for our own expressions, no parser."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?")


@dataclass(frozen=True)
class Selector:
    """One series that is read, the labels that it is chosen by, and whether a range of it is taken."""

    series: str
    labels: frozenset[str]
    function: str


def selectors(expr: str) -> list[Selector]:
    """All selectors; `function` is the function directly around a range selector, or empty."""
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", expr)
    found = []
    for match in _SELECTOR.finditer(re.sub(r"\[[^\]]*\]", lambda m: " " * len(m[0]), bare)):
        name, matchers = match.groups()
        inside = bare[: match.start()].count("{") > bare[: match.start()].count("}")
        if inside or name in _WORDS or bare[match.end() :].lstrip().startswith("("):
            continue
        if bare[match.start() - 1 : match.start()].isdigit():
            continue
        before = re.search(r"([a-z_]+)\($", bare[: match.start()])
        ranged = bare[match.end() :].startswith("[")
        labels = frozenset(re.findall(r'([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"', matchers or ""))
        found.append(Selector(name, labels, before[1] if before and ranged else ""))
    return found


def grouped_by(expr: str) -> set[str]:
    """Every label that an aggregation of the expression keeps."""
    lists = re.findall(r"\bby\s*\(([^)]*)\)", expr)
    return {label.strip() for each in lists for label in each.split(",")}
