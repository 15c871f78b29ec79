"""The sidecar's settings: read from the environment once, checked, frozen; the table documents them.

What it refuses, all in one go with one line per error that names the key: unknown keys (with the nearest
known one), values of the wrong form, a listener that other machines could reach (there is no TLS on it), an
upstream that is the sidecar itself, and credentials in a URL. No error repeats a value that could hold a
secret.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .address import Address, alertmanager, http_url, listener, loopback, receiver, tcp_listener
from .conventions import POLICIES
from .upstreams import FILE_KEY as UPSTREAMS_FILE_KEY
from .upstreams import KEY as UPSTREAM_KEY
from .upstreams import Upstreams, UpstreamsError, compression, from_file, from_settings, protocol, urls
from .wire.limits import DESCRIPTION as LIMITS_DESCRIPTION
from .wire.limits import KEY as LIMITS_KEY
from .wire.limits import Limits, LimitsError
from .wire.limits import load as load_limits

PREFIX: Final = "TENANTSCOPE_"
# The largest request must always fit into an empty queue.
MIN_QUEUE_BYTES: Final = 16 * 1024 * 1024
MAX_WORKERS: Final = 32


class ConfigurationError(Exception):
    """The configuration is wrong: one line per error, each names its key.

    Attributes:
        lines: the errors.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


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
        "where applications send OTLP/HTTP (protobuf), such as `127.0.0.1:4318`, with the same TLS and clients; "
        "nowhere without it",
        tcp_listener,
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
        "where `/healthz`, `/readyz`, `/metrics`, `/status` and `/spans` are served: a loopback `host:port`",
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
        "TENANTSCOPE_DIGEST_KEY",
        "TENANTSCOPE_READ_STACKS",
        "TENANTSCOPE_EVENT_LOG",
        "TENANTSCOPE_EVENT_LOG_BYTES",
        "TENANTSCOPE_SAMPLING",
        "TENANTSCOPE_PEER_KEYS_FILE",
        LIMITS_KEY,
    }
)
# Variables of collector-config.yaml, from the same environment.
COLLECTOR_PREFIX: Final = "TENANTSCOPE_COLLECTOR_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, checked. Build it with `from_environment`.

    Attributes:
        clients_file: None means that whoever reaches the address may send.
        tls_certificate_file, tls_key_file, tls_client_ca_file: None without TLS, the last one without mutual TLS.
        metrics: None means that no other machine may read them.
        upstreams: where telemetry goes.
        policy: the name of a shipped policy, or a file.
        trial_policy: the same for one that is only tried; None means none.
        queue_bytes: of the queue on disk, at most.
        workers: processes that redact; 0: this one does.
        stall_ms: milliseconds.
        listen_http: None means that OTLP/HTTP is not taken.
        limits: tiers of tenants; None: nobody has limits.
        runbook_url: base URL without a slash at its end; empty means none.
        alertmanager: None means that none is told.
        webhook: None means that none is told.
        webhook_secret_file: None means that messages are not signed.
    """

    listen: Address
    admin: Address
    upstreams: Upstreams
    policy: Path | str
    state_dir: Path
    queue_bytes: int
    stall_ms: int
    runbook_url: str
    listen_http: Address | None = None
    limits: Limits | None = None
    metrics: Address | None = None
    alertmanager: str | None = None
    trial_policy: Path | str | None = None
    webhook: str | None = None
    webhook_secret_file: Path | None = None
    clients_file: Path | None = None
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    workers: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from `environment`, by default the process's own; an empty value counts as unset.

        Raises:
            ConfigurationError: with a line for every error found.
        """
        environment = os.environ if environment is None else environment
        errors = _unknown_keys(environment)
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            text = environment.get(setting.key, "").strip() or setting.default
            try:
                values[setting.field] = setting.read(text) if text else None
            except LimitsError as error:
                errors += [f"{setting.key}: {mistake}" for mistake in error.mistakes]
            except ValueError as error:
                errors.append(f"{setting.key}: {error}")
        given = [setting.field for setting in SETTINGS if setting.field.startswith("upstream")]
        if values.keys() >= set(given):
            try:
                values["upstreams"] = _upstreams(
                    {field: values.pop(field) for field in given}, [values.get("listen"), values.get("listen_http")]
                )
            except UpstreamsError as error:
                errors += error.mistakes
        guards = ("listen", "clients_file", "tls_")
        if all(setting.field in values for setting in SETTINGS if setting.field.startswith(guards)):
            errors += _about_listener(values)
        order = {setting.key: number for number, setting in enumerate(SETTINGS)}
        errors.sort(key=lambda line: order.get(re.split("[:,]", line)[0], -1))  # unknown keys first
        if not errors and values["webhook_secret_file"] is not None and values["webhook"] is None:
            errors.append("TENANTSCOPE_WEBHOOK_SECRET_FILE: signs nothing without TENANTSCOPE_WEBHOOK")
        if not errors and values["state_dir"] is None:
            try:
                values["state_dir"] = _default_state_dir(environment)
            except RuntimeError:
                errors.append("TENANTSCOPE_STATE_DIR: must be set, for there is no home folder to put it in")
        if errors:
            raise ConfigurationError(*errors)
        values["runbook_url"] = values["runbook_url"] or ""
        return cls(**values)


