"""The application's own log lines say whose they are and where in the trace; the file of events holds no content."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import structlog
from autogen_apps import Ask, Asked, Note, Noted, ask_runtime, two_agent_team
from autogen_core import EVENT_LOGGER_NAME, AgentId, DefaultTopicId
from autogen_core.logging import MessageHandlerExceptionEvent

from instrumentation import diagnostics, logs, tenant
from instrumentation.telemetry.event_file import EventFile
from instrumentation.testing import Captured, capture


@pytest.fixture
def logger() -> Any:
    """A logger of the application's, writing through a handler that has the filter."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(logs.ContextFilter())
    handler.setFormatter(
        logging.Formatter("%(tenant_id)s|%(conversation_id)s|%(trace_id)s|%(span_id)s|%(message)s", validate=True)
    )
    found = logging.getLogger("application")
    found.addHandler(handler)
    found.propagate = False
    yield found, stream
    found.removeHandler(handler)
    found.propagate = True


def test_lines_of_logging_lead_to_the_trace(captured: Captured, logger: Any) -> None:
    """Tenant, conversation, trace and span of the place where the line was logged."""
    log, stream = logger

    async def look() -> str:
        """A tool."""
        log.warning("inside")
        return "found"

    with tenant("acme"):
        asyncio.run(two_agent_team(look).run(task="go"))
    line = stream.getvalue().strip().split("|")
    (tool,) = [span for span in captured.spans() if span.name == "execute_tool look"]
    assert line == [
        "acme", (tool.attributes or {})["gen_ai.conversation.id"], f"{tool.context.trace_id:032x}",
        f"{tool.context.span_id:016x}", "inside",
    ]  # fmt: skip


def test_what_autogen_logs_of_a_failing_handler_leads_to_its_span(captured: Captured) -> None:
    """Of a send and of a published message: AutoGen's event, and its error line, come when the handler has ended."""
    kept: list[tuple[str, str]] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.msg, MessageHandlerExceptionEvent) or record.levelno == logging.ERROR:
                kept.append((record.tenant_id, record.span_id))  # type: ignore[attr-defined]

    async def main() -> None:
        def fail(_: str) -> None:
            raise LookupError("no")

        runtime = await ask_runtime(asked=lambda: Asked(work=fail), noted=lambda: Noted(None))  # type: ignore[arg-type]
        runtime.start()
        with tenant("acme"):
            with pytest.raises(LookupError):
                await runtime.send_message(Ask("x"), AgentId("asked", "k"))
            await runtime.publish_message(Note("x"), DefaultTopicId())
        await runtime.stop_when_idle()

    handler, loggers = Keeping(), [logging.getLogger("autogen_core"), logging.getLogger(EVENT_LOGGER_NAME)]
    handler.addFilter(logs.ContextFilter())
    for it in loggers:
        it.addHandler(handler)
    loggers[1].setLevel(logging.INFO)
    loggers[1].propagate = False
    try:
        asyncio.run(main())
    finally:
        for it in loggers:
            it.removeHandler(handler)
        loggers[1].setLevel(logging.NOTSET)
        loggers[1].propagate = True
    failed = {f"{s.context.span_id:016x}" for s in captured.spans() if s.name.startswith("process ")}
    assert len(failed) == 2
    assert {span_id for _, span_id in kept} == failed
    assert {tenant_id for tenant_id, _ in kept} == {"acme"}


def test_lines_outside_of_everything(captured: Captured, logger: Any) -> None:
    """Empty, so that a format that names the attributes works everywhere; what the application set stays."""
    log, stream = logger
    log.warning("outside")
    log.warning("own", extra={"tenant_id": "mine"})
    assert stream.getvalue().splitlines() == ["||||outside", "mine||||own"]


def test_lines_of_structlog(captured: Captured) -> None:
    """Keys of the conventions, where there is something to say."""
    lines: list[Any] = []

    def keep(_: object, __: str, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[logs.add_context, keep])

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=lambda _: log.info("inside", trace_id="mine")))
        runtime.start()
        with tenant("acme"):
            await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        await runtime.stop_when_idle()

    log.info("outside")
    asyncio.run(main())
    (span,) = [span for span in captured.spans() if span.name == "process asked"]
    assert lines == [
        {"event": "outside"},
        {"event": "inside", "trace_id": "mine", "tenant.id": "acme", "span_id": f"{span.context.span_id:016x}"},
    ]


