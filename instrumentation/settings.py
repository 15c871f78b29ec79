"""What can be set, and from where: an argument of `start()`, else the environment, else the default.

Read once, checked at once, frozen. A mistake is one line that names the key and repeats no value that could be secret.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from sidecar.wire.limits import DESCRIPTION as LIMITS_DESCRIPTION
from sidecar.wire.limits import KEY as LIMITS_KEY
from sidecar.wire.limits import Limits, LimitsError, load

from .peers import Peers, PeersError
from .peers import load as load_peers

Number = TypeVar("Number", int, float)


class ConfigurationError(ValueError):
    """A setting is wrong. One line for each mistake, each names its key."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its environment variable, its default as text, what it does."""

    key: str
    default: str
    description: str


PEERS_KEY: Final = "TENANTSCOPE_PEER_KEYS_FILE"

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("OTEL_SERVICE_NAME", "unknown_service", "name of the application; `service.name`"),
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://127.0.0.1:4317",
        "where the sidecar listens (gRPC); `unix:` works",
    ),
    Setting("OTEL_SDK_DISABLED", "false", "`true`: the library does nothing at all"),
    Setting("OTEL_BSP_MAX_QUEUE_SIZE", "2048", "spans waiting for export; more are dropped and counted"),
    Setting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", "spans in one export"),
    Setting("OTEL_BSP_SCHEDULE_DELAY", "1000", "milliseconds between exports of spans"),
    Setting("OTEL_METRIC_EXPORT_INTERVAL", "10000", "milliseconds between exports of metrics"),
    Setting("OTEL_EXPORTER_OTLP_TIMEOUT", "10", "seconds that one export may take"),
    Setting(
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        "",
        "`gen_ai_latest_experimental` in the list: metrics of model calls by the newest names, not the deployed ones",
    ),
    Setting(
        "TENANTSCOPE_MAX_TENANTS",
        "254",
        "tenants with figures of their own at a time (1 to 4094); the rest are `other`",
    ),
    Setting(
        "TENANTSCOPE_TENANT_IDLE",
        "900",
        "seconds that a tenant may do nothing and keep figures of its own; then its series end, and another may have "
        "its place",
    ),
    Setting(
        "TENANTSCOPE_DIGEST_KEY",
        "random",
        "secret, 16 characters or more, the same in all processes of an application: digests of states can then be "
        "compared between them",
    ),
    Setting("TENANTSCOPE_CELL_DIR", "`/dev/shm/tenantscope-<uid>`", "folder of the loops' shared-memory cells"),
    Setting(
        "TENANTSCOPE_SAMPLING",
        "none",
        "share of the traces that is kept, by tenant: `acme=0.1,globex=0`, ids percent-encoded; all other tenants' as "
        "`OTEL_TRACES_SAMPLER` says. Metrics count everything",
    ),
    Setting("TENANTSCOPE_EVENT_LOG", "none", "file for one line of JSON an activity, without content; absolute path"),
    Setting("TENANTSCOPE_EVENT_LOG_BYTES", "10485760", "size at which it is set aside; five such files are kept"),
    Setting(LIMITS_KEY, "none", LIMITS_DESCRIPTION),
    Setting(
        PEERS_KEY,
        "none",
        "file of the keys with which the processes of AutoGen's distributed runtime vouch for a message's tenant, not "
        "readable by everybody; without it a tenant is believed in the process that bound it only (docs/security.md)",
    ),
    Setting(
        "TENANTSCOPE_READ_STACKS",
        "permitted",
        "whether the sidecar reads the stack of a stall from this process's memory, which it can also while the "
        "interpreter is held: `permitted`: where the system lets it; `granted`: where Yama (`kernel.yama.ptrace_scope` "
        "1) does not, it is granted to the sidecar (`PR_SET_PTRACER`, which is the right to trace the process); "
        "`never`: a thread in the process leaves stacks while the interpreter is free",
    ),
)

#: The values of `TENANTSCOPE_READ_STACKS`.
PERMITTED: Final = "permitted"
GRANTED: Final = "granted"
NEVER: Final = "never"
READ_STACKS: Final = (PERMITTED, GRANTED, NEVER)

