"""The providers' SDKs under the model clients: every HTTP answer of a call, and the pieces of its stream.

AutoGen's clients hide their SDK's retries, and take from a streamed answer only the two sums of tokens. So two kinds of
methods of other libraries are observed, and only while a model call is under way: the one that every request passes,
and the one that reads a stream. No header and no body is looked at.

A seam is attached when its library has been imported by somebody; nothing is imported here.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Self

from instrumentation.telemetry.recorder import Recorder

from .open_call import OpenCall, current


def send(original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """An HTTP client's `send(request, ...)`, observed."""

    @functools.wraps(original)
    async def observed_send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        call = current()
        if call is None:
            return await original(self, request, *args, **kwargs)
        call.sends(request)
        response = await original(self, request, *args, **kwargs)
        call.answered(response)
        return response

    return observed_send


def stream(original: Callable[..., AsyncIterator[Any]], recorder: Recorder) -> Callable[..., Any]:
    """An SDK's reader of server-sent events, observed."""

    @functools.wraps(original)
    def observed_stream(self: Any) -> Any:
        call, items = current(), original(self)
        return items if call is None else _Noted(items, call)

    return observed_stream


class _Noted:
    """The pieces of a stream, each shown to the call on its way.

    No generator: the loop closes every one that it knows of when it ends, all at once, and each more of them in a row
    is one more that is busy when its turn comes.
    """

    __slots__ = ("_call", "_items")

    def __init__(self, items: AsyncIterator[Any], call: OpenCall) -> None:
        self._items = items
        self._call = call

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        item = await self._items.__anext__()
        self._call.chunk(item)
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._items, name)


#: (module, class, method) of the libraries that AutoGen's clients are built on.
SEAMS: Final[tuple[tuple[str, str, str, Callable[[Any, Recorder], Callable[..., Any]]], ...]] = (
    ("httpx", "AsyncClient", "send", send),
    ("httpx2", "AsyncClient", "send", send),
    ("azure.core.pipeline.transport._aiohttp", "AioHttpTransport", "send", send),
    ("openai._streaming", "AsyncStream", "__stream__", stream),
    ("anthropic._streaming", "AsyncStream", "__stream__", stream),
)
