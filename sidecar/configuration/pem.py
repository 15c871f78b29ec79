"""Certificates and keys in PEM files, checked before gRPC gets them.

gRPC takes any bytes for a certificate and then fails every handshake without saying why. OpenSSL is asked first.

What it refuses: a private key that everybody may read, one that needs a password, one that belongs to another
certificate.
"""

from __future__ import annotations

import os
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


def client_context(roots: bytes | None, chain: bytes | None, key: bytes | None) -> ssl.SSLContext:
    """For connections to a server that must show a certificate for its name.

    Args:
        roots: who may have signed it; None: whom the system trusts. chain, key: what is shown of ourselves, or None.
    """
    context = ssl.create_default_context(cadata=None if roots is None else roots.decode("ascii", "ignore"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if chain is not None and key is not None:
        _load_pair(context, chain, key)
    return context


def server_context(chain: bytes, key: bytes, client_roots: bytes | None) -> ssl.SSLContext:
    """For a server with this certificate; with `client_roots`, for clients that show one that these have signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_pair(context, chain, key)
    if client_roots is not None:
        context.load_verify_locations(cadata=client_roots.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_pair(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """What was read is what is used: Python takes names of files alone, and a file may have been replaced meanwhile."""
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, key + b"\n" + chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


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
