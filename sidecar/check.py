"""`--check`: everything that can be known to be wrong before a sidecar starts, and what it would do.

What it refuses: to make, change or bind anything. What only the start can tell is left to it: whether a port is free,
and whether another sidecar owns the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from . import intake
from .configuration.ownership import check_private_folder, is_kept_in_memory
from .configuration.settings import ConfigurationError, Settings, listeners
from .destinations import Destinations
from .loading import load_certificate, load_secret
from .policy.in_force import STATE_SETTING
from .policy.version import load_policies
from .senders.clients import Clients

MEBIBYTE = 1 << 20


def check(settings: Settings) -> list[str]:
    """What a sidecar with these settings would do: a line for each thing, warnings last.

    Raises:
        ConfigurationError: it would not start; every line names its setting.
    """
    errors: list[str] = []
    found: dict[str, object] = {}
    for name, read in (
        ("grpc", intake.refuse_unsafe_grpc),
        ("policies", lambda: load_policies(settings)),
        ("secret", lambda: load_secret(settings)),
        ("destinations", lambda: Destinations(settings)),
        ("certificate", lambda: load_certificate(settings)),
        ("clients", lambda: Clients(settings.clients_file)),
        ("state", lambda: check_private_folder(settings.state_dir, STATE_SETTING)),
        ("sockets", lambda: _socket_folders(settings)),
    ):
        try:
            found[name] = read()
        except ConfigurationError as error:
            errors += error.lines
    if errors:
        raise ConfigurationError(*errors)
    return [f"{what:9} {how}" for what, how in _plan(settings, found)] + list(_warnings(settings))


def _socket_folders(settings: Settings) -> None:
    errors: list[str] = []
    for key, address in listeners(lambda field: getattr(settings, field, None)):
        if address.path is not None:
            try:
                check_private_folder(address.path.parent, key)
            except ConfigurationError as error:
                errors += error.lines
    if errors:
        raise ConfigurationError(*errors)


def _plan(settings: Settings, found: dict[str, object]) -> Iterator[tuple[str, str]]:
    clients, policies = found["clients"], found["policies"]
    assert isinstance(clients, Clients)  # noqa: S101  # for the type checker
    assert isinstance(policies, tuple)  # noqa: S101
    tls = "" if settings.tls_certificate_file is None else ", TLS"
    mutual = "" if settings.tls_client_ca_file is None else " with certificates of both sides"
    yield "listens", f"{settings.listen.target} (OTLP/gRPC{tls}{mutual})"
    if settings.listen_http is not None:
        yield "listens", f"{settings.listen_http.target} (OTLP/HTTP{tls}{mutual})"
    names = clients.names
    yield "lets in", "whoever reaches it" if names is None else f"{len(names)} clients: {', '.join(names[:20])}"
    anybody = "whoever is on this machine" if settings.admin.path is None else "this user"
    asks = anybody if names is None else "clients"
    yield "tells", f"{asks}, at {settings.admin.url}"
    if settings.metrics is not None:
        yield "tells", f"whoever reaches {settings.metrics.url} its health and metrics"
    trial = "" if policies[1] is None else f", and tries {settings.trial_policy} (digest {policies[1].digest})"
    yield "redacts", f"by {settings.policy} (digest {policies[0].digest}){trial}"
    if settings.limits is not None:
        quotas = sum(tier.quota is not None for tier in settings.limits.tiers.values())
        tiers, tenants = len(settings.limits.tiers), len(settings.limits.tenants)
        yield "limits", f"{tenants} tenants by name; {tiers} tiers, {quotas} of them with a quota"
    made = "" if settings.state_dir.exists() else ", which it makes"
    yield "keeps", f"at most {settings.queue_bytes // MEBIBYTE} MiB waiting in {settings.state_dir}{made}"
    yield "forwards", f"to {found['destinations']}"
    for name, receiver in (("Alertmanager", settings.alertmanager), ("webhook", settings.webhook)):
        if receiver is not None:
            yield "alerts", name


def _warnings(settings: Settings) -> Iterator[str]:
    kept = kept_in_memory_warning(settings.state_dir)
    if kept:
        yield f"warning: {kept}"
    if settings.clients_file is None:
        for key, address in (("LISTEN", settings.listen), ("LISTEN_HTTP", settings.listen_http)):
            if address is not None and address.path is None:
                yield f"warning: TENANTSCOPE_{key}: every user of this machine may send; see docs/security.md"


def kept_in_memory_warning(folder: Path) -> str:
    """One line when what is in the folder does not outlive the machine; empty when it does."""
    if not is_kept_in_memory(folder):
        return ""
    return (
        f"{STATE_SETTING}: {str(folder)!r} is kept in memory: what waits there, and the keys of pseudonyms, are gone "
        "when the machine restarts"
    )
