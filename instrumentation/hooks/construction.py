"""Agents that a runtime makes: one `create_agent` activity each, with its failure.

A runtime makes an agent when the first message for it arrives, so that this message pays for it, and a factory that
fails takes the message with it: AutoGen only logs that. The seam is the context that AutoGen sets around the factory,
not the method: a method of ours in between would be what the factory's warnings name as their place.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from instrumentation import tenancy
from instrumentation.activity import Activity, Kind, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope

from .runtime import DELIVERING


class _Making(AbstractContextManager[None]):
    """AutoGen's own context, with the activity around it."""

    __slots__ = ("_inner", "_scope")

    def __init__(self, inner: AbstractContextManager[None], scope: Scope | None) -> None:
        self._inner = inner
        self._scope = scope

    def __enter__(self) -> None:
        if self._scope is not None:
            self._scope.__enter__()
        self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._inner.__exit__(kind, error, trace)
        finally:
            if self._scope is not None:
                self._scope.__exit__(kind, None, None)


class InstantiationTap:
    """Stands where a runtime's module imported `AgentInstantiationContext`."""

    def __init__(self, original: Any, recorder: Recorder) -> None:
        self._original = original
        self._recorder = recorder

    def populate_context(self, about: Any) -> AbstractContextManager[None]:
        """What AutoGen calls around an agent's factory; `about` is the runtime and the agent's id."""
        return _Making(self._original.populate_context(about), self._scope(about))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def _scope(self, about: Any) -> Scope | None:
        try:
            passport = DELIVERING.get()
            tenant = tenancy.current() or tenancy.TABLE.unknown
            activity = Activity(Kind.CREATE, tenant, name_of(about[1].type), self._recorder.clock())
            return self._recorder.scope(activity, None if passport is None else passport.context)
        except BaseException as error:
            fault("create_agent", error)
            return None
