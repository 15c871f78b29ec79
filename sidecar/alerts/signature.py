"""The signature of a webhook message: `X-Tenantscope-Signature: t=<unix seconds>,v1=<hex>`.

`v1` is HMAC-SHA256 over `<t>.<body>`, keyed with the content of the secret file. The receiver computes the same,
compares in constant time, and refuses a `t` that is minutes old: a message that was overheard is then of no use later.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final

from sidecar.configuration.ownership import private_file

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
    secret = private_file(path, MAX_SECRET + 2).rstrip(b"\r\n")
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise ValueError(f"must hold {MIN_SECRET} to {MAX_SECRET} bytes")
    return secret
