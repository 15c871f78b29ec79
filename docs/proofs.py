"""For documents that are made of the code: what a test says that it holds."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent


@functools.cache
def _tests(path: str) -> dict[str, str]:
    """First paragraph of its docstring, by test."""
    return {
        node.name: " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        for node in ast.parse((ROOT / "tests" / path).read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def statements(proof: str) -> Iterator[tuple[str, str]]:
    """(test, first paragraph of its docstring) of every test that `proof` names: a file of `tests/`, or `file::test`.

    Raises:
        LookupError: there is no such test.
    """
    path, _, one = proof.partition("::")
    tests = _tests(path)
    names = [one] if one else list(tests)
    if not names or not tests.keys() >= set(names):
        raise LookupError(f"tests/{proof} is not there")
    yield from ((f"{path}::{name}", tests[name]) for name in names)