def _unknown_keys(environment: Mapping[str, str]) -> list[str]:
    known = [setting.key for setting in SETTINGS]
    errors = []
    for key in sorted(environment):
        if key.startswith(COLLECTOR_PREFIX):
            continue
        if key.startswith(PREFIX) and key not in known and key not in LIBRARY_KEYS:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
            suggestion = f"; did you mean {nearest[0]}?" if nearest else ""
            errors.append(f"{key[:80]!a}: unknown setting{suggestion}")
    return errors


def _about_listener(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with how the listener is guarded, seen together with its address."""
    tls = values["tls_certificate_file"] is not None
    errors = []
    if tls != (values["tls_key_file"] is not None):
        errors.append("TENANTSCOPE_TLS_CERTIFICATE_FILE, TENANTSCOPE_TLS_KEY_FILE: one is of no use without the other")
    if values["tls_client_ca_file"] is not None and not tls:
        errors.append("TENANTSCOPE_TLS_CLIENT_CA_FILE: has no effect without TENANTSCOPE_TLS_CERTIFICATE_FILE")
    guarded = tls and values["clients_file"] is not None
    errors += [
        f"TENANTSCOPE_{field.upper()}: must be a loopback address (127.0.0.1, ::1 or localhost), or TLS and clients "
        "must be set (TENANTSCOPE_TLS_CERTIFICATE_FILE, TENANTSCOPE_TLS_KEY_FILE, TENANTSCOPE_CLIENTS_FILE): nobody "
        "beyond this machine may listen in, or send without credentials"
        for field in ("listen", "listen_http")
        if values[field] is not None and not values[field].is_loopback and not guarded
    ]
    return errors


def _upstreams(given: dict[str, Any], own: Sequence[Address | None]) -> Upstreams:
    """Raises UpstreamsError."""
    file, texts = given.pop("upstreams_file"), given.pop("upstream")
    options = {field.removeprefix("upstream_"): value for field, value in given.items()}
    if file is None:
        found = from_settings(options, texts or ())
    elif texts or any(value is not None for value in options.values()):
        raise UpstreamsError([f"{UPSTREAMS_FILE_KEY}: takes the place of {UPSTREAM_KEY} and its options"])
    else:
        found = from_file(file)
    for route in found.routes:
        if any(address is not None and _is_itself(route.upstream.address, address) for address in own):
            key = UPSTREAM_KEY if file is None else UPSTREAMS_FILE_KEY
            raise UpstreamsError([f"{key}: is the sidecar's own listener; telemetry would go in circles"])
    return found


def _is_itself(other: Address, own: Address) -> bool:
    if own.path is not None or other.path is not None:
        return own.path == other.path
    return other.port == own.port and own.port != 0 and other.is_loopback


def _default_state_dir(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    folder = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return folder / "tenantscope"
