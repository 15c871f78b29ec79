"""Dead letters: what the destination refused for good, kept in the state folder for whoever wants to know why.

A file for each signal, `dead-letters/traces.jsonl` and so on, in OTLP's own JSON form, a request on each line
(https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/): people read it, and a Collector's `otlpjsonfile`
receiver can send it again. What is in it was redacted before it came here.

What it refuses: to grow. A full file becomes `traces.old.jsonl` in place of the one before. And to stand in the way: a
disk that takes nothing more costs the letter, which is counted as rejected in any case.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any, Final

import structlog
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from sidecar.configuration.ownership import private_folder
from sidecar.conventions import Signal
from sidecar.ledger import Account
from sidecar.network.otlp import SERVICES

from .batch import Batch
from .disk import Folder

FOLDER_NAME: Final = "dead-letters"
MAX_BYTES: Final = 16 * 1024 * 1024  # of one file; there are two for each signal at most
_KEY: Final = "TENANTSCOPE_STATE_DIR"
# OTLP's JSON form writes these in hex, where protobuf's writes all bytes in base64.
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})

log = structlog.get_logger("sidecar.delivery")


class DeadLetters:
    """Appends refused batches. One thread at a time.

    Args:
        folder: is made. account: is told what was kept.

    Raises:
        ConfigurationError: the folder cannot be made, or is not ours alone.
    """

    def __init__(self, folder: Path, account: Account, max_bytes: int = MAX_BYTES) -> None:
        self._path = private_folder(folder, _KEY)
        self._account = account
        self._max_bytes = max_bytes
        self._failing = False

    @property
    def path(self) -> str:
        """The folder."""
        return str(self._path)

    def keep(self, batch: Batch) -> None:
        """Keep the batch, as far as disk and bound allow. Never raises for what the batch or the disk is like."""
        try:
            letter = _json(batch)
        except (DecodeError, ValueError, RecursionError):
            letter = b""
        if not letter or len(letter) > self._max_bytes:
            return
        try:
            self._append(batch.signal, letter)
        except OSError as error:
            if not self._failing:  # one line when it begins; what is kept and what is rejected is counted
                log.error("dead letters cannot be kept", path=str(self._path), error=type(error).__name__)
            self._failing = True
        else:
            self._failing = False
            self._account.kept(batch.signal, batch.records)

    def _append(self, signal: Signal, letter: bytes) -> None:
        folder = Folder(self._path)
        try:
            name = f"{signal}.jsonl"
            descriptor = _open(folder, name)
            try:
                size = folder.size(descriptor)
                # A line that a crash has cut off must not take the next one with it.
                if size and folder.read(descriptor, size - 1, 1) != b"\n":
                    letter = b"\n" + letter
                if size + len(letter) > self._max_bytes:
                    folder.rename(name, f"{signal}.old.jsonl")
                    folder.close(descriptor)
                    descriptor, size = folder.create(name), 0
                    letter = letter.lstrip(b"\n")
                try:
                    os.lseek(descriptor, size, os.SEEK_SET)
                    folder.write(descriptor, letter)
                    folder.sync(descriptor)
                except OSError:
                    folder.truncate(descriptor, size)  # half a line is no letter
                    raise
            finally:
                folder.close(descriptor)
        finally:
            folder.leave()


def _open(folder: Folder, name: str) -> int:
    try:
        return folder.open(name)
    except FileNotFoundError:
        return folder.create(name)


def _json(batch: Batch) -> bytes:
    request = SERVICES[batch.signal].request()
    request.ParseFromString(batch.payload)
    document = MessageToDict(request, use_integers_for_enums=True)
    _hex_ids(document)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _hex_ids(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _hex_ids(item)
    elif isinstance(value, dict):  # its keys are names of fields: attributes are lists of pairs
        for key, item in value.items():
            if key in _IDS:
                value[key] = base64.b64decode(item).hex()
            else:
                _hex_ids(item)
