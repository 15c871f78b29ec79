"""How a metric of the tables in `conventions.py` is called once it is in Prometheus.

The library's metrics pass through the Collector's Prometheus exporter, which follows the specification
"Prometheus and OpenMetrics Compatibility" of OpenTelemetry: characters unknown to Prometheus become `_`, the
unit becomes a suffix (annotations in braces do not, and `1` only on a gauge), a counter ends in `_total`, a
histogram is three series. The sidecar exposes its own metrics; of those only the counters get their `_total`.

What it refuses: a unit that no rule is known for. A guess here would be a panel that stays empty.
"""

from __future__ import annotations

import re

from instrumentation.conventions import METRICS as LIBRARY_METRICS
from instrumentation.conventions import Metric as LibraryMetric
from sidecar.conventions import METRICS as SIDECAR_METRICS
from sidecar.conventions import Metric as SidecarMetric

_UNITS = {"s": "seconds", "By": "bytes"}


def of_library(metric: LibraryMetric) -> tuple[str, ...]:
    """Series names of a metric that went through the Collector.

    Raises:
        ValueError: the metric's unit has no known suffix.

    Example:
        >>> from instrumentation.conventions import MESSAGES
        >>> of_library(MESSAGES)
        ('autogen_messages_total',)
    """
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", metric.name)
    if metric.unit in _UNITS:
        name = f"{name}_{_UNITS[metric.unit]}"
    elif metric.unit == "1":
        name = f"{name}_ratio" if metric.kind == "gauge" else name
    elif not re.fullmatch(r"\{[a-z]+\}", metric.unit):
        raise ValueError(f"{metric.name}: no suffix is known for the unit {metric.unit!r}")
    if metric.kind == "counter":
        return (f"{name}_total",)
    if metric.kind == "histogram":
        return (f"{name}_bucket", f"{name}_sum", f"{name}_count")
    return (name,)


def of_sidecar(metric: SidecarMetric) -> tuple[str, ...]:
    """Series names of a metric on the sidecar's own `/metrics`."""
    return (f"{metric.name}_total",) if metric.kind == "counter" else (metric.name,)


def label(attribute: str) -> str:
    """Label of an attribute: `tenant.id` is `tenant_id`."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)


#: Series that the Collector makes of spans (connector `spanmetrics` in collector-config.yaml), with their labels.
SPAN_LABELS = frozenset(
    {
        "job", "instance", "service_name", "span_name", "span_kind", "status_code", "tenant_id",
        "collector_instance_id", "autogen_stop_reason", "gen_ai_transfer_target_name",
    }
)  # fmt: skip
SPAN_CALLS = "traces_span_metrics_calls_total"
SPAN_DURATION = tuple(f"traces_span_metrics_duration_seconds_{part}" for part in ("bucket", "sum", "count"))

#: Recorded in prometheus/prices.rules.yaml: what a million tokens cost, by model and type of token.
PRICE = "model_token_type:gen_ai_token_price:per_million"
PRICE_LABELS = frozenset({"gen_ai_request_model", "gen_ai_token_type"})


def emitted() -> dict[str, frozenset[str]]:
    """Every series that may exist, with its labels; `job` and `instance` come with all of them."""
    scraped = {"job", "instance"}
    series: dict[str, frozenset[str]] = {}
    for metric in LIBRARY_METRICS:
        for name in of_library(metric):
            bucket = {"le"} if name.endswith("_bucket") else set()
            series[name] = frozenset(scraped | bucket | {label(each) for each in metric.attributes})
    for own in SIDECAR_METRICS:
        for name in of_sidecar(own):
            series[name] = frozenset(scraped | set(own.labels))
    for name in (SPAN_CALLS, *SPAN_DURATION):
        series[name] = SPAN_LABELS | ({"le"} if name.endswith("_bucket") else set())
    series[PRICE] = PRICE_LABELS
    return series
