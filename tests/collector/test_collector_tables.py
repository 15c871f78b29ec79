"""The Collector's lists and the conventions say the same: a name that only one of them knows is dropped in silence."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from collector_process import CONFIG, ROOT

from instrumentation import conventions


@pytest.fixture(scope="module")
def config() -> Any:
    """The committed configuration."""
    return yaml.safe_load(CONFIG.read_text())


def _alternatives(config: Any, path: str) -> re.Pattern[str]:
    (condition,) = (c for c in config["processors"]["filter"]["metric_conditions"] if path in c)
    return re.compile(condition.split('"')[1].replace("\\\\", "\\"))


def test_allowed_keys_are_the_attributes_of_the_conventions(config: Any) -> None:
    """No attribute more, none less, none twice."""
    attributes = [attribute.name for attribute in conventions.ATTRIBUTES]
    assert sorted(config["processors"]["redaction"]["allowed_keys"]) == sorted(
        [*attributes, *conventions.RESOURCE_ATTRIBUTES]
    )


def test_metrics_that_pass_are_the_metrics_of_the_conventions(config: Any) -> None:
    """Every metric passes by name and unit; one letter more or less does not."""
    name, unit = _alternatives(config, "metric.name"), _alternatives(config, "metric.unit")
    for metric in conventions.METRICS:
        assert name.search(metric.name), metric.name
        assert unit.search(metric.unit), metric.unit
        for wrong in (f"{metric.name}x", f"x{metric.name}", metric.name.replace(".", "_"), metric.name[:-1]):
            assert not name.search(wrong), wrong
    words = re.findall(r"[a-z]{3,}", " ".join(metric.name for metric in conventions.METRICS))
    assert set(re.findall(r"[a-z]{3,}", name.pattern)) == set(words), "the pattern knows a metric of the past"


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
