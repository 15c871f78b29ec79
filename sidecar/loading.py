"""What settings name by file and a sidecar needs from its beginning: read here, by the start and by `--check` alike."""

from __future__ import annotations

from pathlib import Path

from .alerts import read_secret
from .configuration.renewal import Renewed
from .configuration.settings import ConfigurationError, Settings
from .intake import Certificate
from .wire.limits import KEY as LIMITS_KEY
from .wire.limits import Limits, LimitsError
from .wire.limits import load as load_limits


def load_certificate(settings: Settings) -> Certificate | None:
    """What the listener serves TLS with; None without it.

    Raises:
        ConfigurationError: a file cannot be used; every line names its setting.
    """
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    return Certificate(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)


def load_renewed_limits(settings: Settings) -> Renewed[Limits] | None:
    """The table of limits in its file; None without one.

    Raises:
        ConfigurationError: it cannot be used any more.
    """
    path = None if settings.limits is None else settings.limits.source
    return None if path is None else Renewed("limits", [path], lambda: _read_limits(path))


def _read_limits(path: Path) -> Limits:
    try:
        return load_limits(path)
    except LimitsError as error:
        raise ConfigurationError(*(f"{LIMITS_KEY}: {mistake}" for mistake in error.mistakes)) from None


def load_secret(settings: Settings) -> bytes | None:
    """What webhook messages are signed with; None without a file.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    if settings.webhook_secret_file is None:
        return None
    try:
        return read_secret(settings.webhook_secret_file)
    except ValueError as error:
        raise ConfigurationError(f"TENANTSCOPE_WEBHOOK_SECRET_FILE: {error}") from None
