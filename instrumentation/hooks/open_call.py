"""The model call that is under way here, and what others than its client tell of it: HTTP, streams, AutoGen's events.

A client's answer says how many tokens it took, and nothing of retries, of HTTP, of tokens that were cached or thought
with. Those who know are asked in passing, through a context variable. Read are numbers, class names of exceptions and
the name of the model that answered; of a usage report that is not made of plain numbers nothing is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from instrumentation.activity import ModelCall, name_of
from instrumentation.diagnostics import fault

_TOO_MANY_REQUESTS: Final = 429


class OpenCall:
    """A call that is under way: by which client, and what has become known of it. Its methods never raise."""

    __slots__ = ("_clock", "_request", "activity", "client", "ended")

    def __init__(self, client: object, activity: ModelCall | None, clock: Callable[[], int]) -> None:
        self.client = client
        self.activity = activity
        self.ended = False
        self._clock = clock
        self._request: tuple[object, object] | None = None
        above = current()
        if above is not None and above.activity is not None:
            above.activity.delegated = True

    def sends(self, request: Any) -> None:
        """A request goes out; the same one twice in a row is a retry."""
        try:
            activity = self.activity
            if activity is not None:
                # Credentials may be asked for in between, of another address. Compared here, and kept nowhere else.
                what = (request.method, request.url)
                activity.resends += what == self._request
                self._request = what
        except BaseException as error:
            fault("chat.request", error)

    def answered(self, response: Any) -> None:
        """An answer came in over HTTP."""
        try:
            self._status(response.status_code)
        except BaseException as error:
            fault("chat.response", error)

    def chunk(self, item: Any) -> None:
        """A piece of a stream, as the provider's SDK read it."""
        try:
            self.first_chunk()
            for holder in (item, getattr(item, "message", None)):  # Anthropic begins a stream with a `message`
                usage = getattr(holder, "usage", None)
                self.usage(usage)
                self._so_far(usage)
                self.model(getattr(holder, "model", None))
        except BaseException as error:
            fault("chat.chunk", error)

    def first_chunk(self) -> None:
        """A piece of a stream has come, the first or a later one."""
        activity = self.activity
        if activity is not None and activity.first_chunk_seconds is None:
            activity.first_chunk_seconds = (self._clock() - activity.began_ns) / 1e9

    def event(self, response: object, input_tokens: object, output_tokens: object) -> None:
        """AutoGen's event logger was told of the call. The client's answer, if one comes, has the last word."""
        self.took(input_tokens or 0, output_tokens or 0)
        if type(response) is dict:
            self.usage(response.get("usage"))
            self.model(response.get("model"))

    def took(self, input_tokens: object, output_tokens: object) -> None:
        """The two sums, as AutoGen knows them; None: nothing that this call would have to pay for.

        Both are zero where the provider did not tell AutoGen, as in most streams.
        """
        activity = self.activity
        if activity is not None and (input_tokens or output_tokens or input_tokens is None):
            activity.input_tokens, activity.output_tokens = _tokens(input_tokens), _tokens(output_tokens)

    def usage(self, usage: object) -> None:
        """A provider's report of what a call took, as OpenAI or as Anthropic has it."""
        activity = self.activity
        if activity is None or usage is None:
            return
        read = _field(_field(usage, "prompt_tokens_details"), "cached_tokens")
        if read is None:
            read = _field(usage, "cache_read_input_tokens")
        for name, told in (
            ("cache_read_tokens", read),
            ("cache_write_tokens", _field(usage, "cache_creation_input_tokens")),
            ("reasoning_tokens", _field(_field(usage, "completion_tokens_details"), "reasoning_tokens")),
        ):
            number = _tokens(told)
            if number is not None:
                setattr(activity, name, number)

    def _so_far(self, usage: object) -> None:
        """The two sums while the stream goes on: all there is of one that is left before its end, and paid for."""
        activity = self.activity
        if activity is not None and usage is not None:
            for name, theirs in (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")):
                number = _tokens(_field(usage, name)) or _tokens(_field(usage, theirs))
                if number:
                    setattr(activity, name, number)

    def model(self, name: object) -> None:
        """Which model answered."""
        if self.activity is not None and type(name) is str and name:
            self.activity.response_model = name_of(name)

    def failed(self, error: BaseException) -> None:
        """What ended the call; of use where nobody saw the HTTP under it."""
        try:
            activity = self.activity
            status = getattr(error, "status_code", None)
            if activity is not None and activity.status_code is None:
                self._status(status)
        except BaseException as broken:
            fault("chat.error", broken)

    def _status(self, status: object) -> None:
        activity = self.activity
        if activity is not None and type(status) is int and 100 <= status <= 599:
            activity.status_code = status
            activity.rate_limits += status == _TOO_MANY_REQUESTS


calling: ContextVar[OpenCall | None] = ContextVar("tenantscope_model_call", default=None)


def current() -> OpenCall | None:
    """The call that is under way in this context; None when there is none, or it has ended and left a task behind."""
    call = calling.get()
    return None if call is None or call.ended else call


def _tokens(value: object) -> int | None:
    """`value` as a number of tokens: an int of a sane size, for a larger one would take its OTLP batch with it."""
    return value if type(value) is int and 0 <= value < 2**53 else None


def _field(holder: Any, name: str) -> object:
    if type(holder) is dict:
        return holder.get(name)
    return None if holder is None else getattr(holder, name, None)
