"""AgentChat's teams: one `invoke_workflow` activity a run, the root of everything that the run causes.

`run` is built on `run_stream`, so that one seam sees both. Agents that are run on their own stream too; theirs is kept
to its own context, and the activity comes from AutoGen's own call (see `agents_and_tools.py`).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from instrumentation import tenancy
from instrumentation.activity import TeamRun, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.digests import Digests
from instrumentation.telemetry.recorder import Recorder, Scope, open_activity

from .streams import observed
from .termination import handoffs_that_end, of_a_manager


def run_stream(original: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    """`BaseGroupChat.run_stream`, observed; the run begins with the first step."""
    digests = recorder.digests

    @functools.wraps(original)
    def observed_run_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        return observed(original(self, *args, **kwargs), lambda: _scope(self, recorder, digests), _note)

    return observed_run_stream


def own_context(original: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    """A stream inside which AutoGen opens the activity itself: only kept to its own context."""

    @functools.wraps(original)
    def contained_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        return observed(original(self, *args, **kwargs))

    return contained_stream


def _scope(team: object, recorder: Recorder, digests: Digests) -> Scope | None:
    try:
        above = open_activity()
        if type(above) is TeamRun and above.team_key == id(team):
            return None  # a class that calls its base class
        tenant = tenancy.current() or tenancy.TABLE.unknown
        activity = TeamRun(tenant, name_of(type(team).__name__), time.monotonic_ns(), id(team), _targets(team))
        # The id itself is the key of the team's agents; keys do not leave.
        team_id = getattr(team, "_team_id", None)
        activity.conversation = digests.of_text(tenant, team_id) if type(team_id) is str else None
        return recorder.scope(activity)
    except BaseException as error:
        fault("team", error)
        return None


def _targets(team: Any) -> frozenset[str]:
    """Whom an agent of the team may hand the conversation over to, by the names that a developer gave."""
    try:
        return frozenset((*team._participant_names, *handoffs_that_end(team._termination_condition)))  # noqa: SLF001
    except Exception as error:  # a team of the application's own, that is made otherwise
        fault("team.targets", error)
        return frozenset()


def _note(scope: Scope, item: object) -> None:
    try:
        if type(item).__name__ == "TaskResult" and scope.activity.stop_reason is None:
            scope.activity.stop_reason = of_a_manager(getattr(item, "stop_reason", None))
    except BaseException as error:
        fault("team.result", error)
