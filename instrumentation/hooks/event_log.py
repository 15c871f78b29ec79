"""AutoGen's event logger (`EVENT_LOGGER_NAME`): what only its events tell.

Handlers, model calls and tools are seen where they happen, with a beginning and an end; the events say the same once
more and are not counted twice; what they add to a model call is in `model_events.py`. One thing only an event tells:
that an intervention handler dropped a message.

The tap sits in front of the logger, not in its list of handlers. A handler would have to raise the logger's level to
INFO, and then the application's own handlers would print every payload; it would also silence `logging.lastResort`.
In front, the application's levels, handlers, filters and propagation stay as they are, and an event that nobody reads
never becomes a log record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from autogen_core.logging import MessageDroppedEvent

from instrumentation import tenancy
from instrumentation.activity import Outcome
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder

from .model_events import observe_model_event

_PLAIN: Final = "_tenantscope_plain"  # on the tapped class: whether the logger's own leaves `info` to logging


def observe(recorder: Recorder, event: object) -> None:
    """Look at one event. Never raises."""
    try:
        if observe_model_event(recorder, event):
            return
        if type(event) is MessageDroppedEvent:
            recorder.lost_message((tenancy.current() or tenancy.TABLE.unknown).id, Outcome.DROPPED)
    except BaseException as error:
        fault("event", error)


def reaches_somebody(logger: Any) -> bool:
    """Whether an event could be seen: the logger is on, or does something of its own whether it is on or not."""
    try:
        kind = logger.__class__
        plain = kind.__dict__.get(_PLAIN)
        if plain is None:  # not tapped
            plain = kind.info is logging.Logger.info
        if not plain or "info" in logger.__dict__:
            return True
        return bool(logger.isEnabledFor(logging.INFO))
    except Exception:  # no logger at all, a mock say
        return True


class _Unread(str):
    """Stands for a message that was not serialised, and for the event that was not made of it: nobody reads it."""

    __slots__ = ()


_UNREAD: Final = _Unread()


def serialized_if_read(original: Callable[[Any, Any], str], module: Any) -> Callable[[Any, Any], str]:
    """The runtime's `_try_serialize`, which it asks before each event; `module` is the runtime's, with its logger."""

    def try_serialize(self: Any, message: Any) -> str:
        return original(self, message) if reaches_somebody(module.event_logger) else _UNREAD

    return try_serialize


def made_if_read(original: Callable[..., object]) -> Callable[..., object]:
    """`MessageEvent`, which nothing is made of when its message was not serialised."""

    def make_event(*, payload: str, sender: Any, receiver: Any, kind: Any, delivery_stage: Any, **more: Any) -> object:
        if payload is _UNREAD:
            return payload
        return original(
            payload=payload, sender=sender, receiver=receiver, kind=kind, delivery_stage=delivery_stage, **more
        )

    return make_event


def tapped(original: type[logging.Logger], recorder: Recorder) -> type[logging.Logger]:
    """A subclass of the logger's class that shows every event to `observe` and then does what the original does."""

    class TappedLogger(original):  # type: ignore[misc,valid-type]  # the logger's class is only known at run time
        def info(self, msg: object, *args: object, **kwargs: Any) -> None:
            if msg is _UNREAD:
                return
            observe(recorder, msg)
            super().info(msg, *args, **kwargs)

    # What the application's formatters print as the caller stays the caller: logging skips the frames of its own file.
    # Its parameter `stacklevel` would say the same, but a class of the application's need not know it.
    code = TappedLogger.info.__code__
    TappedLogger.info.__code__ = code.replace(co_filename=str(logging._srcfile))  # noqa: SLF001
    setattr(TappedLogger, _PLAIN, original.info is logging.Logger.info)
    TappedLogger.__name__ = original.__name__
    TappedLogger.__qualname__ = original.__qualname__
    TappedLogger.__module__ = original.__module__
    return TappedLogger
