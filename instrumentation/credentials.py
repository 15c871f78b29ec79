"""What the application shows to the sidecar, from the standard variables of OpenTelemetry's exporters.

The exporters read them themselves. The link to the watchdog goes to the same address, so it must show the same.
"""

from __future__ import annotations

import os
from pathlib import Path

import grpc
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_CERTIFICATE,
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE,
    OTEL_EXPORTER_OTLP_CLIENT_KEY,
    OTEL_EXPORTER_OTLP_HEADERS,
)
from opentelemetry.util.re import parse_env_headers


def headers() -> tuple[tuple[str, str], ...]:
    """Metadata of every call: `OTEL_EXPORTER_OTLP_HEADERS`, such as `authorization=Bearer%20...`."""
    return tuple(parse_env_headers(os.environ.get(OTEL_EXPORTER_OTLP_HEADERS, ""), liberal=True).items())


def for_channel() -> grpc.ChannelCredentials:
    """What a TLS channel is opened with.

    Raises:
        OSError: a file that is named cannot be read.
    """
    roots, key, certificates = (
        Path(path).read_bytes() if (path := os.environ.get(name)) else None
        for name in (
            OTEL_EXPORTER_OTLP_CERTIFICATE,
            OTEL_EXPORTER_OTLP_CLIENT_KEY,
            OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE,
        )
    )
    return grpc.ssl_channel_credentials(roots, key, certificates)
