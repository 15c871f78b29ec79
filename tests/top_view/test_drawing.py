"""The picture: what it says, what it leaves out, and that it always fits."""

from __future__ import annotations

import functools
import io
from typing import Any

import pytest
from recorded_sidecar import CALM, STALLED, as_status, recorded
from rich.console import Console

from tenantscope.top.poller import Look
from tenantscope.top.screen import ORDERS, View, draw, sorted_rows
from tenantscope.view.stalls import application_frames
from tenantscope.view.status import Status
from tenantscope.view.table import COLUMNS, tenants_table
from tenantscope.view.tenants import History

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202edrowssap\r\n\ud800" + "漢" * 400


def look(*given: Status, seconds: float = 1.18, error: str = "") -> Look:
    history = History()
    for count, status in enumerate(given):
        history.take(status, count * seconds)
    return Look(given[-1], tuple(history.rows().values()), history.utilization(), 0.0, error)


def now() -> Look:
    return look(as_status(recorded(CALM)), as_status(recorded(STALLED)))


def printed(shown: Look, width: int = 120, height: int = 40, view: View = View()) -> list[str]:  # noqa: B008  # frozen
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(draw(shown, view, "http://127.0.0.1:8889", 0.0, width, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_it_says_who_holds_the_loop_where_and_who_waits() -> None:
    """All that one wants to know while an application hangs, on one page."""
    page = "\n".join(printed(now()))
    stall = as_status(recorded(STALLED)).stalls[-1]
    assert "sidecar pid " in page
    assert "→ embedded store" in page
    assert "1 stall now, 1 alert firing" in page
    assert f"● acme holds a loop of tenantscope-demo, pid {stall.pid}: " in page
    assert "    Stage.render_report_synchronously reports/stage.py:" in page
    assert "▲ EventLoopStalled since " in page
    assert "hooli and 1 more waited" in page
    for title in ("has the loop", "loop time", "waited", "made wait", "waits", "msgs/s", "errors", "tokens"):
        assert title in page


def test_it_says_who_made_whom_wait() -> None:
    """The three that waited longest, over all loops; what stands for the rest is nobody's."""
    document: Any = recorded(STALLED)
    first = document["loops"][0]
    first["pairs"] = [
        {"culprit": "acme", "victim": "hooli", "seconds": 1.25},
        {"culprit": "acme", "victim": "globex", "seconds": 0.5},
        {"culprit": "globex", "victim": "hooli", "seconds": 0.25},
        {"culprit": "globex", "victim": "acme", "seconds": 0.125},
        {"culprit": "other", "victim": "other", "seconds": 99.0},
    ]
    document["loops"].append({**first, "loop_id": 2, "pairs": [{"culprit": "acme", "victim": "globex", "seconds": 2}]})
    page = [line for line in printed(look(as_status(document))) if line.startswith("→")]
    assert page == [
        "→ acme made globex wait 2.5 s in all",
        "→ acme made hooli wait 1.2 s in all",
        "→ globex made hooli wait 250 ms in all",
    ]


def test_a_calm_moment_looks_calm() -> None:
    """No stall, no alert, nothing in the way."""
    document: Any = recorded(CALM)
    document.update(stalls=[], alerts=[])
    page = printed(look(as_status(document)))
    assert any("0 stalls now, 0 alerts firing" in line for line in page)
    assert "○ no stall yet" in page


def test_the_findings_of_isolation_have_a_column_when_there_are_any() -> None:
    """Rare, so otherwise they would only take room; and then they stay at any width."""
    assert not any("findings" in line for line in printed(now()))
    document: Any = recorded(STALLED)
    document["tenants"][0]["findings"] = 3
    assert any("findings" in line for line in printed(look(as_status(document)), width=60))


def test_a_loop_that_is_watched_in_a_lesser_way_is_marked_and_the_mark_explained() -> None:
    """Once for each way, below the loops; where every cell is read there is nothing to explain."""
    document: Any = recorded(CALM)
    assert not any("cell alone" in line or "heartbeats:" in line for line in printed(look(as_status(document))))
    loop = document["loops"][0]
    document["loops"] = [loop] + [
        loop | {"loop_id": number, "mode": "heartbeats", "cannot": ["no held interpreter", "no death"]}
        for number in (7, 8)
    ]
    page = printed(look(as_status(document)))
    assert sum(" ago~" in line for line in page) == 2
    assert [line for line in page if "heartbeats:" in line] == [" ~ heartbeats: no held interpreter; no death"]


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_tenants_are_sorted_by_what_was_asked_for(order: str) -> None:
    """Most first; a tie goes by name, so that rows do not jump."""
    rows = sorted_rows(now(), View(order))
    ranks = [ORDERS[order](row) for row in rows]
    assert ranks == sorted(ranks, reverse=True)
    assert rows == sorted(rows, key=lambda row: row.tenant) or len(set(ranks)) > 1


def test_only_the_tenants_that_were_asked_for_have_rows() -> None:
    """A pattern as a shell has it."""
    assert [row.tenant for row in sorted_rows(now(), View(tenants="h*"))] == ["hooli"]
    assert sorted_rows(now(), View(tenants="H*")) == []


@functools.cache
def hostile() -> Look:
    """1000 tenants on 50 loops, and text that a terminal would obey wherever there is text."""
    document: Any = recorded(STALLED)
    share, stored = document["loops"][0]["tenants"][0], document["tenants"][0]
    names = [f"tenant-{number:04}" for number in range(1000)] + [HOSTILE]
    document.update(version=HOSTILE, destination=HOSTILE)
    loop = document["loops"][0] | {"service": HOSTILE, "running": {"tenant": HOSTILE, "seconds": 1e15}}
    loop |= {"mode": HOSTILE, "cannot": [HOSTILE] * 9}
    loop["tenants"] = [share | {"tenant": name} for name in names]
    document["loops"] = [loop | {"loop_id": number} for number in range(50)]
    document["tenants"] = [stored | {"tenant": name, "errors": 2**63} for name in names]
    document["stalls"] = [stall | {"active": True, "tenant": HOSTILE} for stall in document["stalls"] * 60]
    document["alerts"] = [
        alert | {"status": "firing", "name": HOSTILE, "labels": {"a": HOSTILE, "b": str(number)}}
        for number, alert in enumerate(document["alerts"] * 30)
    ]
    status = as_status(document)
    return look(status, status)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("height", [20, 24, 50])
@pytest.mark.parametrize("given", ["real", "hostile", "stale", "nothing"])
def test_the_picture_fits_the_terminal(given: str, width: int, height: int) -> None:
    """No line is wrapped, none falls off the end; the keys are always on the last one."""
    found = {
        "real": now,
        "hostile": hostile,
        "stale": lambda: look(as_status(recorded(STALLED)), error="connection refused"),
        "nothing": lambda: Look(error="connection refused"),
    }[given]()
    page = printed(found, width, height, View(keys=True))
    assert len(page) == height
    assert all(Console(width=width).render_str(line, markup=False).cell_len <= width for line in page)
    assert page[-1].startswith("q quit")
    assert all(character.isprintable() for line in page for character in line)


def test_what_does_not_fit_is_counted() -> None:
    """1000 tenants, 50 loops, hundreds of stalls: the first of each, and how many more."""
    page = printed(hostile(), height=60)
    heading = next(number for number, line in enumerate(page) if "has the loop" in line)
    last = next(number for number, line in enumerate(page) if line.endswith("more tenants"))
    left = int(page[last].split()[1].replace(",", ""))
    assert last - heading - 1 + left == len(hostile().rows) > 1000
    assert any(line.endswith("more loops") for line in page)
    assert any(line.endswith("more stalls that last") for line in page)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_name_does_not_push_the_time_off_the_line(width: int) -> None:
    """How long a loop is held is what matters most."""
    document: Any = recorded(STALLED)
    document["loops"][0].update(running={"tenant": "t" * 200, "seconds": 12.3}, service="s" * 200)
    assert any("ttt… 12.3 s " in line and " ms" in line for line in printed(look(as_status(document)), width))


def test_a_status_with_wrong_values_says_so() -> None:
    """What was left out is counted in the picture, too."""
    document: Any = recorded(CALM)
    document["pid"] = "x"
    assert "1 value of the status made no sense and count as empty" in "\n".join(printed(look(as_status(document))))


def test_a_store_that_cannot_be_read_is_not_taken_for_an_empty_one() -> None:
    """Rows without totals would look as if nothing had happened."""
    document: Any = recorded(CALM)
    assert "store cannot be read" not in "\n".join(printed(look(as_status(document))))
    document["store_fault"] = "sqlite_cantopen"
    page = "\n".join(printed(look(as_status(document))))
    assert "the store cannot be read (sqlite_cantopen): totals and findings are missing" in page


def test_without_an_answer_the_last_picture_stays_and_says_how_old_it_is() -> None:
    """A sidecar that restarts does not blank the screen."""
    page = "\n".join(printed(look(as_status(recorded(STALLED)), error="connection refused")))
    assert "no answer for 0 ms: connection refused" in page
    assert "acme" in page


def test_application_frames_are_those_of_the_slice_and_what_they_called() -> None:
    """Not who started the loop, nor the framework between; but the library function that hangs."""
    stack = [
        "/srv/app/main.py:9 main",
        "/usr/lib/python3.11/asyncio/events.py:80 Handle._run",
        "/x/site-packages/autogen_core/_tool.py:1 run",
        "/srv/app/report.py:4 render",
        "/usr/lib/python3.11/re/__init__.py:166 match",
    ]
    assert application_frames(stack, 3) == stack[3:]
    assert application_frames(stack[:3], 3) == [stack[2]]
    assert application_frames(stack, 1) == stack[3:]
    assert application_frames(stack[:2], 3) == [stack[0], stack[1]]
    assert application_frames([], 3) == []


@pytest.mark.parametrize(
    ("room", "gone"), [(200, ""), (69, "bar"), (60, "bar spans"), (50, "bar spans tokens"), (10, "bar spans tokens")]
)
def test_a_table_gives_up_what_it_was_told_to_and_no_more_than_it_must(room: int, gone: str) -> None:
    """In that order; a share whose bar is gone is still there as a number."""
    columns = ("tenant", "bar", "waited", "messages", "tokens", "errors", "spans")
    table = tenants_table(now().rows, columns, room, ("bar", "spans", "tokens"))
    left = [COLUMNS[name].title for name in columns if name == "bar" or name not in gone.split()]
    assert [column.header for column in table.columns] == left
    assert any("━" in str(cell) or "─" in str(cell) for cell in table.columns[1].cells) == (not gone)
