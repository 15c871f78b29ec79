"""How OpenTelemetry names become Prometheus names; the running Collector agrees (tests/collector)."""

from __future__ import annotations

import pytest

from dashboards.prometheus_names import emitted, label, of_library, of_sidecar
from instrumentation.conventions import Metric
from sidecar import conventions as sidecar


@pytest.mark.parametrize(
    ("metric", "series"),
    [
        (Metric("a.b", "counter", "s", ""), ("a_b_seconds_total",)),
        (Metric("a.b", "counter", "{message}", ""), ("a_b_total",)),
        (Metric("a.b", "counter", "1", ""), ("a_b_total",)),
        (Metric("a.b", "gauge", "1", ""), ("a_b_ratio",)),
        (Metric("a.b", "gauge", "By", ""), ("a_b_bytes",)),
        (Metric("a.b-c", "histogram", "s", ""), ("a_b_c_seconds_bucket", "a_b_c_seconds_sum", "a_b_c_seconds_count")),
    ],
)
def test_unit_and_kind_become_suffixes(metric: Metric, series: tuple[str, ...]) -> None:
    """Seconds, ratio and total are appended; an annotation in braces is not."""
    assert of_library(metric) == series


def test_an_unknown_unit_is_refused() -> None:
    """No guess: a wrong name would be an empty panel."""
    with pytest.raises(ValueError, match="furlong"):
        of_library(Metric("a.b", "gauge", "furlong", ""))


def test_labels_and_the_sidecars_own_names() -> None:
    """Dots become underscores; the sidecar's counters end in _total, its gauges don't."""
    assert label("gen_ai.token.type") == "gen_ai_token_type"
    assert of_sidecar(sidecar.STALLS) == ("tenantscope_stalls_total",)
    assert of_sidecar(sidecar.STALL_ACTIVE) == ("tenantscope_stall_active",)


def test_no_two_metrics_share_a_series() -> None:
    """Library and sidecar never write the same series."""
    names = [name for metric in sidecar.METRICS for name in of_sidecar(metric)]
    assert len(set(names)) == len(names)
    assert emitted()["autogen_tenant_loop_delay_seconds_bucket"] == {"job", "instance", "le", "tenant_id"}
