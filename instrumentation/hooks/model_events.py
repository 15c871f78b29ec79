"""Model calls as AutoGen's event logger tells of them: `LLMCall`, `LLMStreamStart`, `LLMStreamEnd`.

Inside a call that is observed, an event is about that call: it knows tokens that the client's answer leaves out, and
those of a call whose answer AutoGen then refused. Outside of any, it is all there is of a client that is no
`ChatCompletionClient`, and becomes a `chat` activity of its own: with tokens, and with a duration when it streamed.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from autogen_core.logging import LLMCallEvent, LLMStreamEndEvent, LLMStreamStartEvent

from instrumentation import tenancy
from instrumentation.activity import UNNAMED, ModelCall
from instrumentation.telemetry.recorder import Recorder, Scope

from .open_call import OpenCall, current

_CUSTOM = "custom"
#: The stream that was told to have begun here, and not yet to have ended.
_streaming: ContextVar[Scope | None] = ContextVar("tenantscope_told_stream", default=None)


def observe_model_event(recorder: Recorder, event: Any) -> bool:
    """Whether `event` is about a model call; what it says is noted then."""
    kind = type(event)
    if kind is LLMStreamStartEvent:
        if current() is None:
            scope = recorder.scope(_call(recorder))
            scope.open()
            _streaming.set(scope)
    elif kind is LLMCallEvent or kind is LLMStreamEndEvent:
        _ended(recorder, event.kwargs, kind is LLMStreamEndEvent)
    else:
        return False
    return True


def _ended(recorder: Recorder, about: dict[str, Any], streamed: bool) -> None:
    call, scope = current(), None
    if call is None:
        scope = _streaming.get() if streamed else None
        if scope is None:
            scope = recorder.scope(_call(recorder))
            scope.activity.untimed = True  # type: ignore[attr-defined]  # a ModelCall
            scope.open()
        else:
            _streaming.set(None)
        call = OpenCall(None, scope.activity, recorder.clock)  # type: ignore[arg-type]
    response = about.get("response")
    call.event(response, about.get("prompt_tokens"), about.get("completion_tokens"))
    if scope is not None:
        if call.activity is not None and call.activity.response_model is not None:
            call.activity.name = call.activity.response_model
        scope.close()


def _call(recorder: Recorder) -> ModelCall:
    activity = ModelCall(tenancy.current() or tenancy.TABLE.unknown, UNNAMED, recorder.clock())
    activity.provider = _CUSTOM
    return activity