#: Read by the sidecar, from an environment that both may share.
SIDECAR_KEYS: Final = (
    "TENANTSCOPE_LISTEN_HTTP", "TENANTSCOPE_UPSTREAMS_FILE", "TENANTSCOPE_UPSTREAM_PROTOCOL",
    "TENANTSCOPE_LISTEN", "TENANTSCOPE_ADMIN", "TENANTSCOPE_UPSTREAM", "TENANTSCOPE_POLICY", "TENANTSCOPE_TRIAL_POLICY",
    "TENANTSCOPE_STATE_DIR", "TENANTSCOPE_METRICS",
    "TENANTSCOPE_ALERTMANAGER", "TENANTSCOPE_WEBHOOK", "TENANTSCOPE_STALL_MS", "TENANTSCOPE_RUNBOOK_URL",
    "TENANTSCOPE_WEBHOOK_SECRET_FILE", "TENANTSCOPE_QUEUE_BYTES", "TENANTSCOPE_WORKERS",
    "TENANTSCOPE_UPSTREAM_HEADERS_FILE", "TENANTSCOPE_UPSTREAM_CA_FILE", "TENANTSCOPE_UPSTREAM_CERTIFICATE_FILE",
    "TENANTSCOPE_CLIENTS_FILE", "TENANTSCOPE_TLS_CERTIFICATE_FILE", "TENANTSCOPE_TLS_KEY_FILE",
    "TENANTSCOPE_TLS_CLIENT_CA_FILE", "TENANTSCOPE_UPSTREAM_KEY_FILE", "TENANTSCOPE_UPSTREAM_COMPRESSION",
)  # fmt: skip


#: Variables of collector-config.yaml, from the same environment.
COLLECTOR_PREFIX: Final = "TENANTSCOPE_COLLECTOR_"