def test_nothing_reaches_the_application_when_we_fail(monkeypatch: pytest.MonkeyPatch, logger: Any) -> None:
    """The line is logged without us."""
    log, stream = logger
    monkeypatch.setattr(logs, "current_activity", lambda *_: 1 / 0)
    log.warning("still there")
    assert stream.getvalue().endswith("still there\n")
    assert logs.add_context(None, "info", {"event": "x"})["event"] == "x"


def run_a_team(who: str = "acme") -> None:
    def look() -> str:
        """A tool."""
        raise ValueError("s3cr3t")

    with tenant(who):
        asyncio.run(two_agent_team(look, arguments='{"s3cr3t": 1}').run(task="s3cr3t"))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_file_of_events(tmp_path: Path) -> None:
    """A line for each activity, with the ids of its span and without content; for its owner's eyes only."""
    path = tmp_path / "events.jsonl"
    with capture(event_log=path) as captured:
        run_a_team()
        spans = captured.spans()
    lines = read(path)
    assert [(f"{s.context.span_id:016x}", (s.attributes or {})["tenant.id"]) for s in spans] == [
        (line["span_id"], line["tenant.id"]) for line in lines
    ]
    (tool,) = [line for line in lines if line["activity"] == "execute_tool"]
    assert (tool["name"], tool["outcome"], tool["error.type"]) == ("look", "error", "ValueError")
    assert "s3cr3t" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert {line["parent_span_id"] for line in lines} <= {None, *(line["span_id"] for line in lines)}


def test_it_is_appended_to_and_set_aside(tmp_path: Path) -> None:
    """A second start goes on where the first ended; no file outgrows its bound; the oldest goes."""
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        with capture(event_log=path):
            run_a_team()
    whole = read(path)
    assert len(whole) % 2 == 0
    with capture(event_log=path, event_log_bytes=4096) as captured:
        for _ in range(8):
            run_a_team()
            captured.spans()
    names = sorted(found.name for found in tmp_path.iterdir())
    assert names == ["events.jsonl", *(f"events.jsonl.{n}" for n in range(1, 6))]
    assert all(found.stat().st_size <= 4096 for found in tmp_path.iterdir() if found.name != "events.jsonl.5")
    assert all(read(found) for found in tmp_path.iterdir())


def in_a_child(path: str) -> None:
    with capture(event_log=Path(path)):
        run_a_team("globex")


def test_two_processes_do_not_write_into_one_file(tmp_path: Path) -> None:
    """The second writes beside the first, under its process id."""
    path = tmp_path / "events.jsonl"
    with capture(event_log=path) as captured:
        run_a_team("acme")
        captured.spans()
        child = multiprocessing.get_context("spawn").Process(target=in_a_child, args=(str(path),))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        run_a_team("acme")
    assert {line["tenant.id"] for line in read(path)} == {"acme"}
    assert {line["tenant.id"] for line in read(tmp_path / f"events.{child.pid}.jsonl")} == {"globex"}


@pytest.mark.parametrize("where", ["nowhere/events.jsonl", "folder", "link"])
def test_a_file_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    """No folder, a folder, a link to somewhere else: counted, and the spans are exported all the same."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    before = diagnostics.counts().get("event_log.unwritable", 0)
    with capture(event_log=tmp_path / where) as captured:
        run_a_team()
        assert len(captured.spans()) > 5
    assert diagnostics.counts()["event_log.unwritable"] > before + 5
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_full_disk(tmp_path: Path) -> None:
    """What does not fit is dropped and counted; nothing raises."""
    before = diagnostics.counts().get("event_log.unwritable", 0)
    with capture(event_log=Path("/dev/full")) as captured:
        run_a_team()
        assert len(captured.spans()) > 5
    assert diagnostics.counts()["event_log.unwritable"] > before + 5
    EventFile(tmp_path / "x", 4096).close()
