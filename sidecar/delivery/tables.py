"""The embedded store's tables: opening the file, putting rows in, keeping to the bounds.

What it refuses: a file of another schema (it raises what SQLite raises for a file that is no database), and
rows beyond the bounds. Everything here runs inside a transaction of the caller, but for `connect`.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.conventions import Signal

from . import rows

MAX_TENANTS: Final = 4096
OTHER: Final = "other"

_SCHEMA_VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE spans (
    id INTEGER PRIMARY KEY, trace_id TEXT, span_id TEXT, parent_span_id TEXT, name TEXT, tenant TEXT,
    service TEXT, instance TEXT, start_ns INTEGER, end_ns INTEGER, status TEXT, attributes TEXT);
CREATE INDEX spans_by_trace ON spans (trace_id);
CREATE INDEX spans_by_tenant ON spans (tenant, id);
CREATE TABLE logs (
    id INTEGER PRIMARY KEY, time_ns INTEGER, tenant TEXT, service TEXT, instance TEXT, severity INTEGER,
    event TEXT, trace_id TEXT, span_id TEXT, attributes TEXT);
CREATE TABLE points (
    id INTEGER PRIMARY KEY, name TEXT, service TEXT, instance TEXT, attributes TEXT, start_ns INTEGER,
    tenant TEXT, unit TEXT, time_ns INTEGER, value REAL, observations INTEGER, buckets TEXT, bounds TEXT,
    cumulative INTEGER, UNIQUE (name, service, instance, attributes, start_ns));
CREATE TABLE span_counts (tenant TEXT PRIMARY KEY, spans INTEGER) WITHOUT ROWID;
CREATE TABLE deliveries (id INTEGER PRIMARY KEY, segment TEXT UNIQUE, position INTEGER);
"""
_KEPT_SEGMENTS: Final = 1024


def _insert(table: str, columns: int, verb: str = "INSERT") -> str:
    return f"{verb} INTO {table} VALUES (NULL{', ?' * columns})"


