"""The Collector's lists and the conventions say the same: a name that only one of them knows is dropped in silence."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from collector_process import CONFIG
from required import ROOT

from instrumentation import conventions
from instrumentation.activity import Kind
from instrumentation.telemetry.attributes import NAME_ATTRIBUTES
from sidecar.conventions import ALERT_ATTRIBUTES


@pytest.fixture(scope="module")
def config() -> Any:
    """The committed configuration."""
    return yaml.safe_load(CONFIG.read_text())


def test_allowed_keys_are_the_attributes_of_the_conventions(config: Any) -> None:
    """No attribute more, none less, none twice."""
    attributes = [attribute.name for attribute in (*conventions.ATTRIBUTES, *ALERT_ATTRIBUTES)]
    assert sorted(config["processors"]["redaction"]["allowed_keys"]) == sorted(
        [*attributes, *conventions.RESOURCE_ATTRIBUTES]
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metric.name", {metric.name for metric in conventions.METRICS}),
        ("metric.unit", {metric.unit for metric in conventions.METRICS}),
    ],
)
def test_metrics_that_pass_are_the_metrics_of_the_conventions(config: Any, path: str, expected: set[str]) -> None:
    """By name and by unit; one letter more or less does not pass."""
    (condition,) = (c for c in config["processors"]["filter"]["metric_conditions"] if path in c)
    assert condition.startswith("not ContainsValue([")
    assert set(re.findall(r'"([^"]+)"', condition)) == expected


@pytest.mark.parametrize("context", ["span", "spanevent", "datapoint", "log"])
def test_what_is_no_text_carries_none(config: Any, context: str) -> None:
    """A span attribute that is a number, a flag or a list goes unless it is one; anywhere else it does not pass."""
    strip = config["processors"]["transform/strip"]
    statements = [
        statement
        for signal in ("trace", "metric", "log")
        for group in strip[f"{signal}_statements"]
        for statement in group["statements"]
    ]
    for attribute in conventions.ATTRIBUTES:
        deletes = f'delete_key({context}.attributes, "{attribute.name}")'
        found = [statement for statement in statements if statement.startswith(deletes)]
        assert bool(found) is (attribute.type != "string"), attribute.name
        if context != "span":
            assert found in ([], [deletes])
    for alert in ALERT_ATTRIBUTES:  # those are of log records, and nowhere else
        deletes = f'delete_key({context}.attributes, "{alert.name}")'
        found = [statement for statement in statements if statement.startswith(deletes)]
        assert bool(found) is (alert.type != "string"), alert.name
        assert (found == [deletes]) is (alert.type != "string" and context != "log")


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_activity_keeps_its_name(config: Any, kind: Kind) -> None:
    """A span's name is made anew from the attribute that says the same: there is a statement for each kind."""
    attribute = f'span.attributes["{NAME_ATTRIBUTES[kind]}"]'
    made = f'set(span.cache["name"], Concat(["{kind.value}", {attribute}], " "))'
    statements = config["processors"]["transform/rename"]["trace_statements"]
    assert f'{made} where HasPrefix(span.name, "{kind.value} ") and {attribute} != nil' in statements


def test_redaction_fails_closed(config: Any) -> None:
    """Unknown keys go, failing statements refuse the request, and nothing tells which keys there were."""
    processors = config["processors"]
    assert processors["redaction"]["allow_all_keys"] is False
    assert processors["redaction"]["summary"] == "silent"
    for name, processor in processors.items():
        if name.startswith(("transform", "filter")):
            assert processor["error_mode"] == "propagate", name


def test_every_pipeline_is_guarded(config: Any) -> None:
    """No signal gets by the memory limiter, the strip, the redaction or the new resources, in this order."""
    guarded = ["memory_limiter", "transform/strip", "redaction", "groupbyattrs"]
    pipelines = config["service"]["pipelines"]
    for name, pipeline in pipelines.items():
        assert "batch" not in pipeline.get("processors", [])
        if "otlp" in pipeline["receivers"]:
            assert pipeline["processors"][:4] == guarded, name
        else:  # it is fed by a connector, whose own feeder is guarded
            (connector,) = pipeline["receivers"]
            assert connector in config["connectors"], name
            feeders = [each for each in pipelines.values() if connector in each["exporters"]]
            assert all(each["processors"][:4] == guarded for each in feeders), name
            assert feeders


def test_span_metrics_have_the_buckets_of_the_conventions(config: Any) -> None:
    """Durations of spans and of model calls can be read side by side."""
    buckets = config["connectors"]["spanmetrics"]["histogram"]["explicit"]["buckets"]
    assert [float(bucket.removesuffix("ms")) / 1000 for bucket in buckets] == list(conventions.DURATION_BUCKETS)


def test_every_component_of_the_configuration_is_built(config: Any) -> None:
    """The manifest of the build has all that the configuration names, in one release."""
    manifest = yaml.safe_load((ROOT / "deploy/collector/builder.yaml").read_text())
    kinds = {
        "receivers": "receiver", "processors": "processor", "connectors": "connector", "exporters": "exporter",
        "extensions": "extension",
    }  # fmt: skip
    for plural, kind in kinds.items():
        modules = [entry["gomod"].split() for entry in manifest[plural]]
        assert {version for _, version in modules} == {f"v{manifest['dist']['version']}"}
        built = {module.rsplit("/", 1)[1].removesuffix(kind) for module, _ in modules}
        for component in config[plural]:
            assert component.split("/")[0].removesuffix("_grpc").replace("_", "") in built, component
