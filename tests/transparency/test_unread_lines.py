"""A line of AutoGen's own log that nobody reads is not made; one that somebody reads is AutoGen's in every part."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import autogen_ext.runtimes.grpc._worker_runtime as worker_module
import autogen_ext.runtimes.grpc._worker_runtime_host_servicer as host_module
import pytest
from autogen_apps import Ask, Asked, Note, Noted, ask_runtime
from autogen_core import AgentId, RoutedAgent, SingleThreadedAgentRuntime

from instrumentation.hooks import unread_lines
from instrumentation.testing import capture

LOG = logging.getLogger("autogen_core")


class Shown(str):
    """A text that counts how often it is written out."""

    __slots__ = ()
    times = 0

    def __repr__(self) -> str:
        Shown.times += 1
        return "shown"


class Kept(logging.Handler):
    """Keeps what each record says, and where it says it was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[Any, ...]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.getMessage(), record.pathname, record.lineno, record.funcName, record.levelname))


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, level = Kept(), LOG.level
    LOG.addHandler(handler)
    Shown.times = 0
    yield handler
    LOG.removeHandler(handler)
    LOG.setLevel(level)


async def application() -> None:
    """Sends, is answered, publishes, and says what nobody handles."""
    app = await ask_runtime(asked=Asked, noted=lambda: Noted([]))
    app.start()
    await app.send_message(Ask(Shown("x")), AgentId("asked", "k"))
    await app.send_message(Note(Shown("x")), AgentId("asked", "k"))
    await app.stop_when_idle()
    await app.close()


def test_what_nobody_reads_is_not_made(kept: Kept) -> None:
    """No message is written out while the logger is off, and nothing is logged."""
    LOG.setLevel(logging.WARNING)
    with capture():
        asyncio.run(application())
    assert Shown.times == 0
    assert kept.lines == []
    asyncio.run(application())
    assert Shown.times > 0  # bare AutoGen writes them out


def test_what_somebody_reads_is_autogens(kept: Kept) -> None:
    """The same lines in the same order, from the same places in AutoGen's files; also when the level changes late."""
    LOG.setLevel(logging.INFO)
    asyncio.run(application())
    bare, kept.lines = kept.lines, []
    with capture():
        LOG.setLevel(logging.WARNING)
        asyncio.run(application())
        LOG.setLevel(logging.INFO)
        asyncio.run(application())
    assert kept.lines == bare
    assert {function for _, _, _, function, _ in bare} >= set(
        unread_lines.METHODS["SingleThreadedAgentRuntime"] + unread_lines.METHODS["RoutedAgent"]
    )


def test_a_logger_with_an_info_of_its_own_is_asked_whatever_its_level(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application may have put something in the logger's place that looks at no level."""
    seen: list[str] = []
    LOG.setLevel(logging.ERROR)
    monkeypatch.setattr(LOG, "info", lambda text, *_: seen.append(text))
    asyncio.run(application())
    bare = [*seen]
    seen.clear()
    with capture():
        asyncio.run(application())
    assert seen == bare
    assert len(bare) >= 6


@pytest.mark.parametrize(
    "cls",
    [
        SingleThreadedAgentRuntime, RoutedAgent, worker_module.HostConnection, host_module.ChannelConnection,
        host_module.GrpcWorkerAgentRuntimeHostServicer,
    ],
)  # fmt: skip
def test_every_method_is_found(cls: type) -> None:
    """All that are listed, in this AutoGen and this Python; they still look like what they are."""
    found = {name: ours for _, name, ours in unread_lines.changes(cls)}
    assert found.keys() == set(unread_lines.METHODS[cls.__name__])
    for name, ours in found.items():
        before: Any = vars(cls)[name]
        assert type(ours) is type(before)
        ours, before = getattr(ours, "__func__", ours), getattr(before, "__func__", before)
        assert ours.__qualname__ == before.__qualname__
        assert ours.__doc__ == before.__doc__
        assert ours.__kwdefaults__ == before.__kwdefaults__
        old, new = before.__code__, ours.__code__
        assert (new.co_name, new.co_flags, new.co_varnames) == (old.co_name, old.co_flags, old.co_varnames)
        assert (new.co_filename, new.co_firstlineno) == (old.co_filename, old.co_firstlineno)
        assert {line for *_, line in new.co_lines()} == {line for *_, line in old.co_lines()}


SOURCE = '''
import logging
logger = logging.getLogger("x")
class RoutedAgent:
    @staticmethod
    async def on_unhandled_message(message, *, more=1):
        """Says so."""
        text = """two
    lines"""
        logger.info(f"{message}{text}")
        logger.info("plain")
        logger.warning(f"{message}")
        return more
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with a class that is called as one of AutoGen's."""
    (tmp_path / "some_module.py").write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("some_module", tmp_path / "some_module.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "some_module", made)
    spec.loader.exec_module(made)
    return made


def run(coroutine: Any) -> Any:
    """What a coroutine that waits for nothing returns."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return ended.value.value


def test_only_the_line_is_asked_about(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What is logged as it stands, and what is worse than INFO, is logged as before."""
    ((cls, name, ours),) = unread_lines.changes(module.RoutedAgent)
    assert (cls, name) == (module.RoutedAgent, "on_unhandled_message")
    caplog.set_level(logging.WARNING, "x")
    Shown.times = 0

    class Message:
        def __str__(self) -> str:
            Shown.times += 1
            return "m"

    assert run(ours.__func__(Message(), more=3)) == 3
    assert (Shown.times, caplog.messages) == (1, ["m"])
    caplog.set_level(logging.INFO, "x")
    assert run(ours.__func__(Message())) == 1
    assert caplog.messages == ["m", "mtwo\n    lines", "plain", "m"]


@pytest.mark.parametrize(
    "text",
    [
        SOURCE.replace("return more", "return more + 1"),
        SOURCE.replace("import logging", "import logging  # \n"),  # all of it a line further down
        SOURCE.replace("RoutedAgent", "AnotherAgent"),
        SOURCE.replace("on_unhandled_message", "another"),
        "class RoutedAgent:\n    def on_unhandled_message(:",
        "",
    ],
    ids=["edited", "moved", "no class", "no method", "no Python", "empty"],
)
def test_another_source_changes_nothing(module: Any, text: str) -> None:
    """A file that was written anew since it was imported does not say what runs."""
    Path(module.__file__).write_text(text)
    assert unread_lines.changes(module.RoutedAgent) == []


def test_no_source_changes_nothing(module: Any) -> None:
    """As where an application ships compiled files alone."""
    Path(module.__file__).unlink()
    assert unread_lines.changes(module.RoutedAgent) == []


def test_what_another_put_there_stays(module: Any) -> None:
    """Somebody else's wrapper, or a mock, is not AutoGen's method."""
    for other in (lambda message: None, staticmethod(lambda message: None), object(), None):
        module.RoutedAgent.on_unhandled_message = other
        assert unread_lines.changes(module.RoutedAgent) == []
