"""YAML without its traps: plain mappings, lists and scalars, from one file of at most 1 MB.

Refused: keys that stand twice, anchors and aliases (a few lines of them unfold to gigabytes), merge keys,
tags of any kind, several documents, depth that no policy has. The loader derives from PyYAML's safe one and
only takes away.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 8


# The way to a key: the keys of the mappings and the positions in the lists around it, and its own.
Place = tuple[str, ...]


class YamlError(ValueError):
    """Not the plain YAML that is asked for: one line of text, and the line of the file if there is one."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


class Document(NamedTuple):
    """What a file says, and on which line it says it.

    Attributes:
        value: mappings, lists and scalars.
        lines: by the place of a key or an item, counted from 1.
    """

    value: object
    lines: Mapping[Place, int]


def read_file(path: Path) -> bytes:
    """The bytes of the file at `path`.

    Raises:
        YamlError: it cannot be read, or is too large.
    """
    try:
        # No FIFO is waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise YamlError(f"has more than {MAX_BYTES} bytes")
    return content


def parse(content: bytes) -> Document:
    """What a document says.

    Raises:
        YamlError: it is not plain YAML.
    """
    try:
        loader = _Loader(content)
    except yaml.YAMLError:
        raise YamlError("is not text in UTF-8 or UTF-16") from None
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(None, {})
        return Document(loader.construct_document(node), dict(_lines(node, ())))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(error.problem or "is not YAML").split())
        raise YamlError(what, None if mark is None else mark.line + 1) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that only looks like one
        raise YamlError(f"is not YAML: {type(error).__name__}") from None
    finally:
        loader.dispose()


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, key.value), key.start_mark.line + 1
            yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*place, str(index)), item.start_mark.line + 1
            yield from _lines(item, (*place, str(index)))


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, minus everything that a policy does not need."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed", problem_mark=event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="tags are not allowed", problem_mark=event.start_mark)
        if self._depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="is nested too deep", problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem="merge keys are not allowed", problem_mark=key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
