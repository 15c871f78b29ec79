"""The table of limits: what it says, and that a mistake in it is found at the start, with its key, not at run time."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrumentation.budgets import Budget
from instrumentation.settings import ConfigurationError as LibraryError
from instrumentation.settings import Settings as LibrarySettings
from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.wire.limits import MAX_BYTES, Limits, LimitsError, Quota, Tier, load, parse

GOOD = """
default = "standard"
[tiers.standard]
turn = 60
loop = 0.5
delay_p99 = 0.1
[tiers.gold]
turn = 600.0
cancel = true
[tenants]
acme = "gold"
"Müller & Söhne" = "gold"
"""


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(LimitsError) as refused:
        parse(text.encode())
    return refused.value.mistakes


def test_who_has_which_limits() -> None:
    """Tenants in a tier have its limits, everybody else those of the default; without one they have none."""
    table = parse(GOOD.encode())
    assert table.of("acme") == Tier("gold", turn=600.0, cancel=True)
    assert table.of("Müller & Söhne") is table.of("acme")
    assert table.of("Acme") == Tier("standard", turn=60, loop=0.5, delay_p99=0.1)
    assert parse(b"[tiers.a]\nturn = 1").of("acme") is None
    assert parse(b"").of("acme") is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("defualt = 'a'\n[tiers.a]", "defualt: unknown; did you mean default?"),
        ("[tiers.a]\ntrun = 1", "tiers.a.trun: unknown; did you mean turn?"),
        ("default = 'glod'\n[tiers.gold]", "default: there is no tier glod; did you mean gold?"),
        ("[tenants]\nacme = 'gold'", "tenants.acme: there is no tier gold"),
        ("[tenants]\nacme = 3", "tenants.acme: must be the name of a tier"),
        ("[tiers.a]\nturn = '60'", "tiers.a.turn: must be a number of seconds, above 0 and at most 86400"),
        ("[tiers.a]\nturn = 0", "tiers.a.turn: must be"),
        ("[tiers.a]\nturn = -1", "tiers.a.turn: must be"),
        ("[tiers.a]\nturn = nan", "tiers.a.turn: must be"),
        ("[tiers.a]\nturn = inf", "tiers.a.turn: must be"),
        ("[tiers.a]\nturn = true", "tiers.a.turn: must be"),
        ("[tiers.a]\nturn = 1\ncancel = 1", "tiers.a.cancel: must be true or false"),
        ("[tiers.a]\ncancel = true", "tiers.a.cancel: does nothing without `turn` or `loop`"),
        ("tiers = 3", "tiers: must be a table"),
        ("[tiers]\na = 3", "tiers.a: must be a table"),
        ("tenants = 'x'", "tenants: must be a table"),
        ("[tenants]\n' acme' = 'a'\n[tiers.a]", "tenants: ' acme' can be no tenant's id"),
        ("[tiers.a]\nturn = 1\nturn = 2", "is not TOML, at "),
        ("[tiers.a", "is not TOML, at"),
    ],
)
def test_a_mistake_is_a_line_that_names_its_key(text: str, line: str) -> None:
    """With a suggestion for what is misspelt; no value is repeated."""
    (found,) = mistakes(text)
    assert found.startswith(line)


def test_all_mistakes_are_told_at_once() -> None:
    """One line each, and no flood of them."""
    assert len(mistakes("x = 1\ny = 2\n[tiers.a]\nturn = 0\nz = 3")) == 4
    many = mistakes("[tenants]\n" + "\n".join(f"t{n} = 'none'" for n in range(1000)))
    assert len(many) == 21
    assert many[-1] == "and 980 more mistakes"


def test_names_that_would_break_a_line_are_escaped() -> None:
    """A key may hold anything; what is told of it is one printable line."""
    for found in mistakes('"a\\nb\\u001b[31m\\u202e" = 1'):
        assert found.isprintable()
        assert found.isascii()


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_any_file_is_a_table_or_a_refusal(content: bytes) -> None:
    """No input raises anything else, and every mistake is one line."""
    refusal = None
    try:
        table = parse(content)
    except LimitsError as error:
        refusal = error
    if refusal is None:
        assert isinstance(table, Limits)
    else:
        assert refusal.mistakes
        assert all(line.isprintable() for line in refusal.mistakes)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Missing, a folder, a FIFO that nobody writes, too large, not readable as text."""
    fifo, large, binary = tmp_path / "fifo", tmp_path / "large", tmp_path / "binary"
    os.mkfifo(fifo)
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    binary.write_bytes(b"\xff\xfe")
    for path, why in [
        (tmp_path / "missing", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (fifo, "is not a file"),
        (large, f"is larger than {MAX_BYTES} bytes"),
        (binary, "is not UTF-8"),
        (Path("a\0b"), "is not a path"),
    ]:
        with pytest.raises(LimitsError) as refused:
            load(path)
        assert refused.value.mistakes == (why,)


def test_both_halves_read_the_same_file(tmp_path: Path) -> None:
    """One setting, one table; each half refuses to start with a mistake in it, one line for each."""
    file = tmp_path / "limits.toml"
    file.write_text(GOOD)
    environment = {"TENANTSCOPE_LIMITS": str(file), "TENANTSCOPE_STATE_DIR": str(tmp_path)}
    assert Settings.from_environment(environment).limits == LibrarySettings.read(environ=environment).limits
    file.write_text("[tiers.a]\ntrun = 1\nloop = 0")
    expected = [
        "TENANTSCOPE_LIMITS: tiers.a.trun: unknown; did you mean turn?",
        "TENANTSCOPE_LIMITS: tiers.a.loop: must be a number of seconds, above 0 and at most 86400",
    ]
    with pytest.raises(ConfigurationError) as sidecar:
        Settings.from_environment(environment)
    with pytest.raises(LibraryError) as library:
        LibrarySettings.read(environ=environment)
    assert list(sidecar.value.lines) == str(library.value).splitlines() == expected


def test_the_example_of_the_document_is_a_table() -> None:
    """What people copy works, and says what the text around it says."""
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    table = parse(example.encode())
    assert table.of("acme") == table.of("Müller & Söhne") == Tier("batch", turn=3600.0, cancel=True)
    assert table.of("anybody else") == Tier(
        "standard", turn=60.0, loop=0.5, delay_p99=0.1, quota=Quota(records=500, bytes=1_000_000, burst=30.0)
    )


def test_a_table_of_a_hundred_thousand_tenants() -> None:
    """As many as fit are looked up at the same price."""
    text = "[tiers.a]\nturn = 1\n[tenants]\n" + "\n".join(f"tenant-{n} = 'a'" for n in range(100_000))
    assert len(text) < MAX_BYTES
    table = parse(text.encode())
    assert len(table.tenants) == 100_000
    assert table.of("tenant-99999") == Tier("a", turn=1)


@pytest.mark.parametrize(
    ("tier", "turn_ns", "loop_ns"),
    [(Tier("a", turn=60), 60_000_000_000, None), (Tier("a", loop=0.5), None, 500_000_000)],
)
def test_a_tier_with_a_limit_of_turns_has_a_budget(tier: Tier, turn_ns: int | None, loop_ns: int | None) -> None:
    """In nanoseconds; what is not limited has no limit."""
    budget = Budget.of(tier)
    assert budget is not None
    assert (budget.turn_ns, budget.loop_ns) == (turn_ns, loop_ns)


@pytest.mark.parametrize("tier", [None, Tier("a"), Tier("a", delay_p99=0.1, quota=Quota(1.0, None))])
def test_turns_of_all_others_are_not_measured(tier: Tier | None) -> None:
    """A target and a quota are no budget."""
    assert Budget.of(tier) is None
