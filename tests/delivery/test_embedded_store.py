"""The embedded store: what it answers, what it keeps, and what it survives."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from otlp_peers import histogram_request, log_request, sum_request, trace_request

from sidecar.configuration.settings import ConfigurationError
from sidecar.delivery import Batch, EmbeddedStore, Refused, RetryLater
from sidecar.delivery.store import FILE_NAME, QUARANTINE_NAME
from sidecar.delivery.tables import Bounds


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    made = EmbeddedStore(tmp_path / "state")
    yield made
    made.close()


def spans(count: int = 1, **more: str) -> Batch:
    return Batch("traces", trace_request(count, **more), count)


def points(payload: bytes) -> Batch:
    return Batch("metrics", payload, 1)


def test_totals_of_a_tenant_come_from_its_counters_and_spans(store: EmbeddedStore) -> None:
    """Counters are summed over instances, tokens over the histogram's sums, spans are counted."""
    store.deliver(spans(3, tenant="acme"))
    store.deliver(spans(1, tenant="globex"))
    store.deliver(points(sum_request("autogen.messages", 5, instance="i-1")))
    store.deliver(points(sum_request("autogen.messages", 7, instance="i-2")))
    store.deliver(points(sum_request("autogen.errors", 2)))
    store.deliver(points(sum_request("autogen.isolation.findings", 1, tenant="globex")))
    store.deliver(points(histogram_request("gen_ai.client.token.usage", 128.0)))
    assert store.tenants() == [
        {"tenant": "acme", "messages": 12, "errors": 2, "tokens": 128, "spans": 3, "findings": 0},
        {"tenant": "globex", "messages": 0, "errors": 0, "tokens": 0, "spans": 1, "findings": 1},
    ]


def test_findings_name_the_rule_and_the_tenant(store: EmbeddedStore) -> None:
    """Summed over instances, apart by rule."""
    for rule, value, instance in (("agent_shared", 2, "i-1"), ("agent_shared", 1, "i-2"), ("another", 4, "i-1")):
        extra = {"tenantscope.rule": rule}
        store.deliver(points(sum_request("autogen.isolation.findings", value, instance=instance, extra=extra)))
    assert store.findings() == [
        {"tenant": "acme", "rule": "agent_shared", "count": 3},
        {"tenant": "acme", "rule": "another", "count": 4},
    ]


def test_cumulative_points_replace_and_never_turn_back(store: EmbeddedStore) -> None:
    """The latest point counts, whatever the order of arrival; a restarted process begins a sum of its own."""
    for value, time in ((5, 10), (9, 30), (7, 20)):
        store.deliver(points(sum_request("autogen.messages", value, time=time)))
    assert store.tenants()[0]["messages"] == 9
    store.deliver(points(sum_request("autogen.messages", 4, time=50, start=40)))
    assert store.tenants()[0]["messages"] == 13


def test_spans_are_found_by_tenant_and_by_trace(store: EmbeddedStore) -> None:
    """A span comes back with its attributes; the newest ones when there are many."""
    store.deliver(spans(5, tenant="acme"))
    store.deliver(spans(2, tenant="globex"))
    assert len(store.spans()) == 7
    assert [s["tenant"] for s in store.spans(tenants=frozenset({"globex"}))] == ["globex", "globex"]
    assert len(store.spans(trace_id=(1).to_bytes(16, "big").hex())) == 2
    assert [s["span_id"][-1] for s in store.spans(tenants=frozenset({"acme"}), limit=2)] == ["4", "5"]
    assert store.spans(limit=1)[0]["attributes"]["autogen.message.outcome"] == "ok"


def test_nothing_of_it_is_open_to_other_users(store: EmbeddedStore, tmp_path: Path) -> None:
    """Folder 0700, every file 0600, whatever the umask of the process."""
    before = os.umask(0)
    try:
        store.deliver(spans())
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    finally:
        os.umask(before)
    assert FILE_NAME in modes
    assert set(modes.values()) == {0o600}


def test_telemetry_outlives_the_process(tmp_path: Path) -> None:
    """A restarted sidecar goes on with the same file."""
    for _ in range(2):
        store = EmbeddedStore(tmp_path)
        store.deliver(spans(2))
        store.close()
    store = EmbeddedStore(tmp_path)
    assert store.tenants()[0]["spans"] == 4
    store.close()


