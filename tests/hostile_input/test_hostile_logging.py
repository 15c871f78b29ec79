"""The application's logging sees what it sees without us: record for record, to the function name and the line."""

from __future__ import annotations

import asyncio
import logging
import logging.config
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import autogen_core._single_threaded_agent_runtime as runtime_module
import pytest
from autogen_apps import Ask, Asked, ask_runtime, two_agent_team
from autogen_core import EVENT_LOGGER_NAME, AgentId, DefaultInterventionHandler, DropMessage, SingleThreadedAgentRuntime
from autogen_core.logging import LLMCallEvent

from instrumentation.testing import capture


def lookup() -> str:
    """A tool."""
    logging.getLogger(EVENT_LOGGER_NAME).info(
        LLMCallEvent(messages=[{"s3cr3t": 1}], response={}, prompt_tokens=1, completion_tokens=2), extra={"mine": 1}
    )
    logging.getLogger(EVENT_LOGGER_NAME).info("%s of mine", "text", stack_info=True, stacklevel=2)
    return "found"


class Dropping(DefaultInterventionHandler):
    async def on_send(self, message: Any, **_: Any) -> Any:
        return DropMessage


async def everything() -> None:
    """A team run, an application of its own agents, a drop, an error, an agent that cannot be made."""
    await two_agent_team(lookup).run(task="go")

    def fail(_: str) -> None:
        raise KeyError("handler")

    def unmakeable() -> Asked:
        if len(made):
            raise LookupError("factory")
        made.append(1)
        return Asked()

    made: list[int] = []
    runtime = await ask_runtime(asked=Asked, failing=lambda: Asked(work=fail), unmakeable=unmakeable)
    dropping = SingleThreadedAgentRuntime(intervention_handlers=[Dropping()])
    await Asked.register(dropping, "asked", Asked)
    for app, name in ((runtime, "asked"), (runtime, "failing"), (runtime, "unmakeable"), (dropping, "asked")):
        if app._run_context is None:
            app.start()
        await asyncio.gather(app.send_message(Ask("x"), AgentId(name, "k")), return_exceptions=True)
    await runtime.stop()
    await dropping.stop()


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: list[tuple[Any, ...]] = []

    def emit(self, record: logging.LogRecord) -> None:
        ours = "instrumentation/" in (record.stack_info or "") or "instrumentation/" in record.pathname
        payload = type(record.msg).__name__, self._text(record)
        self.seen.append(
            (record.name, record.levelname, *payload, record.pathname, record.lineno, record.funcName, ours,
             record.exc_info and record.exc_info[0], getattr(record, "mine", None), type(record.args).__name__)
        )  # fmt: skip

    @staticmethod
    def _text(record: logging.LogRecord) -> str:
        """The payload, but for what is random in it."""
        text = record.getMessage()
        words = [w for w in text.replace('"', " ").replace("_", " ").split() if len(w) < 30]
        return " ".join(w for w in words if not any(c.isdigit() for c in w))


@contextmanager
def logging_set_up(kind: str) -> Iterator[Records]:
    """The ways in which applications set logging up; everything is put back."""
    root, events, core = (logging.getLogger(name) for name in (None, EVENT_LOGGER_NAME, "autogen_core"))
    kept = [
        (x, x.level, list(x.handlers), list(x.filters), x.disabled, x.propagate, type(x)) for x in (root, events, core)
    ]
    records = Records()
    try:
        if kind == "root at debug":
            root.addHandler(records)
            root.setLevel(logging.DEBUG)
        elif kind == "events at info":
            events.addHandler(records)
            events.setLevel(logging.INFO)
        elif kind == "events at info, not passed on":
            events.addHandler(records)
            events.setLevel(logging.INFO)
            events.propagate = False
        elif kind == "nothing":
            root.addHandler(records)
        elif kind == "dictConfig":
            logging.config.dictConfig(
                {"version": 1, "disable_existing_loggers": True, "root": {"level": "DEBUG", "handlers": []}}
            )
            root.addHandler(records)
        elif kind == "a filter that changes":
            events.addFilter(lambda record: setattr(record, "mine", "filtered") or True)
            root.addHandler(records)
            root.setLevel(logging.INFO)
        elif kind == "a class of its own":
            events.__class__ = Own
            root.addHandler(records)
            root.setLevel(logging.INFO)
        yield records
    finally:
        for logger, level, handlers, filters, disabled, propagate, cls in kept:
            logger.setLevel(level)
            logger.handlers[:], logger.filters[:] = handlers, filters
            logger.disabled, logger.propagate, logger.__class__ = disabled, propagate, cls  # type: ignore[assignment]
        for known in list(logging.Logger.manager.loggerDict.values()):
            if isinstance(known, logging.Logger):
                known.disabled = False


class Own(logging.Logger):
    """Knows nothing of logging's keywords, and does not care for levels."""

    def info(self, msg: Any, *args: Any, extra: Any = None, stack_info: bool = False, **_: Any) -> None:  # type: ignore[override]
        self._log(logging.INFO, msg, args, extra=extra, stack_info=stack_info, stacklevel=2)


def autogens(records: Records) -> list[tuple[Any, ...]]:
    return [record for record in records.seen if record[0].startswith("autogen")]


SET_UPS = (
    "root at debug", "events at info", "events at info, not passed on", "nothing", "dictConfig",
    "a filter that changes", "a class of its own",
)  # fmt: skip


@pytest.mark.parametrize("kind", SET_UPS)
def test_the_same_records(kind: str) -> None:
    """Name, level, payload, file, line, function, exception and extras of every record are those of a bare run."""
    with logging_set_up(kind) as bare:
        asyncio.run(everything())
    with logging_set_up(kind) as watched, capture() as captured:
        asyncio.run(everything())
        assert len(captured.spans()) > 5
    assert autogens(watched) == autogens(bare)
    assert not [r for r in watched.seen if r[0].startswith(("tenantscope", "instrumentation", "opentelemetry"))]
    assert not any("instrumentation/" in r[4] for r in watched.seen)
    if kind not in ("nothing", "dictConfig"):
        assert len(bare.seen) > 15


def events_of(logger: mock.Mock) -> list[str]:
    return [type(call.args[0]).__name__ for call in logger.info.call_args_list]


def test_an_application_that_replaces_the_logger() -> None:
    """The method on the object, or the object itself: a mock gets real events with real payloads, as without us."""

    def run() -> list[list[str]]:
        seen = []
        with mock.patch.object(logging.getLogger(EVENT_LOGGER_NAME), "info") as info:
            asyncio.run(everything())
            seen.append([type(call.args[0]).__name__ for call in info.call_args_list])
        with mock.patch.object(runtime_module, "event_logger") as logger:
            asyncio.run(everything())
            seen.append(events_of(logger))
        return seen

    bare = run()
    with capture():
        assert run() == bare
    assert "MessageEvent" in bare[0]
    assert "MessageEvent" in bare[1]
