"""The sidecar's settings: read from the environment once, checked, frozen; the table documents them.

What it refuses, all in one go with one line per error that names the key: unknown keys (with the nearest
known one), values of the wrong form, a listener that other machines could reach (there is no TLS on it), an
upstream that is the sidecar itself, two listeners at one address, and credentials in a URL. No error repeats a
value that could hold a secret.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.network.address import Address
from sidecar.wire.limits import Limits, LimitsError

from .table import COLLECTOR_PREFIX, LIBRARY_KEYS, PREFIX, SETTINGS
from .upstreams import FILE_KEY as UPSTREAMS_FILE_KEY
from .upstreams import KEY as UPSTREAM_KEY
from .upstreams import Upstreams, UpstreamsError, from_file, from_settings


class ConfigurationError(Exception):
    """The configuration is wrong: one line per error, each names its key.

    Attributes:
        lines: the errors.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


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
        errors += _about_addresses(values)
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


def _about_addresses(values: Mapping[str, Any]) -> list[str]:
    """Listeners that would be in each other's way."""
    errors: list[str] = []
    taken: dict[Address, str] = {}
    for key, address in listeners(values.get):
        if address.path is not None or address.port:
            if address in taken:
                errors.append(f"{key}: is where {taken[address]} is already")
            taken.setdefault(address, key)
    return errors


def listeners(value_of: Callable[[str], object]) -> Iterator[tuple[str, Address]]:
    """Where the sidecar is to listen, each with the key that says so; `value_of` gives the value of a field."""
    for setting in SETTINGS:
        address = value_of(setting.field)
        if isinstance(address, Address):
            yield setting.key, address


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
