"""The token that the sidecar is shown when it is asked: from a file, or from where the application has its own.

What it refuses: a file that everybody may read, and what is no token. Its errors repeat nothing of either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from sidecar.configuration.ownership import private_file

#: Where OpenTelemetry's exporters have the headers that they send; `tenantscope token` prints it so.
HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
_MOST: Final = 4096
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_BEARER: Final = re.compile(r"bearer +(\S+)", re.IGNORECASE)


def is_token(text: str) -> bool:
    """Whether it could be one: no blanks, nothing that would end a header."""
    return _TOKEN.fullmatch(text) is not None


def find_token(file: str | None, environment: Mapping[str, str]) -> str | None:
    """The token in `file`, or without one the bearer token that the environment has for exporters; None: neither.

    Raises:
        ValueError: the file cannot be used.
    """
    if file is not None:
        text = private_file(Path(file).expanduser(), _MOST + 1).decode("utf-8", "replace").strip()
        if not is_token(text):
            raise ValueError("has no token in it, which is one line without blanks")
        return text
    for header in environment.get(HEADERS, "").split(","):
        name, _, value = header.partition("=")
        bearer = _BEARER.fullmatch(unquote(value).strip())
        if name.strip().lower() == "authorization" and bearer is not None and is_token(bearer[1]):
            return bearer[1]
    return None