_INSERT_SPAN: Final = _insert("spans", len(rows.SpanRow._fields))
_INSERT_LOG: Final = _insert("logs", len(rows.LogRow._fields))
# REPLACE gives the row a new id: ids are in the order of the last update, so the oldest series go first.
_INSERT_POINT: Final = _insert("points", len(rows.PointRow._fields), "REPLACE")
# Spans and logs are deleted from the oldest on, so their ids have no gaps; COUNT would read them all.
_COUNT: Final = {
    "spans": "SELECT COALESCE(MAX(id) - MIN(id) + 1, 0) FROM spans",
    "logs": "SELECT COALESCE(MAX(id) - MIN(id) + 1, 0) FROM logs",
    "points": "SELECT COUNT(*) FROM points",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: rows of each table, and bytes of all together."""

    spans: int = 200_000
    logs: int = 50_000
    points: int = 50_000
    bytes: int = 256 * 1024 * 1024


class OtherSchemaError(sqlite3.DatabaseError):
    """The file was written by another version of the sidecar, or by somebody else."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB
    sqlite_errorname = "SQLITE_OTHER_SCHEMA"


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, or begin it. Raises sqlite3.Error, OSError."""
    # Made by us before SQLite does, so that it is never open to others; -wal and -shm get the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        connection.execute("PRAGMA trusted_schema = OFF")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        if tables == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT")
        elif version != _SCHEMA_VERSION:
            raise OtherSchemaError
    except BaseException:
        connection.close()
        raise
    return connection


def first_delivery(connection: sqlite3.Connection, batch_id: str) -> bool:
    """Note that the batch is being stored; False when it was stored before. Raises sqlite3.Error.

    Batches come in the order of the queue, so the last one of each of the queue's segments tells all.
    """
    segment, _, position = batch_id.rpartition("-")
    last = connection.execute("SELECT position FROM deliveries WHERE segment = ?", (segment,)).fetchone()
    if last is not None and int(position) <= last[0]:
        return False
    connection.execute(
        "INSERT INTO deliveries VALUES (NULL, ?, ?) ON CONFLICT (segment) DO UPDATE SET position = excluded.position",
        (segment, int(position)),
    )
    if last is None:
        newest = "SELECT MAX(id) FROM deliveries"
        connection.execute(f"DELETE FROM deliveries WHERE id <= ({newest}) - ?", (_KEPT_SEGMENTS,))  # noqa: S608
    return True


def insert(connection: sqlite3.Connection, signal: Signal, payload: bytes) -> None:
    """Store every record of an OTLP request. Raises sqlite3.Error, DecodeError."""
    _INSERT[signal](connection, payload)


def evict(connection: sqlite3.Connection, bounds: Bounds) -> Counter[str]:
    """Delete the oldest rows until the bounds hold; how many of each table."""
    evicted: Counter[str] = Counter()
    limits = {"spans": bounds.spans, "logs": bounds.logs, "points": bounds.points}
    for table, keep in limits.items():
        evicted[table] += _keep_newest(connection, table, keep)
    # Halving what is kept ends after a few rounds, whatever the rows weigh. Points last: totals are theirs.
    for tables in (("spans", "logs"), ("points",)):
        kept = max(limits[table] for table in tables)
        while _used_bytes(connection) > bounds.bytes and kept:
            kept //= 2
            for table in tables:
                evicted[table] += _keep_newest(connection, table, min(kept, limits[table]))
    return +evicted


def _insert_spans(connection: sqlite3.Connection, payload: bytes) -> None:
    found = list(rows.spans(payload))
    connection.executemany(_INSERT_SPAN, found)
    counts = Counter(span.tenant for span in found)
    known = {
        tenant
        for tenant in counts
        if connection.execute("SELECT 1 FROM span_counts WHERE tenant = ?", (tenant,)).fetchone()
    }
    room = _room(connection, len(counts) - len(known))
    for tenant, count in counts.items():
        if tenant not in known:
            room -= 1
        _count(connection, tenant if tenant in known or room >= 0 else OTHER, count)


def _room(connection: sqlite3.Connection, newcomers: int) -> int:
    """For how many newcomers there is room. Tenants of whom no span is left make some: their sums go to `other`."""
    (tenants,) = connection.execute("SELECT COUNT(*) FROM span_counts WHERE tenant <> ?", (OTHER,)).fetchone()
    lacking = newcomers - (MAX_TENANTS - int(tenants))
    if lacking > 0:
        gone = connection.execute(
            "SELECT tenant, spans FROM span_counts WHERE tenant <> ? AND NOT EXISTS"
            " (SELECT 1 FROM spans WHERE spans.tenant = span_counts.tenant) LIMIT ?",
            (OTHER, lacking),
        ).fetchall()
        connection.executemany("DELETE FROM span_counts WHERE tenant = ?", [(tenant,) for tenant, _ in gone])
        if gone:
            _count(connection, OTHER, sum(count for _, count in gone))
        tenants -= len(gone)
    return MAX_TENANTS - int(tenants)


def _count(connection: sqlite3.Connection, tenant: str, spans: int) -> None:
    connection.execute(
        "INSERT INTO span_counts VALUES (?1, ?2) ON CONFLICT (tenant) DO UPDATE SET spans = spans + ?2",
        (tenant, spans),
    )


def _insert_logs(connection: sqlite3.Connection, payload: bytes) -> None:
    connection.executemany(_INSERT_LOG, rows.logs(payload))


def _insert_points(connection: sqlite3.Connection, payload: bytes) -> None:
    for point in rows.points(payload):
        series = (point.name, point.service, point.instance, point.attributes, point.start_ns)
        newer = connection.execute(
            "SELECT 1 FROM points WHERE (name, service, instance, attributes, start_ns) = (?, ?, ?, ?, ?)"
            " AND time_ns > ?",
            (*series, point.time_ns),
        ).fetchone()
        if newer is None:  # a batch that was sent again must not turn a sum back
            connection.execute(_INSERT_POINT, point)


_INSERT: Final[Mapping[Signal, Callable[[sqlite3.Connection, bytes], None]]] = {
    "traces": _insert_spans,
    "metrics": _insert_points,
    "logs": _insert_logs,
}


def _keep_newest(connection: sqlite3.Connection, table: str, keep: int) -> int:
    """Delete all but the newest `keep` rows; how many."""
    (found,) = connection.execute(_COUNT[table]).fetchone()
    if found <= keep:
        return 0
    oldest = f"SELECT id FROM {table} ORDER BY id LIMIT ?"  # noqa: S608  # a word of ours
    connection.execute(f"DELETE FROM {table} WHERE id IN ({oldest})", (found - keep,))  # noqa: S608
    return int(found - keep)


def _used_bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)
