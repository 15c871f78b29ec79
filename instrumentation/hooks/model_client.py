"""Model clients: one `chat` activity a call, for every subclass of `ChatCompletionClient`, streaming or not.

Taken: the model and provider that the client is set up with, tokens, the finish reason, the duration, the time to the
first piece of a stream, the type of the exception; from below (`open_call.py`, `providers.py`) HTTP status and retries.
A client that calls its own base class, or itself, is one call. One that asks another client (a cache, a router) is two
spans and one figure: duration, tokens and errors are those of the client that did the work.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final, get_args

from autogen_core.models import ChatCompletionClient, CreateResult, FinishReasons

from instrumentation import tenancy
from instrumentation.activity import UNNAMED, ModelCall, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope

from .open_call import OpenCall, calling, current
from .streams import observed

# gen_ai.provider.name by the module that defines the client and how the client's name begins, most special first.
_PROVIDERS: Final = (
    ("autogen_ext.models.openai", "Azure", "azure.ai.openai"),
    ("autogen_ext.models.openai", "", "openai"),
    ("autogen_ext.models.anthropic", "AnthropicBedrock", "aws.bedrock"),
    ("autogen_ext.models.anthropic", "", "anthropic"),
    ("autogen_ext.models.azure", "", "azure.ai.inference"),
    ("autogen_ext.models.ollama", "", "ollama"),
    ("autogen_ext.models.llama_cpp", "", "llama_cpp"),
    ("autogen_ext.models.semantic_kernel", "", "semantic_kernel"),
    ("autogen_ext.models.replay", "", "replay"),
)
_CUSTOM: Final = "custom"
_DEEPEST: Final = 8  # wrappers around a client; one may hold itself

_FINISH_REASONS: Final = frozenset(get_args(FinishReasons))  # a custom client may put anything there, content too


def create(
    original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder, prepare: Callable[[], None]
) -> Callable[..., Any]:
    """`ChatCompletionClient.create`, observed; `prepare` is called before each call."""

    @functools.wraps(original)
    async def observed_create(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_part_of_a_call(self):
            return await original(self, *args, **kwargs)
        prepare()
        call = _open(self, recorder, kwargs)
        scope = _scope(call, recorder)
        token = calling.set(call)
        try:
            if scope is None:
                return await original(self, *args, **kwargs)
            with scope:
                try:
                    result = await original(self, *args, **kwargs)
                except BaseException as error:
                    call.failed(error)
                    raise
                _note(call, result)
                return result
        finally:
            call.ended = True
            with contextlib.suppress(ValueError):  # thrown away by the garbage collector, in somebody else's context
                calling.reset(token)

    return observed_create


def create_stream(
    original: Callable[..., AsyncGenerator[Any, Any]], recorder: Recorder, prepare: Callable[[], None]
) -> Callable[..., Any]:
    """`ChatCompletionClient.create_stream`, observed; the call begins with the first step."""

    @functools.wraps(original)
    def observed_create_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        stream = original(self, *args, **kwargs)
        if _is_part_of_a_call(self):
            return stream
        prepare()
        call = OpenCall(self, None, recorder.clock)

        def begin() -> Scope | None:
            call.activity = _activity(self, recorder, kwargs)
            return _scope(call, recorder)

        def note(_: Scope, item: object) -> None:
            _note(call, item, streamed=True)

        def end(error: BaseException | None) -> None:
            call.ended = True
            if error is not None:
                call.failed(error)

        return observed(stream, begin, note, end, hold=(calling, call))

    return observed_create_stream


def _is_part_of_a_call(client: object) -> bool:
    above = current()
    return above is not None and above.client is client


def _open(client: object, recorder: Recorder, arguments: dict[str, Any]) -> OpenCall:
    return OpenCall(client, _activity(client, recorder, arguments), recorder.clock)


def _activity(client: object, recorder: Recorder, arguments: dict[str, Any]) -> ModelCall | None:
    try:
        tenant = tenancy.current() or tenancy.TABLE.unknown
        activity = ModelCall(tenant, _model_asked(client, arguments), recorder.clock())
        activity.provider = _provider_of(_innermost(client).__class__)  # type: ignore[arg-type]  # classes are hashable
        return activity
    except BaseException as error:
        fault("chat", error)
        return None


def _scope(call: OpenCall, recorder: Recorder) -> Scope | None:
    try:
        return None if call.activity is None else recorder.scope(call.activity)
    except BaseException as error:
        fault("chat", error)
        return None


def _note(call: OpenCall, item: object, streamed: bool = False) -> None:
    try:
        activity = call.activity
        if streamed:
            call.first_chunk()
        if activity is not None and isinstance(item, CreateResult):
            if item.finish_reason in _FINISH_REASONS:
                activity.finish_reason = item.finish_reason
            activity.cached = item.cached is True
            # Tokens are what somebody pays for: not those of a cached answer, and once, where the work was done.
            counted = not (activity.cached or activity.delegated)
            call.took(item.usage.prompt_tokens if counted else None, item.usage.completion_tokens if counted else None)
    except BaseException as error:
        fault("chat.result", error)


def _innermost(client: Any) -> object:
    """The client that a cache or another wrapper stands in front of, as far as it can be seen; else `client`."""
    for _ in range(_DEEPEST):
        inner = getattr(client, "client", None)
        if inner is client or not isinstance(inner, ChatCompletionClient):
            break
        client = inner
    return client


@functools.lru_cache(maxsize=1024)
def _provider_of(kind: Any) -> str:
    for base in kind.__mro__:
        for module, name, provider in _PROVIDERS:
            if base.__module__.startswith(module) and base.__name__.startswith(name):
                return provider
    return _CUSTOM


def _model_asked(client: object, arguments: dict[str, Any]) -> str:
    extra = arguments.get("extra_create_args")
    asked = extra.get("model") if type(extra) is dict else None
    return name_of(asked) if type(asked) is str and asked else _model_of(_innermost(client))


def _model_of(client: object) -> str:
    """The model's name; clients keep it in one of a few places, and not all have one."""
    about = getattr(client, "_create_args", None)
    model = about.get("model") if isinstance(about, dict) else None
    for attribute in ("_model_name", "_model", "model"):
        model = model or getattr(client, attribute, None)
    # Semantic Kernel's clients, behind AutoGen's adapter.
    model = model or getattr(getattr(client, "_sk_client", None), "ai_model_id", None)
    if model is None:  # llama.cpp's: the model is a file, told by its name and not by where it is
        path = getattr(getattr(client, "llm", None), "model_path", None)
        model = path.rpartition("/")[2] if isinstance(path, str) else None
    return name_of(model) if isinstance(model, str) else UNNAMED
