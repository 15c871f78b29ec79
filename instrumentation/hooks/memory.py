"""Memories: what is added, searched, put into a model's context and cleared, and how many entries were found.

What a memory holds and what it is asked for stay in it. A memory in front of another one is one activity; the query
that an update of a context makes is an activity of its own inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from autogen_core.memory import MemoryQueryResult, UpdateContextResult

from instrumentation.activity import Activity, Kind, MemoryUse
from instrumentation.telemetry.recorder import Recorder

from .calls import Note, Wrapper, class_name, observed_call


def _found(_: Recorder, activity: Activity, __: tuple[object, ...], result: Any) -> None:
    if isinstance(result, UpdateContextResult):
        result = result.memories
    if isinstance(activity, MemoryUse) and isinstance(result, MemoryQueryResult):
        activity.hits = len(result.results)


def _observed(kind: Kind, note: Note | None = None) -> Wrapper:
    return observed_call(kind, class_name, note, MemoryUse)


#: By the name of the method of `Memory`.
METHODS: Final[Mapping[str, Wrapper]] = {
    "add": _observed(Kind.ADD_MEMORY),
    "query": _observed(Kind.SEARCH_MEMORY, _found),
    "update_context": _observed(Kind.UPDATE_CONTEXT, _found),
    "clear": _observed(Kind.CLEAR_MEMORY),
}
