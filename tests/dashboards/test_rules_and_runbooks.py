"""Alerts fire when they should and not otherwise, name whom they are about, and tell what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import required
import yaml
from promql import grouped_by, selectors

from dashboards import prometheus_names
from instrumentation import conventions as library
from sidecar import conventions as sidecar

PROMETHEUS = Path(__file__).parents[2] / "dashboards" / "prometheus"
RUNBOOKS = PROMETHEUS.parent / "runbooks"
GROUPS = [g for file in sorted(PROMETHEUS.glob("*.rules.yaml")) for g in yaml.safe_load(file.read_text())["groups"]]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Path of promtool, or skip."""
    return required.promtool()


@pytest.mark.parametrize(
    ("command", "files"),
    [
        (("check", "config"), "prometheus.yaml"),
        (("check", "rules"), "*.rules.yaml"),
        (("test", "rules"), "tests/*.yaml"),
    ],
    ids=["config", "rules", "tests"],
)
def test_promtool_agrees(promtool: str, command: tuple[str, ...], files: str) -> None:
    """Configuration and rules are valid, and the rules' own tests pass: not yet, now, must not fire."""
    paths = sorted(PROMETHEUS.glob(files))
    assert paths
    done = subprocess.run([promtool, *command, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.get("alert") or rule["record"]))
def test_a_rule_reads_what_is_emitted(rule: dict[str, Any]) -> None:
    """Every series is in a table of conventions or is recorded by an earlier rule; so is every label."""
    if rule.get("record") == prometheus_names.PRICE:  # a number that people put there
        assert rule["labels"].keys() == prometheus_names.PRICE_LABELS
        assert re.fullmatch(r"vector\([0-9.]+\)", rule["expr"])
        return
    emitted = prometheus_names.emitted()
    emitted["up"] = frozenset({"job", "instance"})  # Prometheus itself says of each target whether it answers
    for earlier in RULES[: RULES.index(rule)]:
        if "record" in earlier:
            emitted[earlier["record"]] = frozenset(grouped_by(earlier["expr"]) - {"le"})
    read = selectors(rule["expr"])
    assert read
    for selector in read:
        assert selector.series in emitted
        assert selector.labels <= emitted[selector.series]
    # Of a rule that reads several series, one may be of the service as a whole.
    assert grouped_by(rule["expr"]) <= frozenset().union(*(emitted[selector.series] for selector in read))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_who_and_what_to_do(alert: dict[str, Any]) -> None:
    """A severity, a summary with the tenant's name, or the process's where no tenant is to blame, and a runbook."""
    assert alert["labels"]["severity"] in {"warning", "critical"}
    about = "tenant_id" if alert["alert"].startswith("Tenant") else "instance"
    assert f"{{{{ $labels.{about} }}}}" in alert["annotations"]["summary"]
    assert len(alert["annotations"]["description"]) > 60
    assert alert["annotations"]["runbook_url"].endswith(f"dashboards/runbooks/{alert['alert']}.md")
    assert alert["for"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_every_alert_is_tested(alert: dict[str, Any]) -> None:
    """A promtool test has a moment before it fires, one in which it does, and a series that it must not fire for."""
    tests = [test for file in PROMETHEUS.glob("tests/*.yaml") for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [c for t in tests for c in t.get("alert_rule_test", []) if c["alertname"] == alert["alert"]]
    assert [] in [case["exp_alerts"] for case in cases]
    who = ("sink", "tenant_id", "instance")
    fired = {
        next(f'"{each["exp_labels"][label]}"' for label in who if label in each["exp_labels"])
        for case in cases
        for each in case["exp_alerts"]
    }
    assert fired
    beside = {
        each["series"]
        for test in tests
        if any(case in cases and case["exp_alerts"] for case in test.get("alert_rule_test", []))
        for each in test["input_series"]
    }
    assert any(all(name not in series for name in fired) for series in beside), "no series for which it must not fire"


def test_the_threshold_is_a_bound_of_the_buckets() -> None:
    """Otherwise the quantile crosses it by interpolation inside a bucket, not by what was measured."""
    (alert,) = (alert for alert in ALERTS if alert["alert"] == "TenantLoopDelayHigh")
    assert float(alert["expr"].rpartition(">")[2]) in library.TENANT_LOOP_DELAY.buckets


@pytest.mark.parametrize("name", sorted({alert["alert"] for alert in ALERTS} | set(sidecar.ALERT_NAMES)))
def test_every_alert_has_a_runbook(name: str) -> None:
    """What it means, what to look at, what to do, what not to conclude; for the sidecar's own alerts, too."""
    text = (RUNBOOKS / f"{name}.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        f"# {name}",
        "## What it means",
        "## What to look at",
        "## What to do",
        "## What not to conclude",
    ]
    if "Loop" in name or "Stall" in name:
        assert "upper bound" in text


def test_there_is_no_runbook_without_an_alert() -> None:
    """A runbook for an alert of the past misleads."""
    assert {file.stem for file in RUNBOOKS.glob("*.md")} == {a["alert"] for a in ALERTS} | set(sidecar.ALERT_NAMES)
