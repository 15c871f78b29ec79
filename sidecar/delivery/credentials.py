"""What the sidecar shows to its upstream: headers with a token, certificates; read again whenever a file changes.

A header file has a `name: value` on each line; lines that are empty or begin with `#` do not count. Certificates and
keys are PEM.

What it refuses: a token or a key that everybody on the machine may read, what gRPC could not send, and to tell anything
of a file's content.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from sidecar.configuration.ownership import private_file
from sidecar.configuration.pem import client_context, read_authorities, read_pair
from sidecar.configuration.renewal import Renewed
from sidecar.configuration.settings import ConfigurationError

MAX_BYTES: Final = 16 * 1024  # of the headers: a server takes no more
_NAME: Final = re.compile(r"[a-z0-9_.-]+")
# The protocols' own, which a request must not set; names that end in -bin hold bytes, which a line of text does not.
_NOT_OURS: Final = re.compile(
    r"grpc-.*|.*-bin|te|content-.*|user-agent|host|connection|keep-alive|transfer-encoding|upgrade|expect|trailer"
)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Content:
    headers: Headers
    roots: bytes | None
    key: bytes | None
    certificates: bytes | None


class Credentials:
    """The upstream's files, as far as there are any.

    Args:
        headers: lines of `name: value`. ca: who may have signed the upstream's certificate; without it, whom gRPC
            or the system trusts. certificate, key: what we show of ourselves (mutual TLS); both or none.
        setting: the name of the setting that an option was given in.

    Raises:
        ConfigurationError: a file cannot be used; a line for each, which names its setting.
    """

    def __init__(
        self,
        *,
        headers: Path | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        setting: Callable[[str], str] = lambda option: f"TENANTSCOPE_UPSTREAM_{option.upper()}",
    ) -> None:
        self._setting = setting
        self._headers, self._ca, self._certificate, self._key = headers, ca, certificate, key
        files = [path for path in (headers, ca, certificate, key) if path is not None]
        self._content = Renewed("credentials for the upstream", files, self._read)

    @property
    def headers(self) -> Headers:
        """Metadata of every call, names in lower case."""
        return self._content.value.headers

    def for_channel(self) -> grpc.ChannelCredentials:
        """What a TLS channel is opened with."""
        content = self._content.value
        return grpc.ssl_channel_credentials(content.roots, content.key, content.certificates)

    def for_context(self) -> ssl.SSLContext:
        """What a TLS connection is made with where gRPC makes none."""
        content = self._content.value
        return client_context(content.roots, content.certificates, content.key)

    def renew(self) -> bool:
        """Look at the files: whether there is something new in them, and it is in use from now on."""
        return self._content.renew()

    def _read(self) -> _Content:
        errors: list[str] = []
        headers: Headers = ()
        roots = key = certificates = None
        if self._headers is not None:
            try:
                headers = _headers(private_file(self._headers, MAX_BYTES + 1))
            except ValueError as error:
                errors.append(f"{self._setting('headers_file')}: {error}")
        try:
            if self._ca is not None:
                roots = read_authorities(self._setting("ca_file"), self._ca)
        except ConfigurationError as error:
            errors += error.lines
        try:
            if self._certificate is not None and self._key is not None:
                certificates, key = read_pair(
                    self._setting("certificate_file"), self._certificate, self._setting("key_file"), self._key
                )
        except ConfigurationError as error:
            errors += error.lines
        if errors:
            raise ConfigurationError(*errors)
        return _Content(headers, roots, key, certificates)


def _headers(content: bytes) -> Headers:
    """Raises ValueError, with the number of the line."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"holds more than {MAX_BYTES // 1024} KiB")
    found: dict[str, str] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        name, colon, value = (part.strip() for part in text.partition(b":"))
        header = name.decode("ascii", "replace").lower()
        if not colon or not _NAME.fullmatch(header) or not value:
            raise ValueError(f"line {number} is not `name: value`")
        if _NOT_OURS.fullmatch(header):
            raise ValueError(f"line {number} sets a header that is the protocol's own or binary")
        if any(not 0x20 <= byte < 0x7F for byte in value):
            raise ValueError(f"line {number} has a value with characters that are not printable ASCII")
        if header in found:
            raise ValueError(f"line {number} sets a header again")
        found[header] = value.decode("ascii")
    return tuple(found.items())
