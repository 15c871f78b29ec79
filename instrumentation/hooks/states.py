"""State that is saved and loaded: how large it is, of how many agents, and whether it is the one that was saved.

Two workers that load the same state and save it again overwrite each other's, and AutoGen says nothing of it. The keyed
digest shows it: the same digest at two loads, and two that differ at the saves after them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autogen_core import AgentId

from instrumentation.activity import Activity, Kind
from instrumentation.diagnostics import count
from instrumentation.telemetry.recorder import Recorder

from .calls import Wrapper, class_name, observed_call


def of_a_team(state: dict[str, Any]) -> int | None:
    """How many agents a team's state is of, its manager being one."""
    states = state.get("agent_states")
    return len(states) if type(states) is dict else None


def of_a_runtime(state: dict[str, Any]) -> int:
    """How many agents a runtime's state is of."""
    return len(state)


def of_an_agent(_: dict[str, Any]) -> int:
    """One."""
    return 1


def agent_type(_: object, agent: Any, *__: object, **___: object) -> object:
    """What a runtime is asked for by an agent's id."""
    return agent.type


def saved(agents: Callable[[dict[str, Any]], int | None], name: Callable[..., object] = class_name) -> Wrapper:
    """A wrapper for `save_state`, of what `name` says."""

    def note(recorder: Recorder, activity: Activity, _: tuple[object, ...], result: object) -> None:
        _take(recorder, activity, result, agents)

    return observed_call(Kind.SAVE, name, note)


def loaded(agents: Callable[[dict[str, Any]], int | None], name: Callable[..., object] = class_name) -> Wrapper:
    """A wrapper for `load_state`, of what `name` says."""

    def note(recorder: Recorder, activity: Activity, arguments: tuple[object, ...], _: object) -> None:
        _take(recorder, activity, next(value for value in arguments if not isinstance(value, AgentId)), agents)

    return observed_call(Kind.LOAD, name, note)


def _take(
    recorder: Recorder, activity: Activity, state: object, agents: Callable[[dict[str, Any]], int | None]
) -> None:
    if type(state) is dict:
        activity.state_agents = agents(state)
    found = recorder.digests.of_state(activity.tenant, state)
    if found is None:
        count("state.not_measured")
    else:
        activity.state_size, activity.state_digest = found
