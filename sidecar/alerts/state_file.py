"""What a receiver has been told, on disk: so that a restart of the sidecar neither repeats nor forgets it.

One small JSON file a receiver, 0600, replaced as a whole. What it refuses: a file that is not exactly of its own
making. Such a file is a line in the log and an empty start, never an exception: losing it costs a resolution that is
not told, failing on it would cost the watchdog.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import structlog

from .alert import Alert
from .outbox import MAX_ITEMS, Item, Told

VERSION: Final = 1
MAX_BYTES: Final = 64 * 1024 * 1024

_log: Final = structlog.get_logger("sidecar.alerts")


class StateFile:
    """The file of one receiver.

    Args:
        path: in a folder that is ours alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_suffix(".new")
        self._failing = False

    def load(self) -> list[Item]:
        """What it holds; firing items are inherited. Empty when there is none, or when it cannot be trusted."""
        try:
            return decode(self._read())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            _log.warning("state of alerts not readable; starting without", file=self._path, error=type(error).__name__)
            return []

    def save(self, items: Iterable[Item]) -> bool:
        """Replace the file; whether that worked."""
        try:
            self._replace(encode(items))
        except OSError as error:
            if not self._failing:  # the first of a row
                _log.warning("state of alerts not written", file=self._path, error=error.strerror)
            self._failing = True
            return False
        self._failing = False
        return True

    def _read(self) -> bytes:
        # No link is followed, and no FIFO waited for.
        extra = os.O_NOFOLLOW | os.O_NONBLOCK
        with open(self._path, "rb", opener=lambda name, flags: os.open(name, flags | extra)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("not a regular file")
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError("too large")
        return content

    def _replace(self, content: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):  # of a process that died here; O_EXCL follows no link
            self._temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self._temporary, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._temporary.replace(self._path)


def encode(items: Iterable[Item]) -> bytes:
    """The items as the file has them."""
    document = {
        "version": VERSION,
        "items": [
            {
                "firing": _alert_out(item.firing),
                "over": None if item.over is None else _alert_out(item.over),
                "told": item.told,
                "changes": item.changes,
            }
            for item in items
        ],
    }
    return json.dumps(document, ensure_ascii=True).encode("ascii")


def decode(content: bytes) -> list[Item]:
    """The items of a file.

    Raises:
        ValueError: it is not one of ours.
    """
    try:
        document = json.loads(content)
        if document["version"] != VERSION or len(document["items"]) > MAX_ITEMS:
            raise ValueError("another version, or too many items")
        return [_item(raw) for raw in document["items"]]
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise ValueError("not a state file") from None


def _item(raw: Any) -> Item:
    firing = _alert_in(raw["firing"], "firing")
    over = None if raw["over"] is None else _alert_in(raw["over"], "resolved")
    told, changes = raw["told"], raw["changes"]
    if told not in ("", "firing", "resolved") or type(changes) is not int or not 0 <= changes < 2**53:
        raise ValueError("not an item")
    if over is not None and over.fingerprint != firing.fingerprint:
        raise ValueError("two alerts in one item")
    return Item(firing, over, cast("Told", told), changes, inherited=over is None)


def _alert_out(alert: Alert) -> dict[str, Any]:
    return {
        "name": alert.name,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "starts_at": alert.starts_at.isoformat(),
        "ends_at": None if alert.ends_at is None else alert.ends_at.isoformat(),
    }


def _alert_in(raw: Any, status: Any) -> Alert:
    starts_at = datetime.fromisoformat(raw["starts_at"])
    ends_at = None if status == "firing" else datetime.fromisoformat(raw["ends_at"])
    if starts_at.tzinfo is None or (ends_at is not None and ends_at.tzinfo is None) or type(raw["name"]) is not str:
        raise ValueError("not an alert")
    return Alert(raw["name"], status, _texts(raw["labels"]), _texts(raw["annotations"]), starts_at, ends_at)


def _texts(raw: Any) -> dict[str, str]:
    texts = dict(raw)
    if not all(type(name) is str and type(value) is str for name, value in texts.items()):
        raise ValueError("not texts")
    return texts
