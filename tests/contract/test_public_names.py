"""What users may rely on is pinned: exports, settings, names on the wire."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from pathlib import Path

import pytest

import instrumentation
from instrumentation import conventions
from instrumentation.settings import SETTINGS, SIDECAR_KEYS, ConfigurationError, Settings
from sidecar import conventions as sidecar_conventions
from sidecar.wire import cell as layout


def test_exports() -> None:
    """The public names of the library; a new one is a decision."""
    assert instrumentation.__all__ == [
        "ConfigurationError", "InvalidTenantError", "TurnBudgetExceeded", "budget", "current_tenant", "flush", "start",
        "stop", "tenant",
    ]  # fmt: skip
    assert all(hasattr(instrumentation, name) for name in instrumentation.__all__)


def test_the_distribution_has_its_own_name() -> None:
    """`sidecar` on the package index is somebody else's; ours is `tenantscope`."""
    assert importlib.metadata.metadata("tenantscope")["Name"] == "tenantscope"


def test_names_fixed_on_the_wire() -> None:
    """Others build on these; they change with a major version only."""
    assert conventions.TENANT_ID == "tenant.id"
    assert {metric.name for metric in conventions.METRICS} >= {
        "asyncio.eventloop.delay", "asyncio.eventloop.utilization", "asyncio.eventloop.time",
        "autogen.tenant.loop.time", "autogen.tenant.loop.delay", "autogen.tenant.loop.delay.caused",
        "autogen.message.queue.duration", "autogen.message.process.duration", "autogen.messages",
        "gen_ai.client.operation.duration", "gen_ai.client.token.usage",
    }  # fmt: skip


def test_metrics_are_well_formed() -> None:
    """Known attributes only, buckets that rise, no unit or `total` in a name."""
    attributes = {attribute.name for attribute in conventions.ATTRIBUTES}
    for metric in conventions.METRICS:
        assert set(metric.attributes) <= attributes
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert not metric.name.endswith(("total", "seconds"))
    names = [metric.name for metric in conventions.METRICS] + [metric.name for metric in sidecar_conventions.METRICS]
    assert len(names) == len(set(names))


def test_the_cell_s_delays_are_those_of_the_metric() -> None:
    """The sidecar reads buckets in shared memory that the library also exports."""
    assert tuple(round(bound * 1e9) for bound in conventions.LOOP_BUCKETS) == layout.DELAY_BOUNDS_NS


def test_defaults_are_the_documented_ones() -> None:
    """The table of settings says what an empty environment gives."""
    settings = Settings.read(environ={})
    assert settings == Settings()
    documented = {setting.key: setting.default for setting in SETTINGS}
    assert documented["OTEL_EXPORTER_OTLP_ENDPOINT"] == settings.endpoint
    assert int(documented["TENANTSCOPE_MAX_TENANTS"]) == settings.max_tenants
    assert int(documented["OTEL_BSP_MAX_QUEUE_SIZE"]) == settings.span_queue
    assert int(documented["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"]) == settings.span_batch
    assert float(documented["OTEL_BSP_SCHEDULE_DELAY"]) == settings.span_interval * 1000
    assert float(documented["OTEL_METRIC_EXPORT_INTERVAL"]) == settings.metric_interval * 1000
    assert float(documented["OTEL_EXPORTER_OTLP_TIMEOUT"]) == settings.export_timeout


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"TENANTSCOPE_MAX_TENANT": "3"}, "did you mean TENANTSCOPE_MAX_TENANTS?"),
        ({"TENANTSCOPE_MAX_TENANTS": "many"}, "TENANTSCOPE_MAX_TENANTS"),
        ({"TENANTSCOPE_MAX_TENANTS": "0"}, "from 1 to 4094"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "file:///etc/passwd"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:s3cr3t@h:1"}, "credentials"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:99999"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "nan"}, "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ({"TENANTSCOPE_CELL_DIR": "relative"}, "TENANTSCOPE_CELL_DIR"),
        ({"OTEL_SERVICE_NAME": "a\nb"}, "OTEL_SERVICE_NAME"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_line_that_names_its_key(environment: dict[str, str], key: str) -> None:
    """And shows nothing that could be secret."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.read(environ=environment)
    message = str(caught.value)
    assert key in message
    assert "\n" not in message
    assert "s3cr3t" not in message


def test_several_mistakes_are_several_lines() -> None:
    """All at once, not one a restart."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.read(max_tenants=0, endpoint="nowhere", environ={"TENANTSCOPE_X": "1"})
    assert len(str(caught.value).splitlines()) == 3


def test_settings_are_frozen() -> None:
    """Nobody changes them under a running library."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().endpoint = "x"  # type: ignore[misc]


def test_sidecar_keys_are_tolerated() -> None:
    """The application and its sidecar may share an environment."""
    Settings.read(environ=dict.fromkeys(SIDECAR_KEYS, "x"))


def test_every_sidecar_setting_is_among_those_tolerated() -> None:
    """A setting added there is no unknown key here."""
    from sidecar.configuration.table import SETTINGS as SIDECAR_SETTINGS

    known = {*SIDECAR_KEYS, *(setting.key for setting in SETTINGS)}
    assert {setting.key for setting in SIDECAR_SETTINGS if setting.key.startswith("TENANTSCOPE_")} <= known


def test_the_collectors_variables_stop_nobody() -> None:
    """Every variable that collector-config.yaml names may stand in an environment that all three share."""
    from sidecar.configuration.settings import Settings as SidecarSettings

    config = (Path(__file__).parents[2] / "collector-config.yaml").read_text()
    found = dict.fromkeys(re.findall(r"env:(TENANTSCOPE_[A-Z_]+)", config), "x")
    assert found
    Settings.read(environ=found)
    SidecarSettings.from_environment(found)
