"""What the sidecar shows to its upstream: headers with a token, certificates; read again whenever a file changes.

A header file has a `name: value` on each line; lines that are empty or begin with `#` do not count. Certificates and
keys are PEM. Files are replaced while we run, and rarely all at the same moment: as long as the new ones cannot be
used together, the old ones are.

What it refuses: a token or a key that everybody on the machine may read, what gRPC could not send, and to tell anything
of a file's content.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import structlog

from sidecar.ownership import private_file
from sidecar.settings import ConfigurationError

HEADERS_KEY: Final = "TENANTSCOPE_UPSTREAM_HEADERS_FILE"
CA_KEY: Final = "TENANTSCOPE_UPSTREAM_CA_FILE"
CERTIFICATE_KEY: Final = "TENANTSCOPE_UPSTREAM_CERTIFICATE_FILE"
PRIVATE_KEY_KEY: Final = "TENANTSCOPE_UPSTREAM_KEY_FILE"
MAX_BYTES: Final = 256 * 1024  # of one file
_NAME: Final = re.compile(r"[a-z0-9_.-]+")
# gRPC's own, which a call must not set; names that end in -bin hold bytes, which a line of text does not.
_NOT_OURS: Final = re.compile(r"grpc-.*|.*-bin|te|content-type|user-agent")

log = structlog.get_logger("sidecar.delivery")

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
            trusts. certificate, key: what we show of ourselves (mutual TLS); both or none.

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
    ) -> None:
        self._headers, self._ca, self._certificate, self._key = headers, ca, certificate, key
        self._seen = self._look()
        self._content = self._read()

    @property
    def headers(self) -> Headers:
        """Metadata of every call, names in lower case."""
        return self._content.headers

    def for_channel(self) -> grpc.ChannelCredentials:
        """What a TLS channel is opened with."""
        content = self._content
        return grpc.ssl_channel_credentials(content.roots, content.key, content.certificates)

    def changed(self) -> bool:
        """Look at the files: whether there is something new in them, and it is in use from now on."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            content = self._read()
        except ConfigurationError as error:
            log.warning("new credentials cannot be used, the old ones are", reasons=error.lines)
            return False
        if content == self._content:
            return False
        self._content = content
        log.info("new credentials for the upstream are in use")
        return True

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        seen: list[tuple[int, int, int] | None] = []
        for path in (self._headers, self._ca, self._certificate, self._key):
            try:
                found = None if path is None else path.stat()
            except OSError:
                found = None
            seen.append(None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns))
        return tuple(seen)

    def _read(self) -> _Content:
        errors: list[str] = []

        def read(key: str, path: Path | None, *, private: bool) -> bytes | None:
            if path is None:
                return None
            try:
                found = private_file(path, MAX_BYTES + 1) if private else _public_file(path)
                if len(found) > MAX_BYTES:
                    raise ValueError(f"holds more than {MAX_BYTES // 1024} KiB")
            except ValueError as error:
                errors.append(f"{key}: {error}")
                return None
            return found

        headers = read(HEADERS_KEY, self._headers, private=True)
        roots = read(CA_KEY, self._ca, private=False)
        certificates = read(CERTIFICATE_KEY, self._certificate, private=False)
        key = read(PRIVATE_KEY_KEY, self._key, private=True)
        parsed: Headers = ()
        if headers is not None:
            try:
                parsed = _headers(headers)
            except ValueError as error:
                errors.append(f"{HEADERS_KEY}: {error}")
        if not errors:
            # gRPC takes any bytes and fails later, at every handshake, without saying why: ask OpenSSL.
            errors += self._unusable()
        if errors:
            raise ConfigurationError(*errors)
        return _Content(parsed, roots, key, certificates)

    def _unusable(self) -> list[str]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        errors = []
        try:
            if self._ca is not None:
                context.load_verify_locations(self._ca)
        except (ssl.SSLError, OSError):
            errors.append(f"{CA_KEY}: holds no certificate in PEM form")
        try:
            if self._certificate is not None:
                # An encrypted key would be asked for at the terminal.
                context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
        except (ssl.SSLError, OSError):
            errors.append(f"{CERTIFICATE_KEY}: is no PEM certificate that belongs to the key in {PRIVATE_KEY_KEY}")
        return errors


def _public_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        raise ValueError("cannot be read") from None


def _headers(content: bytes) -> Headers:
    """Raises ValueError, with the number of the line."""
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
            raise ValueError(f"line {number} sets a header that is gRPC's own or binary")
        if any(not 0x20 <= byte < 0x7F for byte in value):
            raise ValueError(f"line {number} has a value with characters that are not printable ASCII")
        if header in found:
            raise ValueError(f"line {number} sets a header again")
        found[header] = value.decode("ascii")
    return tuple(found.items())
