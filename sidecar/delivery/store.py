"""The embedded store: redacted telemetry in a SQLite file, so that one command is enough to look around.

It keeps the newest spans and log records and the latest point of every series, within bounds of rows and of
bytes: the oldest go first, and are counted as evicted, not as dropped, for they were delivered. Written by
the forwarder's thread, read by any thread through connections of their own.

What it refuses: to share its folder with another sidecar, to be readable by other users, to grow beyond its
bounds, and to fail for good: a full disk or a lock is a reason to try again later, a file that is no longer a
database is put aside under another name and a new one begun, as is one in the place of a file that was taken away.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import structlog
from google.protobuf.message import DecodeError

from sidecar.configuration.ownership import FolderLock, private_folder

from . import rows, tables
from .batch import Batch, Refused, RetryLater
from .tables import Bounds

KEY: Final = "TENANTSCOPE_STATE_DIR"
FILE_NAME: Final = "telemetry.db"
QUARANTINE_NAME: Final = "telemetry.corrupt.db"

FINDINGS: Final = "autogen.isolation.findings"
# Counters of the library that `tenants()` adds up: the metric, and the word for it in the answer.
SUMMED: Final = {
    "autogen.messages": "messages",
    "autogen.errors": "errors",
    "gen_ai.client.token.usage": "tokens",
    FINDINGS: "findings",
}

log = structlog.get_logger("sidecar.delivery")

# SQLite's primary result codes that say: this is not our database, or no longer one.
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})


class EmbeddedStore:
    """A `Destination` on disk, and the questions one can ask it.

    Attributes:
        fault: why the last question could not be answered, a word of SQLite's such as `sqlite_cantopen`; empty when it
            was.

    Raises:
        ConfigurationError: the folder is not ours alone, or another sidecar owns it.
    """

    def __init__(self, folder: Path, bounds: Bounds | None = None) -> None:
        self._folder = private_folder(folder, KEY)
        self._owner = FolderLock(self._folder, KEY)
        self._path = self._folder / FILE_NAME
        self._bounds = bounds or Bounds()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # which file, while it is there
        self._closed = False
        self.fault = ""
        self._evicted: Counter[str] = Counter()

    # Destination --------------------------------------------------------------------------------------------
    def probe(self) -> None:
        """Open the file, if it is not open."""
        with self._writing():
            pass

    def deliver(self, batch: Batch) -> int:
        """Store the batch whole or not at all, and once, however often it is delivered."""
        with self._writing() as connection:
            if batch.id and not tables.first_delivery(connection, batch.id):
                return 0
            try:
                tables.insert(connection, batch.signal, batch.payload)
            except DecodeError:
                raise Refused("store_undecodable") from None
            evicted = tables.evict(connection, self._bounds)
        with self._lock:
            self._evicted.update(evicted)
        return 0

    def close(self) -> None:
        """Close the file and give the folder up."""
        with self._lock:
            self._closed = True
            self._disconnect()
            self._owner.release()

    @property
    def evicted(self) -> dict[str, int]:
        """Rows that made room for newer ones, by table."""
        with self._lock:
            return dict(self._evicted)

    # Questions ----------------------------------------------------------------------------------------------
    def tenants(self) -> list[dict[str, Any]]:
        """Per tenant: messages, errors, tokens, spans, findings, since the file was begun; by tenant.

        Sums are taken of cumulative points over all instances; spans that were evicted stay counted.
        """
        table: dict[str, dict[str, Any]] = {}

        def row(tenant: str) -> dict[str, Any]:
            empty = {"tenant": tenant, "messages": 0, "errors": 0, "tokens": 0, "spans": 0, "findings": 0}
            return table.setdefault(tenant, empty)

        sums = "SELECT tenant, name, SUM(value) FROM points WHERE cumulative GROUP BY tenant, name"
        for tenant, name, value in self._ask(sums):
            if name in SUMMED:
                row(tenant)[SUMMED[name]] = round(value)
        for tenant, count in self._ask("SELECT tenant, spans FROM span_counts"):
            row(tenant)["spans"] = count
        return [table[tenant] for tenant in sorted(table)]

    def findings(self) -> list[dict[str, Any]]:
        """Broken rules of tenant isolation, how often each tenant was part of one; by tenant and rule."""
        found = self._ask(
            "SELECT tenant, json_extract(attributes, '$.\"tenantscope.rule\"') AS rule, SUM(value) FROM points"
            " WHERE name = ? AND cumulative GROUP BY tenant, rule ORDER BY tenant, rule",
            FINDINGS,
        )
        return [{"tenant": tenant, "rule": rule or "unknown", "count": round(count)} for tenant, rule, count in found]

    def spans(
        self, *, tenants: frozenset[str] | None = None, trace_id: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The newest spans, oldest of them first, of some tenants, of a trace, or of all."""
        # A parameter for each: SQLite's JSON ends a text at its first NUL, and would find another tenant's.
        marks = "TRUE" if tenants is None else f"tenant IN ({', '.join('?' * len(tenants))})"
        found = self._ask(
            f"SELECT * FROM (SELECT * FROM spans WHERE {marks} AND (? IS NULL OR trace_id = ?)"  # noqa: S608  # marks
            " ORDER BY id DESC LIMIT ?) ORDER BY id",
            *sorted(tenants or ()),
            trace_id,
            trace_id,
            limit,
        )
        spans = [dict(zip(rows.SpanRow._fields, values[1:], strict=True)) for values in found]
        for span in spans:
            span["attributes"] = json.loads(span["attributes"])
        return spans

    def _ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of an answer; none when the file cannot be read now, which `fault` tells from none there are."""
        address = f"{self._path.as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=1)) as connection:
                found = connection.execute(question, values).fetchall()
        except sqlite3.Error as error:
            begun = self._opened is not None or self._path.exists()
            self.fault = _word(error) if begun else ""
            return []
        self.fault = ""
        return found

    # Writing ------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction. SQLite's errors come out as RetryLater, a broken file is put aside first."""
        with self._lock:
            if self._closed:
                raise RetryLater("closed")
            try:
                self._let_go_of_what_is_gone()
                if self._connection is None:
                    self._connection = tables.connect(self._path)
                    self._opened = self._file()
                with self._connection:
                    self._connection.execute("BEGIN IMMEDIATE")
                    yield self._connection
            except sqlite3.DatabaseError as error:
                self._disconnect()
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
                    self._quarantine()
                elif not isinstance(error, sqlite3.OperationalError):
                    raise  # a fault of ours
                # Full, locked, read-only, I/O error: may pass.
                raise RetryLater(_word(error)) from None
            except OSError as error:
                self._disconnect()
                raise RetryLater(f"store_{errno.errorcode.get(error.errno or 0, 'error').lower()}") from None

    def _file(self) -> tuple[int, int] | None:
        """Which file has the store's name now."""
        try:
            found = self._path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _let_go_of_what_is_gone(self) -> None:
        """Written on, a file that was moved or removed would take what nobody can read. Raises OSError."""
        if self._connection is None or (now := self._file()) == self._opened:
            return
        with contextlib.suppress(sqlite3.Error):  # who moved it finds everything in it
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._disconnect()
        if now is None:
            self._remove_journal()
        log.error("the store's file was taken away; a new one is begun", path=str(self._path))

    def _remove_journal(self) -> None:
        """It belongs to the file that is gone, and would break the new one. Raises OSError."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _quarantine(self) -> None:
        """Put the broken file aside; only the last one is kept, so that disks do not fill with them."""
        aside = self._folder / QUARANTINE_NAME
        try:
            self._path.replace(aside)
            self._remove_journal()
        except OSError as error:
            log.error("the broken store cannot be put aside", path=str(self._path), error=type(error).__name__)
        else:
            log.error("the store was broken; it is put aside and a new one begun", put_aside=str(aside))


def _word(error: sqlite3.Error) -> str:
    """SQLite's name for the error, such as `sqlite_full`; never its text."""
    return str(getattr(error, "sqlite_errorname", "sqlite_error")).lower()
