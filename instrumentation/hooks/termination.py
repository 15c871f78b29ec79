"""Termination conditions: which of them ended a team's run.

AutoGen's own `stop_reason` is a sentence, with the mentioned text or the name of a person in it. Taken is the class of
the condition. One that is part of another is told by the whole: of an `or` those parts that were met, of an `and` all.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final

from instrumentation.activity import name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, open_activity

_AND: Final = "AndTerminationCondition"
_OR: Final = "OrTerminationCondition"
#: Ids of the parts that were met, while a condition that has parts is asked.
_met: ContextVar[set[int] | None] = ContextVar("tenantscope_conditions_met", default=None)

#: How AutoGen words the ends that are no condition's.
_WORDS: Final = (
    ("Maximum number of turns ", "max_turns"),
    ("Max rounds reached.", "max_turns"),  # MagenticOne's; what else it says comes from its model
    ("Digraph execution is complete", "graph_complete"),
    ("The group chat has already terminated.", "already_terminated"),
)


def of_a_manager(words: object) -> str:
    """The reason of a run that no condition ended, from AutoGen's words for it: `manager` for all that vary."""
    if isinstance(words, str):
        for beginning, reason in _WORDS:
            if words.startswith(beginning):
                return reason
    return "manager"


def handoffs_that_end(condition: Any) -> list[str]:
    """Targets of the handoffs at which this condition, or a part of it, ends a run."""
    kind = type(condition).__name__
    if kind in (_AND, _OR):
        return [target for part in condition._conditions for target in handoffs_that_end(part)]  # noqa: SLF001
    return [condition._target] if kind == "HandoffTermination" else []  # noqa: SLF001


def call(original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`TerminationCondition.__call__`, observed."""

    @functools.wraps(original)
    async def observed_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        whole = _met.get()
        met: set[int] = set() if whole is None else whole
        token = _met.set(met)
        try:
            result = await original(self, *args, **kwargs)
        finally:
            with contextlib.suppress(ValueError):  # thrown away by the garbage collector, in somebody else's context
                _met.reset(token)
        if result is not None:
            met.add(id(self))
            if whole is None:
                _note(self, met)
        return result

    return observed_call


def _note(condition: object, met: set[int]) -> None:
    try:
        above = open_activity()
        if above is not None and above.workflow is not None and not above.workflow.ended:
            above.workflow.stop_reason = name_of("/".join(sorted(set(_names(condition, met)))))
    except Exception as error:
        fault("termination", error)


def _names(condition: Any, met: set[int]) -> list[str]:
    name = type(condition).__name__
    if name == _AND:
        return [found for part in condition._conditions for found in _names(part, met)]  # noqa: SLF001
    if name == _OR:
        parts = [part for part in condition._conditions if id(part) in met]  # noqa: SLF001
        return [found for part in parts for found in _names(part, met)]
    return [name]
