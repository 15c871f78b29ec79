"""The sidecar's log: one line an event, whatever the values hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from sidecar import log


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    before = structlog.get_config()
    log.configure()
    yield capsys
    structlog.configure(**before)


@pytest.mark.parametrize(
    "text",
    [
        "a\nlevel=info event=forged",
        "\x1b[2Jgone",
        "\u202egnp.exe",
        "a\r\nb",
        "\0",
        "\ud800",
        "a\u2028b",
        'a"b',
    ],
)
def test_no_value_can_forge_a_line(lines: pytest.CaptureFixture[str], text: str) -> None:
    """Line breaks, escape sequences and direction overrides are written out."""
    structlog.get_logger("sidecar").warning("odd value", value=text, count=3)
    output = lines.readouterr().err
    assert output.count("\n") == 1
    assert output.rstrip("\n").isprintable()
    assert 'level=warning event="odd value"' in output
    assert "count=3" in output