def test_the_oldest_rows_go_first_and_are_counted(tmp_path: Path) -> None:
    """Bounds of rows; spans that were evicted stay in their tenant's total."""
    store = EmbeddedStore(tmp_path, Bounds(spans=10, logs=3, points=2))
    for number in range(6):
        store.deliver(spans(4, instance=f"i-{number}"))
        store.deliver(Batch("logs", log_request(2), 2))
        store.deliver(points(sum_request("autogen.messages", 1, tenant=f"t-{number}")))
    kept = store.spans()
    assert [s["instance"] for s in kept] == ["i-3"] * 2 + ["i-4"] * 4 + ["i-5"] * 4
    assert store.evicted == {"spans": 14, "logs": 9, "points": 4}
    totals = {row["tenant"]: row for row in store.tenants()}
    assert totals["acme"]["spans"] == 24
    assert {name for name, row in totals.items() if row["messages"]} == {"t-4", "t-5"}
    store.close()


def test_the_file_stays_within_its_bytes(tmp_path: Path) -> None:
    """Rows may be heavy: the file is kept to its size as well, and still takes new rows."""
    bound = 512 * 1024
    store = EmbeddedStore(tmp_path, Bounds(bytes=bound))
    for number in range(30):
        store.deliver(spans(20, instance=f"i-{number}", note="x" * 2_000))
    assert store.evicted["spans"] > 0
    assert store.spans(limit=1)[0]["instance"] == "i-29"
    store.close()
    assert (tmp_path / FILE_NAME).stat().st_size <= 2 * bound  # one batch is written before the oldest go


def test_tenants_beyond_the_bound_share_one_total(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of tenant ids grows nothing."""
    monkeypatch.setattr("sidecar.delivery.tables.MAX_TENANTS", 3)
    for number in range(6):
        store.deliver(spans(2, tenant=f"t-{number}"))
    assert {row["tenant"]: row["spans"] for row in store.tenants()} == {
        "t-0": 2,
        "t-1": 2,
        "t-2": 2,
        "other": 6,
    }


def test_tenants_of_whom_no_span_is_left_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who came first does not stay for ever: their sums go over to `other`, and the sum over all stays exact."""
    monkeypatch.setattr("sidecar.delivery.tables.MAX_TENANTS", 3)
    store = EmbeddedStore(tmp_path, Bounds(spans=4))
    for tenant, count in (("first", 2), ("second", 1), ("third", 3), ("fourth", 1)):
        store.deliver(spans(count, tenant=tenant))
    told = {"second": 1, "third": 3, "fourth": 1, "other": 2}
    assert {row["tenant"]: row["spans"] for row in store.tenants()} == told
    store.deliver(spans(1, tenant="fifth"))
    told = {"third": 3, "fourth": 1, "fifth": 1, "other": 3}
    assert {row["tenant"]: row["spans"] for row in store.tenants()} == told
    store.deliver(spans(1, tenant="sixth"))  # of all others there are spans, so it is `other`
    assert {row["tenant"]: row["spans"] for row in store.tenants()} == {**told, "other": 4}
    store.close()


@pytest.mark.parametrize("damage", ["garbage", "cut", "schema"])
def test_a_broken_file_is_put_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    """One batch is put off, the next attempt goes into a new file; the broken one can be looked at."""
    file = tmp_path / FILE_NAME
    store = EmbeddedStore(tmp_path)
    store.deliver(spans(200))
    store.close()
    if damage == "garbage":
        file.write_bytes(b"this is no database" * 500)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 + 100])
    else:
        file.unlink()
        sqlite3.connect(file).executescript("CREATE TABLE spans (other TEXT)").connection.close()
    store = EmbeddedStore(tmp_path)
    with pytest.raises(RetryLater):
        store.deliver(spans(200))
    assert store.deliver(spans(5)) == 0
    assert (tmp_path / QUARANTINE_NAME).exists()
    assert store.tenants()[0]["spans"] == 5
    store.close()


@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "another in its place"])
def test_a_file_that_is_taken_away_while_it_is_written_is_begun_anew(
    store: EmbeddedStore, tmp_path: Path, replaced: bool
) -> None:
    """What has no name any more nobody can read: the next batch goes into the file that has it."""
    file = tmp_path / "state" / FILE_NAME
    store.deliver(spans(2, tenant="before"))
    if replaced:
        file.rename(file.with_name("aside.db"))
        for suffix in ("-wal", "-shm"):
            Path(f"{file}{suffix}").unlink()
        with sqlite3.connect(file) as other:
            other.execute("PRAGMA user_version")
    else:
        file.unlink()
    assert store.deliver(spans(3, tenant="after")) == 0
    assert {row["tenant"]: row["spans"] for row in store.tenants()} == {"after": 3}
    assert len(store.spans()) == 3
    assert store.fault == ""


