"""Pieces of ours that are broken on purpose, and what comes out of an application meanwhile, as text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PATIENCE = 20.0


async def outcome(work: Any) -> str:
    """What came out: a result, or the type and text of the exception."""
    try:
        return repr(await asyncio.wait_for(work, PATIENCE))
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


class Broken:
    """Raises whatever is done with it, and counts how often something was."""

    def __init__(self) -> None:
        self.used = 0

    def __call__(self, *_: object, **__: object) -> Any:
        self.used += 1
        raise RuntimeError("ours is broken")

    def __getattr__(self, name: str) -> Any:
        self()


@contextmanager
def broken(owner: Any, name: str) -> Iterator[None]:
    """Something of ours is broken while the block runs; fails when nothing in the block comes across it."""
    instead = Broken()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, instead)
        yield
    assert instead.used, f"nobody used {name}: nothing was tried"
