"""Addresses: where the sidecar listens, and where it forwards to.

What it refuses: to show facts where another machine could read them, and a URL with credentials in it. The errors
are `ValueError`s that say what is wrong and never repeat a URL, which may hold a secret.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

MAX_SOCKET_PATH: Final = 107  # bytes: `sun_path` of Linux, without its final NUL


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address (`host`, `port`; port 0 means any) or a Unix socket (`path`)."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def target(self) -> str:
        """As gRPC writes it."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """For a server that speaks HTTP without TLS."""
        return self.target if self.path is not None else f"http://{self.target}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it, judged by the text alone: a name is not looked up."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where redacted telemetry goes; `secure` means TLS, `path` is what OTLP/HTTP's own paths are put behind."""

    address: Address
    secure: bool = False
    path: str = ""


def listener(text: str) -> Address:
    """`host:port`, `[::1]:port`, or `unix:/path`. Whether others may reach it is the settings' to say."""
    if text.startswith("unix:"):
        return Address(path=_socket_path(text))
    if "//" in text or "@" in text:
        raise ValueError("must be host:port, such as 127.0.0.1:4317, not a URL")
    return Address(*_host_and_port(_split(f"//{text}"), default_port=None))


def loopback(text: str) -> Address:
    """`host:port` on loopback, `[::1]:port`, or `unix:/path`."""
    address = listener(text)
    if not address.is_loopback:
        raise ValueError(
            "must be a loopback address (127.0.0.1, ::1 or localhost): the listener has no TLS and no "
            "credentials, so nobody beyond this machine may reach it"
        )
    return address


def tcp_listener(text: str) -> Address:
    """`host:port` or `[::1]:port`."""
    address = listener(text)
    if address.path is not None:
        raise ValueError("must be host:port, such as 0.0.0.0:8890")
    return address


def upstream(text: str, protocol: str = "grpc") -> Upstream:
    """For OTLP/gRPC `http://host:port`, `https://host:port` or `unix:/path`, by default port 4317; for OTLP/HTTP
    `http(s)://host:port/path`, by default the scheme's port.
    """
    http = protocol != "grpc"
    if text.startswith("unix:"):
        if http:
            raise ValueError("must begin with http:// or https://: OTLP/HTTP has no Unix sockets")
        return Upstream(Address(path=_socket_path(text)))
    parts = _split(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http://, https:// or unix:")
    secure = parts.scheme == "https"
    if parts.query or parts.fragment:
        raise ValueError("must end before a query or a fragment")
    path = parts.path.rstrip("/")
    if path and not http:
        raise ValueError("must end after the port: OTLP/gRPC has no path")
    if not all(c.isascii() and (c.isalnum() or c in "-._~%/") for c in path):
        raise ValueError("has a path with characters that no path has")
    port = (443 if secure else 80) if http else 4317
    return Upstream(Address(*_host_and_port(parts._replace(path=""), default_port=port)), secure, path)


def http_url(text: str) -> str:
    """An http(s) URL without credentials; a slash at its end is cut off."""
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError("must be an http:// or https:// URL")
    return text.rstrip("/")


def receiver(text: str) -> str:
    """An http(s) URL to post to, all of it ASCII, with a host and no fragment."""
    http_url(text)
    _host_and_port(_split(text)._replace(path=""), default_port=80)
    if not text.isascii() or "#" in text:
        raise ValueError("must be ASCII and without a fragment")
    return text


def alertmanager(text: str) -> str:
    """The URL of an Alertmanager, with the path prefix under which it is served, if there is one."""
    url = receiver(text).rstrip("/")
    if "?" in url or url.endswith(("/api/v1", "/api/v2", "/api/v2/alerts")):
        raise ValueError("must end before /api/v2, such as http://127.0.0.1:9093")
    return url


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is not an address") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain credentials")
    return parts


def _host_and_port(parts: SplitResult, default_port: int | None) -> tuple[str, int]:
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number up to 65535") from None
    host = parts.hostname or ""
    if port is None:
        port = default_port
    if not host or port is None or parts.path not in ("", "/"):
        raise ValueError("must be host:port, such as 127.0.0.1:4317")
    if not all(c.isascii() and (c.isalnum() or c in "-._:") for c in host):
        raise ValueError("has a host name with characters that no host name has")
    return host, port


def _socket_path(text: str) -> Path:
    path = text.removeprefix("unix:").removeprefix("//")  # unix:///run/x and unix:/run/x are the same socket
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError("must name a socket by its absolute path, such as unix:/run/tenantscope/otlp.sock")
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"names a socket path of more than {MAX_SOCKET_PATH} bytes")
    return Path(path)
