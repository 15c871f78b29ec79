"""What the SDK's own OTLP exporters send arrives: metrics on the Prometheus page, spans and logs at the upstream."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from application import INSTANCE, JOB, TENANTS, application
from collector_process import CONFIG, Collector, eventually

from dashboards import prometheus_names
from instrumentation import conventions


def test_the_configuration_is_valid(binary: Path) -> None:
    """The Collector itself finds nothing wrong with the configuration, with no variable set."""
    done = subprocess.run([binary, "validate", "--config", CONFIG], env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_metric_arrives_under_its_prometheus_name(collector: Collector) -> None:
    """Each metric of the table is on the page, as the naming function says, with tenant, job and instance."""
    with application(collector.otlp) as app:
        app.tick()
        page = eventually(
            lambda: (page := collector.page()) and "autogen_tenant_loop_delay_seconds_bucket{" in page and page,
            "metrics on the Prometheus page",
        )
    for metric in conventions.METRICS:
        for series in prometheus_names.of_library(metric):
            lines = re.findall(rf"^{series}\{{(.*)\}} \S+$", page, re.MULTILINE)
            ours = [line for line in lines if f'job="{JOB}"' in line and f'instance="{INSTANCE}"' in line]
            labels = {label for line in ours for label in re.findall(r"(\w+)=", line)}
            assert labels == prometheus_names.emitted()[series], series
            if conventions.TENANT_ID in metric.attributes:
                assert all(any(f'tenant_id="{tenant}"' in line for line in ours) for tenant in TENANTS), series


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_spans_and_logs_go_on_to_the_upstream(collector: Collector, signal: str) -> None:
    """A span and a log record reach the upstream with what is allowed, and without what is not."""
    attributes = {"tenant.id": f"exported-{signal}", "autogen.agent.type": "worker", "prompt": "canary-sdk"}
    with application(collector.otlp) as app:
        if signal == "traces":
            app.span("process canary-sdk", attributes)
        else:
            app.log("canary-sdk", attributes)
    collector.upstream.wait_for(signal, f"exported-{signal}".encode())
    out = collector.upstream.everything()
    assert b"canary-sdk" not in out
    assert JOB.encode() in out
    if signal == "traces":
        assert b"process worker" in out