def test_a_question_that_finds_no_answer_is_told_from_one_whose_answer_is_none(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    """A file that cannot be read answers with nothing, and says so, until it can be read again."""
    file = tmp_path / "state" / FILE_NAME
    assert (store.tenants(), store.fault) == ([], "")  # nothing came yet: there is no file
    store.deliver(spans(2))
    aside = file.with_name("aside.db")
    file.rename(aside)
    assert (store.tenants(), store.fault) == ([], "sqlite_cantopen")
    aside.rename(file)
    assert store.tenants()[0]["spans"] == 2
    assert store.fault == ""


def test_a_file_that_somebody_else_locks_is_a_reason_to_try_later(store: EmbeddedStore, tmp_path: Path) -> None:
    """Whoever looks with a tool of their own and holds a lock delays a batch, and loses nothing."""
    store.deliver(spans(1))
    other = sqlite3.connect(tmp_path / "state" / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryLater) as put_off:
        store.deliver(spans(1))
    assert put_off.value.reason == "sqlite_busy"
    other.execute("ROLLBACK")
    other.close()
    store.deliver(spans(1))
    assert store.tenants()[0]["spans"] == 2


def test_a_full_disk_is_a_reason_to_try_later(store: EmbeddedStore) -> None:
    """No room: the batch is stored whole or not at all, and stored once there is room."""
    store.deliver(spans(1))
    with store._writing() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RetryLater) as put_off:
        store.deliver(spans(500))
    assert put_off.value.reason == "sqlite_full"
    assert store.tenants()[0]["spans"] == 1
    assert store.deliver(spans(500)) == 0  # the file is opened anew, without that limit
    assert store.tenants()[0]["spans"] == 501


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """A second sidecar is told in one line; after the first has gone it may have the folder."""
    first = EmbeddedStore(tmp_path)
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_STATE_DIR: another sidecar owns") as refused:
        EmbeddedStore(tmp_path)
    assert len(refused.value.lines) == 1
    first.close()
    EmbeddedStore(tmp_path).close()


def test_the_lock_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    """No stale lock: the kernel lets go when the process dies, however it dies."""
    code = (
        "import os, sys; from pathlib import Path; from sidecar.delivery import EmbeddedStore;"
        "s = EmbeddedStore(Path(sys.argv[1])); s.probe(); print('owned', flush=True); os.kill(os.getpid(), 9)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert process.stdout == "owned\n"
    EmbeddedStore(tmp_path).close()


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    """Telemetry of many tenants does not go where others look; an empty folder is closed to them."""
    open_folder = tmp_path / "open"
    open_folder.mkdir(mode=0o755)
    EmbeddedStore(open_folder).close()
    assert stat.S_IMODE(open_folder.stat().st_mode) == 0o700
    open_folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        EmbeddedStore(open_folder)


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """Neither as the folder nor as the file in it."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        EmbeddedStore(tmp_path / "link")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "real" / FILE_NAME).symlink_to(victim)
    store = EmbeddedStore(tmp_path / "real")
    with pytest.raises(RetryLater, match="store_eloop"):
        store.deliver(spans())
    store.close()
    assert victim.read_text() == "mine"


def test_what_is_no_otlp_is_refused_for_good(store: EmbeddedStore) -> None:
    """Retrying would not help; nothing of it is stored."""
    with pytest.raises(Refused, match="store_undecodable"):
        store.deliver(Batch("traces", b"\xff\xff", 1))
    assert store.spans() == []


def test_a_closed_store_puts_off(store: EmbeddedStore) -> None:
    """A batch that comes during the stop is not half stored."""
    store.close()
    with pytest.raises(RetryLater, match="closed"):
        store.deliver(spans())


def test_a_tenant_is_found_by_its_whole_name(store: EmbeddedStore) -> None:
    """Not by what is before a NUL in it: that may be another one's."""
    store.deliver(spans(1, tenant="acme"))
    store.deliver(spans(1, tenant="acme\0x"))
    assert [span["tenant"] for span in store.spans(tenants=frozenset({"acme\0x"}))] == ["acme\0x"]
    assert [span["tenant"] for span in store.spans(tenants=frozenset({"acme"}))] == ["acme"]
    assert store.spans(tenants=frozenset()) == []


VALUES = st.one_of(
    st.text(max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from(["\0", "'; DROP TABLE spans", "\u202e"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    note=VALUES,
    tenant=st.text(min_size=1, max_size=20),
    start=st.integers(0, 2**64 - 1),
    value=st.integers(-(2**63), 2**63 - 1),
)
def test_whatever_redaction_lets_through_can_be_stored(
    store: EmbeddedStore, note: object, tenant: str, start: int, value: int
) -> None:
    """Any text, any number of 64 bits: stored and found again, never an error."""
    before = len(store.spans(tenants=frozenset({tenant}), limit=10_000))
    store.deliver(spans(1, tenant=tenant, note=note))
    store.deliver(points(sum_request("autogen.messages", value, tenant=tenant, start=start, time=start)))
    found = store.spans(tenants=frozenset({tenant}), limit=10_000)
    assert len(found) == before + 1
    assert found[-1]["tenant"] == tenant
