"""How a panel asks: PromQL made of the tables in `conventions.py`, so that no name can be wrong.

The library's series are chosen by service, instance and tenant. Those of the sidecar have the sidecar's job and
instance: a dashboard about applications chooses them by tenant alone. Thresholds are those of the alerts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dashboards.prometheus_names import PRICE, of_library, of_sidecar
from instrumentation.conventions import Metric as LibraryMetric
from sidecar.conventions import Metric as SidecarMetric

RULES = Path(__file__).parents[1] / "prometheus"
CHOSEN = 'job=~"$job", instance=~"$instance"'
TENANT = 'tenant_id=~"$tenant"'
OURS = f"{CHOSEN}, {TENANT}"
BY_TENANT, INSTANCE = "{{tenant_id}}", "{{job}} {{instance}}"
WINDOW = "[$__rate_interval]"


def alerts() -> Iterator[dict[str, Any]]:
    """Every alert of the rule files, as the file has it."""
    for path in sorted(RULES.glob("*.rules.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def threshold(name: str) -> float:
    """The number beyond which an alert fires: the first one that its expression compares with.

    Raises:
        ValueError: there is no such alert, or it compares with nothing.
    """
    for alert in alerts():
        if alert["alert"] == name:
            found = re.search(r">=? ([0-9.]+)", alert["expr"])
            if found:
                return float(found[1])
    raise ValueError(f"no threshold of {name}")


def series(metric: LibraryMetric | SidecarMetric, where: str = OURS, part: int = 0) -> str:
    """A selector of a metric's series; of a histogram, the part: 0 buckets, 1 sum, 2 count."""
    names = of_library(metric) if isinstance(metric, LibraryMetric) else of_sidecar(metric)
    return f"{names[part]}{{{where}}}"


def total(expr: str, by: str = "") -> str:
    """The sum of an expression, `by` labels."""
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def rate(metric: LibraryMetric | SidecarMetric, by: str = "", where: str = OURS, part: int = 0) -> str:
    """Rate per second of a counter, or of a histogram's part, summed `by` labels."""
    return total(f"rate({series(metric, where, part)}{WINDOW})", by)


def increase(metric: LibraryMetric | SidecarMetric, by: str = "", where: str = OURS) -> str:
    """How many in each interval, summed `by` labels."""
    return total(f"increase({series(metric, where)}{WINDOW})", by)


def quantile(share: float, metric: LibraryMetric, by: str, where: str = OURS) -> str:
    """A quantile of a histogram `by` labels."""
    return f"histogram_quantile({share}, {rate(metric, f'{by}, le', where)})"


def p99(metric: LibraryMetric, by: str, where: str = OURS) -> str:
    """99th percentile of a histogram `by` labels."""
    return quantile(0.99, metric, by, where)


def mean(metric: LibraryMetric, by: str, where: str = OURS) -> str:
    """Mean of a histogram `by` labels."""
    return f"{rate(metric, by, where, part=1)} / {rate(metric, by, where, part=2)}"


def cost(tokens: LibraryMetric, by: str) -> str:
    """What the tokens of an hour at this pace cost `by` labels, at the prices of prices.rules.yaml."""
    kinds = "gen_ai_request_model, gen_ai_token_type"
    priced = f"{rate(tokens, f'{by}, {kinds}', part=1)} * on ({kinds}) group_left () {PRICE}"
    return f"{total(priced, by)} * 3600 / 1e6"
