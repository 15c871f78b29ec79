"""Model clients: one `chat` activity a call, for every subclass of `ChatCompletionClient`, streaming or not.

Taken: the model and provider that the client is set up with, tokens, the finish reason, the duration, the type of the
exception. A client that calls its own base class, or itself, is one call; one that asks another client is two, and the
tokens are the other's.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, get_args

from autogen_core.models import CreateResult, FinishReasons

from instrumentation import tenancy
from instrumentation.activity import Activity, Kind, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope

from .streams import observed

# gen_ai.provider.name by the module that defines the client, most special first.
_PROVIDERS: Final = (
    ("autogen_ext.models.openai", "openai"),
    ("autogen_ext.models.anthropic", "anthropic"),
    ("autogen_ext.models.azure", "azure.ai.inference"),
    ("autogen_ext.models.ollama", "ollama"),
    ("autogen_ext.models.llama_cpp", "llama_cpp"),
    ("autogen_ext.models.semantic_kernel", "semantic_kernel"),
    ("autogen_ext.models.replay", "replay"),
)

_FINISH_REASONS: Final = frozenset(get_args(FinishReasons))  # a custom client may put anything there, content too


class _Call:
    """A call that is under way: whose, and whether it asked another client (a cache, a router) to do the work."""

    __slots__ = ("client", "delegated")

    def __init__(self, client: object) -> None:
        self.client = client
        self.delegated = False
        above = _calling.get()
        if above is not None:
            above.delegated = True


_calling: ContextVar[_Call | None] = ContextVar("tenantscope_model_call", default=None)


def _is_part_of_a_call(client: object) -> bool:
    above = _calling.get()
    return above is not None and above.client is client


def create(original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`ChatCompletionClient.create`, observed."""

    @functools.wraps(original)
    async def observed_create(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_part_of_a_call(self):
            return await original(self, *args, **kwargs)
        scope, call = _scope(self, recorder), _Call(self)
        token = _calling.set(call)
        try:
            if scope is None:
                return await original(self, *args, **kwargs)
            with scope:
                result = await original(self, *args, **kwargs)
                _note(call, scope, result)
                return result
        finally:
            with contextlib.suppress(ValueError):  # thrown away by the garbage collector, in somebody else's context
                _calling.reset(token)

    return observed_create


def create_stream(original: Callable[..., AsyncGenerator[Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`ChatCompletionClient.create_stream`, observed; the call begins with the first step."""

    @functools.wraps(original)
    def observed_create_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        stream = original(self, *args, **kwargs)
        if _is_part_of_a_call(self):
            return stream
        call = _Call(self)
        note = functools.partial(_note, call)
        return observed(stream, lambda: _scope(self, recorder), note, hold=(_calling, call))

    return observed_create_stream


def _scope(client: object, recorder: Recorder) -> Scope | None:
    try:
        tenant = tenancy.current() or tenancy.TABLE.unknown
        activity = Activity(Kind.CHAT, tenant, _model_of(client), time.monotonic_ns())
        activity.provider = _provider_of(client.__class__)  # type: ignore[arg-type]  # classes are hashable
        return recorder.scope(activity)
    except BaseException as error:
        fault("chat", error)
        return None


def _note(call: _Call, scope: Scope, item: object) -> None:
    try:
        if isinstance(item, CreateResult):
            activity = scope.activity
            if item.finish_reason in _FINISH_REASONS:
                activity.finish_reason = item.finish_reason
            # Tokens are what somebody pays for: not those of a cached answer, and once, where the work was done.
            if not item.cached and not call.delegated:
                activity.input_tokens = _tokens(item.usage.prompt_tokens)
                activity.output_tokens = _tokens(item.usage.completion_tokens)
    except BaseException as error:
        fault("chat.result", error)


def _tokens(value: object) -> int | None:
    # An int of a sane size: OTLP has 64 bits, and a larger one would take the whole batch with it.
    return value if type(value) is int and 0 <= value < 2**53 else None


@functools.lru_cache(maxsize=1024)
def _provider_of(kind: Any) -> str:
    for base in kind.__mro__:
        if base.__module__.startswith("autogen_ext.models.openai") and base.__name__.startswith("Azure"):
            return "azure.ai.openai"
        for module, provider in _PROVIDERS:
            if base.__module__.startswith(module):
                return provider
    return "custom"


def _model_of(client: object) -> str:
    """The model's name; clients keep it in one of three places, and not all have one."""
    about = getattr(client, "_create_args", None)
    model = about.get("model") if isinstance(about, dict) else None
    for attribute in ("_model_name", "_model", "model"):
        model = model or getattr(client, attribute, None)
    return name_of(model if isinstance(model, str) else "")
