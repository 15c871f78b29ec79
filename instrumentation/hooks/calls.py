"""Methods that are awaited once and give one result: an activity around the call.

For what teams, agents, runtimes, code executors and people do besides chatting. A method that calls its own base class
is one call, and so is a team's that goes on to those of its agents. A code executor that a tool asks is another.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any

from instrumentation import tenancy
from instrumentation.activity import Activity, Kind, Outcome, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope, open_activity

Wrapper = Callable[[Callable[..., Any], Recorder], Callable[..., Any]]
#: Sees the recorder, the activity, the arguments' values and the result, of a call that did not fail.
Note = Callable[[Recorder, Activity, tuple[object, ...], Any], None]


def observed_call(
    kind: Kind, name: Callable[..., object], note: Note | None = None, make: type[Activity] = Activity
) -> Wrapper:
    """A wrapper for such a method.

    Args:
        kind: of the activity.
        name: the activity's name, from the object whose method it is, and the arguments.
        note: takes names and numbers from arguments and result.
        make: the class of the activity.
    """

    def wrap(original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder) -> Callable[..., Any]:
        @functools.wraps(original)
        async def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
            scope = _scope(kind, functools.partial(name, self, *args, **kwargs), recorder, make)
            if scope is None:
                return await original(self, *args, **kwargs)
            with scope:
                result = await original(self, *args, **kwargs)
                if note is not None:
                    _take(note, recorder, scope, (*args, *kwargs.values()), result)
                return result

        return observed

    return wrap


def class_name(owner: object, *_: object, **__: object) -> object:
    """The name of the object's class."""
    return type(owner).__name__


def own_name(owner: Any, *_: object, **__: object) -> object:
    """The name that the object was given."""
    return owner.name


def exit_code(_recorder: Recorder, activity: Activity, _: tuple[object, ...], result: Any) -> None:
    """Code that was executed has failed when it says so; nobody raises then."""
    code = result.exit_code
    if type(code) is int and code != 0:
        activity.outcome = Outcome.ERROR
        activity.error_type = "nonzero_exit"


def _scope(kind: Kind, name: Callable[[], object], recorder: Recorder, make: type[Activity]) -> Scope | None:
    try:
        above = open_activity()
        if type(above) is make and above.kind is kind:
            return None  # part of the same call
        tenant = tenancy.current() or tenancy.TABLE.unknown
        return recorder.scope(make(kind, tenant, name_of(name()), time.monotonic_ns()))
    except BaseException as error:
        fault(f"call.{kind.value}", error)
        return None


def _take(note: Note, recorder: Recorder, scope: Scope, arguments: tuple[object, ...], result: object) -> None:
    try:
        note(recorder, scope.activity, arguments, result)
    except BaseException as error:
        fault(f"call.{scope.activity.kind.value}.note", error)