@dataclass(frozen=True)
class Settings:
    """The library's settings. Durations are seconds; `endpoint` is `http://`, `https://` or `unix:`."""

    service_name: str = "unknown_service"
    endpoint: str = "http://127.0.0.1:4317"
    disabled: bool = False
    max_tenants: int = 254
    tenant_idle: float = 900.0
    cell_dir: Path | None = None
    limits: Limits | None = None
    peers: Peers | None = field(default=None, repr=False)
    read_stacks: str = PERMITTED
    span_queue: int = 2048
    span_batch: int = 512
    span_interval: float = 1.0
    metric_interval: float = 10.0
    export_timeout: float = 10.0
    digest_key: str | None = field(default=None, repr=False)
    sampling: tuple[tuple[str, float], ...] = ()
    event_log: Path | None = None
    event_log_bytes: int = 10 * 2**20
    latest_conventions: bool = False
    service_name_given: bool = field(default=False, repr=False)

    @classmethod
    def read(
        cls,
        service_name: str | None = None,
        endpoint: str | None = None,
        max_tenants: int | None = None,
        cell_dir: str | Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Arguments win over the environment.

        Raises:
            ConfigurationError: with one line for every mistake.
        """
        reader = _Reader(environ)
        reader.refuse_unknown_keys()
        name = service_name if service_name is not None else environ.get("OTEL_SERVICE_NAME")
        if name is not None and (not isinstance(name, str) or not name.strip() or not name.isprintable()):
            reader.mistakes.append("OTEL_SERVICE_NAME: must be a non-empty, printable string")
        where = endpoint if endpoint is not None else environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or cls.endpoint
        reader.check_endpoint(where)
        tenants = reader.number("TENANTSCOPE_MAX_TENANTS", 254, 1, 4094, max_tenants)
        folder = cell_dir if cell_dir is not None else environ.get("TENANTSCOPE_CELL_DIR") or None
        if folder is not None and not _is_absolute(folder):
            reader.mistakes.append("TENANTSCOPE_CELL_DIR: must be an absolute path")
            folder = None
        settings = cls(
            service_name=name or cls.service_name,
            endpoint=where,
            disabled=environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true",
            max_tenants=tenants,
            tenant_idle=reader.number("TENANTSCOPE_TENANT_IDLE", 900.0, 1.0, 86_400.0),
            cell_dir=None if folder is None else Path(folder),
            limits=reader.limits(),
            peers=reader.peers(),
            read_stacks=reader.one_of("TENANTSCOPE_READ_STACKS", READ_STACKS),
            span_queue=reader.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1, 1_000_000),
            span_batch=reader.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1, 10_000),
            span_interval=reader.number("OTEL_BSP_SCHEDULE_DELAY", 1000, 10, 600_000) / 1000,
            metric_interval=reader.number("OTEL_METRIC_EXPORT_INTERVAL", 10_000, 100, 3_600_000) / 1000,
            export_timeout=reader.number("OTEL_EXPORTER_OTLP_TIMEOUT", 10.0, 0.1, 86_400.0),
            digest_key=reader.secret("TENANTSCOPE_DIGEST_KEY"),
            sampling=reader.ratios("TENANTSCOPE_SAMPLING"),
            event_log=reader.file("TENANTSCOPE_EVENT_LOG"),
            event_log_bytes=reader.number("TENANTSCOPE_EVENT_LOG_BYTES", 10 * 2**20, 2**16, 2**30),
            latest_conventions=_LATEST in environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").replace(" ", "").split(","),
            service_name_given=name is not None,
        )
        if reader.mistakes:
            raise ConfigurationError("\n".join(reader.mistakes))
        return settings


_MIN_SECRET: Final = 16
_LATEST: Final = "gen_ai_latest_experimental"
_MAX_SOCKET_PATH: Final = 107  # sockaddr_un, and its zero at the end


def _is_absolute(folder: object) -> bool:
    return isinstance(folder, str | Path) and Path(folder).is_absolute() and str(folder).isprintable()


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)  # bytes that are no UTF-8


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.mistakes: list[str] = []

    def refuse_unknown_keys(self) -> None:
        known = [setting.key for setting in SETTINGS] + list(SIDECAR_KEYS)
        for key in self._environ:
            if key.startswith(COLLECTOR_PREFIX):
                continue
            if key.startswith("TENANTSCOPE_") and key not in known:
                close = difflib.get_close_matches(key, known, 1)
                self.mistakes.append(f"{key}: unknown" + (f"; did you mean {close[0]}?" if close else ""))

    def limits(self) -> Limits | None:
        path = self._environ.get(LIMITS_KEY)
        try:
            return load(Path(path)) if path else None
        except LimitsError as error:
            self.mistakes += [f"{LIMITS_KEY}: {mistake}" for mistake in error.mistakes]
            return None

    def peers(self) -> Peers | None:
        path = self.file(PEERS_KEY)
        try:
            return None if path is None else load_peers(path)
        except PeersError as error:
            self.mistakes += [f"{PEERS_KEY}: {mistake}" for mistake in error.mistakes]
            return None

    def check_endpoint(self, endpoint: object) -> None:
        key = "OTEL_EXPORTER_OTLP_ENDPOINT"
        if not isinstance(endpoint, str):
            self.mistakes.append(f"{key}: must be a string")
            return
        if not endpoint.isprintable():
            self.mistakes.append(f"{key}: must not contain control characters")
            return
        if endpoint.startswith("unix:"):
            path = "/" + endpoint.removeprefix("unix:").lstrip("/")
            if not endpoint.startswith("unix:/") or not 1 < len(path.encode()) <= _MAX_SOCKET_PATH:
                self.mistakes.append(f"{key}: must name an absolute path of at most {_MAX_SOCKET_PATH} bytes")
            return
        try:
            parts = urlsplit(endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                self.mistakes.append(f"{key}: must be http://host:port, https://host:port or unix:/path")
            elif parts.username or parts.password:
                self.mistakes.append(f"{key}: must not contain credentials")
            elif parts.query or parts.fragment:
                self.mistakes.append(f"{key}: must not contain a query or a fragment")
            else:
                _ = parts.port
        except ValueError:
            self.mistakes.append(f"{key}: is not a URL")

    def secret(self, key: str) -> str | None:
        value = self._environ.get(key) or None
        if value is not None and (len(value) < _MIN_SECRET or not _is_text(value)):
            self.mistakes.append(f"{key}: must have at least {_MIN_SECRET} characters")
            return None
        return value

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        """The first is the default."""
        text = self._environ.get(key, "").strip() or choices[0]
        if text not in choices:
            self.mistakes.append(f"{key}: must be one of {', '.join(choices)}")
        return text

    def ratios(self, key: str) -> tuple[tuple[str, float], ...]:
        found: dict[str, float] = {}
        for pair in filter(None, (part.strip() for part in self._environ.get(key, "").split(","))):
            name, equals, text = pair.rpartition("=")
            try:
                ratio = float(text)
                tenant = unquote(name.strip(), errors="strict")
                if not equals or not tenant or tenant in found or not 0 <= ratio <= 1:
                    raise ValueError
                found[tenant] = ratio
            except ValueError:
                self.mistakes.append(f"{key}: must be tenant=ratio,... with ratios from 0 to 1, each tenant once")
                return ()
        return tuple(found.items())

    def file(self, key: str) -> Path | None:
        value = self._environ.get(key) or None
        if value is not None and (not _is_absolute(value) or value.endswith("/")):
            self.mistakes.append(f"{key}: must be an absolute path")
            return None
        return None if value is None else Path(value)

    def number(self, key: str, default: Number, least: Number, most: Number, given: object = None) -> Number:
        kind = type(default)
        try:
            if given is None:
                text = self._environ.get(key)
                value = default if text is None or not text.strip() else kind(text)
            elif isinstance(given, bool) or not isinstance(given, kind):
                raise TypeError
            else:
                value = given
            if not least <= value <= most:
                raise ValueError
        except (TypeError, ValueError):
            self.mistakes.append(f"{key}: must be a number from {least} to {most}")
            return default
        return value
