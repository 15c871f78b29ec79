"""The signature of a webhook message: `X-Tenantscope-Signature: t=<unix seconds>,v1=<hex>`.

`v1` is HMAC-SHA256 over `<t>.<body>`, keyed with the content of the secret file. The receiver computes the same,
compares in constant time, and refuses a `t` that is minutes old: a message that was overheard is then of no use later.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import Final

HEADER: Final = "X-Tenantscope-Signature"
MIN_SECRET: Final = 16  # bytes
MAX_SECRET: Final = 4096


def sign(secret: bytes, body: bytes, seconds: int) -> str:
    """The header's value for `body`, sent at `seconds` of Unix time."""
    digest = hmac.new(secret, f"{seconds}.".encode("ascii") + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def read_secret(path: Path) -> bytes:
    """The secret in a file, without the line break at its end.

    Raises:
        ValueError: it is no file, open to everybody, or too short; the message has no part of the secret.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("is not a file")
            if found.st_mode & 0o007:
                raise ValueError("can be read by everybody; close it with `chmod o= FILE`")
            secret = file.read(MAX_SECRET + 2).rstrip(b"\r\n")
    except OSError:
        raise ValueError("cannot be read") from None
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise ValueError(f"must hold {MIN_SECRET} to {MAX_SECRET} bytes")
    return secret
