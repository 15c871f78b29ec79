"""What can be set: a key in the environment, what it means, and what its value may be. The documents are made of it.

A reader refuses with a `ValueError` that names neither the key, which who asks knows, nor a value that could hold a
secret. What several values must be together is seen in `settings.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sidecar.conventions import POLICIES
from sidecar.network.address import alertmanager, http_url, listener, loopback, receiver, tcp_listener
from sidecar.wire.limits import DESCRIPTION as LIMITS_DESCRIPTION
from sidecar.wire.limits import KEY as LIMITS_KEY
from sidecar.wire.limits import Limits
from sidecar.wire.limits import load as load_limits

from .upstreams import compression, protocol, urls

PREFIX: Final = "TENANTSCOPE_"
# Variables of collector-config.yaml, from the same environment.
COLLECTOR_PREFIX: Final = "TENANTSCOPE_COLLECTOR_"
# The largest request must always fit into an empty queue.
MIN_QUEUE_BYTES: Final = 16 * 1024 * 1024
MAX_WORKERS: Final = 32


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: key in the environment, field of `Settings`, default as text, meaning, reader."""

    key: str
    field: str
    default: str
    description: str
    read: Callable[[str], Any]


def _path(text: str) -> Path:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError("begins with the home of a user who has none") from None


def _existing_file(text: str) -> Path:
    path = _path(text)
    try:
        found = path.is_file()
    except (OSError, ValueError):  # too long, or not writable in the file system's encoding
        found = False
    if not found:
        raise ValueError(f"{str(path)!r} is not a file")
    return path


def _policy(text: str) -> Path | str:
    if text in POLICIES:
        return text
    try:
        return _existing_file(text)
    except ValueError as error:
        raise ValueError(f"{error}, nor is it one of {', '.join(POLICIES)}") from None


def _milliseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 600_000 and len(text) <= 9):
        raise ValueError("must be a whole number of milliseconds, 1 to 600000")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) <= MAX_WORKERS):
        raise ValueError(f"must be a whole number of processes, 0 to {MAX_WORKERS}")
    return int(text)


def _limits(text: str) -> Limits:
    return load_limits(_path(text))


