"""Certificates and keys in PEM files, checked before gRPC gets them.

gRPC takes any bytes for a certificate and then fails every handshake without saying why. OpenSSL is asked first.

What it refuses: a private key that everybody may read, one that needs a password, one that belongs to another
certificate.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from .ownership import private_file
from .settings import ConfigurationError

MAX_BYTES: Final = 256 * 1024  # of one file


def read_pair(certificate_key: str, certificate: Path, key_key: str, key: Path) -> tuple[bytes, bytes]:
    """A certificate, with those between it and its authority, and its private key.

    Args:
        certificate_key, key_key: the settings that name the files.

    Raises:
        ConfigurationError: they cannot be used; no line holds anything of them.
    """
    errors = []
    try:
        chain = _bounded(_content(certificate))
    except ValueError as error:
        errors.append(f"{certificate_key}: {error}")
    try:
        secret = _bounded(private_file(key, MAX_BYTES + 1))
    except ValueError as error:
        errors.append(f"{key_key}: {error}")
    if errors:
        raise ConfigurationError(*errors)
    try:
        # An encrypted key would be asked for at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError):
        raise ConfigurationError(
            f"{certificate_key}: is no PEM certificate that belongs to the key in {key_key}"
        ) from None
    return chain, secret


def read_authorities(setting: str, path: Path) -> bytes:
    """Certificates of authorities.

    Raises:
        ConfigurationError: there are none in the file.
    """
    try:
        content = _bounded(_content(path))
    except ValueError as error:
        raise ConfigurationError(f"{setting}: {error}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise ConfigurationError(f"{setting}: holds no certificate in PEM form") from None
    return content


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        raise ValueError("cannot be read") from None


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise ValueError(f"holds more than {MAX_BYTES // 1024} KiB")
    return content
