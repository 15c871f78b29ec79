"""Wrong settings fail at the start, with one line that names the key and repeats no value."""

from __future__ import annotations

from typing import Any

import pytest

from instrumentation import ConfigurationError
from instrumentation.settings import Settings

ENDPOINT, CELLS = "OTEL_EXPORTER_OTLP_ENDPOINT", "TENANTSCOPE_CELL_DIR"
WRONG: list[tuple[str, dict[str, Any]]] = [
    (CELLS, {"cell_dir": 5}),
    (CELLS, {"cell_dir": b"/bytes"}),
    (CELLS, {"cell_dir": "/a\x00b"}),
    (CELLS, {"cell_dir": "relative"}),
    (ENDPOINT, {"endpoint": "unix:"}),
    (ENDPOINT, {"endpoint": "unix:relative"}),
    (ENDPOINT, {"endpoint": "unix:/" + "x" * 107}),
    (ENDPOINT, {"endpoint": "unix:/a\nb"}),
    (ENDPOINT, {"endpoint": "http://h:1\n"}),
    (ENDPOINT, {"endpoint": "http://h:1/?token=s3cr3t"}),
    (ENDPOINT, {"endpoint": "http://h:1/#s3cr3t"}),
    (ENDPOINT, {"endpoint": "http://user:s3cr3t@h:1"}),
    (ENDPOINT, {"endpoint": "http://h:99999"}),
    (ENDPOINT, {"endpoint": "file:///s3cr3t"}),
    ("OTEL_SERVICE_NAME", {"service_name": "a\nb"}),
    ("OTEL_SERVICE_NAME", {"service_name": 5}),
    ("TENANTSCOPE_MAX_TENANTS", {"max_tenants": "10"}),
    ("TENANTSCOPE_MAX_TENANTS", {"max_tenants": True}),
    ("TENANTSCOPE_MAX_TENANTS", {"max_tenants": 10**400}),
]


@pytest.mark.parametrize(("key", "arguments"), WRONG, ids=range(len(WRONG)))
def test_one_line_that_names_the_key(key: str, arguments: dict[str, Any]) -> None:
    """Types, lengths, control characters, credentials in disguise."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.read(**arguments, environ={})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{key}: ")
    assert "s3cr3t" not in line


@pytest.mark.parametrize("endpoint", ["unix:/run/x.sock", "unix:///run/x.sock", "http://h:1/", "https://[::1]:4317"])
def test_ordinary_endpoints(endpoint: str) -> None:
    """What people write is taken as it is."""
    assert Settings.read(endpoint=endpoint, environ={}).endpoint == endpoint