def _queue_bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) >= MIN_QUEUE_BYTES):
        raise ValueError(f"must be a whole number of bytes, {MIN_QUEUE_BYTES} (16 MiB) or more")
    return int(text)


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        "TENANTSCOPE_LISTEN", "listen", "127.0.0.1:4317",
        "where applications send OTLP/gRPC: `host:port`, loopback unless TLS and clients are set, or `unix:/path` in a "
        "folder of its own",
        listener,
    ),
    Setting(
        "TENANTSCOPE_LISTEN_HTTP", "listen_http", "",
        "where applications send OTLP/HTTP (protobuf), such as `127.0.0.1:4318` or `unix:/path`, with the same TLS and "
        "clients; nowhere without it",
        listener,
    ),
    Setting(
        "TENANTSCOPE_CLIENTS_FILE", "clients_file", "",
        "who may send, with which token or certificate and for which tenants, as YAML (see `docs/security.md`); read "
        "again when it changes; without it, whoever reaches the address may",
        _existing_file,
    ),
    Setting("TENANTSCOPE_TLS_CERTIFICATE_FILE", "tls_certificate_file", "",
            "the certificate that applications are shown, as PEM; read again when it changes, as the two below",
            _existing_file),
    Setting("TENANTSCOPE_TLS_KEY_FILE", "tls_key_file", "",
            "its private key, as PEM without a password, not readable by everybody", _existing_file),
    Setting("TENANTSCOPE_TLS_CLIENT_CA_FILE", "tls_client_ca_file", "",
            "who must have signed an application's certificate (mutual TLS), as PEM; without it, none is asked for",
            _existing_file),
    Setting(
        "TENANTSCOPE_ADMIN", "admin", "127.0.0.1:8889",
        "where `/healthz`, `/readyz`, `/metrics`, `/status` and `/spans` are served: a loopback `host:port`, or "
        "`unix:/path` in a folder of its own",
        loopback,
    ),
    Setting(
        "TENANTSCOPE_METRICS", "metrics", "",
        "where `/healthz`, `/readyz` and `/metrics` alone are served to other machines, such as `0.0.0.0:8890`, "
        "without TLS and credentials: for Prometheus and a kubelet, behind a network policy; without one, nowhere",
        tcp_listener,
    ),
    Setting(
        "TENANTSCOPE_UPSTREAM", "upstream", "",
        "where redacted telemetry goes, with OTLP: `http://host:port`, `https://host:port` or `unix:/path`, several "
        "with commas between them; without one it goes to the embedded store in the state folder",
        urls,
    ),
    Setting("TENANTSCOPE_UPSTREAM_PROTOCOL", "upstream_protocol", "",
            "`grpc`, or `http/protobuf` with URLs that may have a path, behind which `/v1/traces` and so on are put; "
            "without it, `grpc`", protocol),
    Setting(
        "TENANTSCOPE_UPSTREAM_HEADERS_FILE", "upstream_headers_file", "",
        "file of headers for the upstream, such as a token: `name: value` on each line, not readable by everybody; "
        "read again when it changes, as the three below",
        _existing_file,
    ),
    Setting("TENANTSCOPE_UPSTREAM_CA_FILE", "upstream_ca_file", "",
            "who may have signed the upstream's certificate, as PEM; without it, the authorities that gRPC or, for "
            "OTLP/HTTP, the system knows", _existing_file),
    Setting("TENANTSCOPE_UPSTREAM_CERTIFICATE_FILE", "upstream_certificate_file", "",
            "the certificate that the upstream is shown (mutual TLS), as PEM", _existing_file),
    Setting("TENANTSCOPE_UPSTREAM_KEY_FILE", "upstream_key_file", "",
            "its private key, as PEM without a password, not readable by everybody", _existing_file),
    Setting("TENANTSCOPE_UPSTREAM_COMPRESSION", "upstream_compression", "",
            "`gzip`, `zstd` (OTLP/HTTP alone) or `none`; without it, what stays on this machine is not compressed and "
            "everything else is, with gzip", compression),
    Setting(
        "TENANTSCOPE_UPSTREAMS_FILE", "upstreams_file", "",
        "several upstreams, each with options of its own, as YAML (see `docs/delivery.md`); in place of "
        "`TENANTSCOPE_UPSTREAM`",
        _existing_file,
    ),
    Setting("TENANTSCOPE_POLICY", "policy", POLICIES[0],
            f"the redaction policy: {', '.join(f'`{name}`' for name in POLICIES)}, or a file; read again on SIGHUP "
            "and when it has changed", _policy),
    Setting("TENANTSCOPE_TRIAL_POLICY", "trial_policy", "",
            "a policy to be tried on the same telemetry: what it would do is counted, and nothing else of it is used",
            _policy),
    Setting(
        "TENANTSCOPE_STATE_DIR", "state_dir", "",
        "folder of the queue and of the embedded store, the sidecar's own; `$XDG_STATE_HOME/tenantscope` or "
        "`~/.local/state/tenantscope` without one",
        _path,
    ),
    Setting(
        "TENANTSCOPE_QUEUE_BYTES", "queue_bytes", "268435456",
        "how much the queue on disk may hold, in bytes; when it is full, senders are put off", _queue_bytes,
    ),
    Setting("TENANTSCOPE_WORKERS", "workers", "0",
            "processes that redact, so that more than one core does; 0: the sidecar's own process does", _workers),
    Setting("TENANTSCOPE_STALL_MS", "stall_ms", "100",
            "how long one slice may hold an event loop before it is a stall, in milliseconds", _milliseconds),
    Setting(LIMITS_KEY, "limits", "", LIMITS_DESCRIPTION, _limits),
    Setting("TENANTSCOPE_RUNBOOK_URL", "runbook_url", "",
            "where the files of `dashboards/runbooks` are published; alerts link to `EventLoopStalled.md` and so on",
            http_url),
    Setting("TENANTSCOPE_ALERTMANAGER", "alertmanager", "",
            "Alertmanager that is told of alerts, such as `http://127.0.0.1:9093`", alertmanager),
    Setting("TENANTSCOPE_WEBHOOK", "webhook", "",
            "URL that is told of alerts, in the form of Alertmanager's webhook messages", receiver),
    Setting(
        "TENANTSCOPE_WEBHOOK_SECRET_FILE", "webhook_secret_file", "",
        "file whose content signs what is sent to `TENANTSCOPE_WEBHOOK`: 16 bytes or more, not readable by everybody",
        _existing_file,
    ),
)  # fmt: skip

# The application's half reads these; both halves may share one environment.
LIBRARY_KEYS: Final = frozenset(
    {
        "TENANTSCOPE_CELL_DIR",
        "TENANTSCOPE_MAX_TENANTS",
        "TENANTSCOPE_TENANT_IDLE",
        "TENANTSCOPE_DIGEST_KEY",
        "TENANTSCOPE_READ_STACKS",
        "TENANTSCOPE_EVENT_LOG",
        "TENANTSCOPE_EVENT_LOG_BYTES",
        "TENANTSCOPE_SAMPLING",
        "TENANTSCOPE_PEER_KEYS_FILE",
        LIMITS_KEY,
    }
)
