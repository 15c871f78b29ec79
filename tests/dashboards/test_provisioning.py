"""What deploy/grafana tells Grafana agrees with the dashboards and with Prometheus's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "deploy/grafana/provisioning"


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_folder_named_holds_dashboards_only() -> None:
    """Grafana reads every JSON file below the path: the classic form's folder, which has nothing else in it."""
    text = (PROVISIONING / "dashboards/tenantscope.yaml").read_text()
    assert "dashboards/grafana/classic" in text
    (provider,) = _read(PROVISIONING / "dashboards/tenantscope.yaml")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "$TENANTSCOPE_DASHBOARDS"
    assert {path.suffix for path in (ROOT / "dashboards/grafana/classic").iterdir()} == {".json"}


def test_the_data_source_scrapes_as_prometheus_does() -> None:
    """A wrong interval makes windows of rates too short for two samples: empty panels."""
    (source,) = _read(PROVISIONING / "datasources/tenantscope.yaml")["datasources"]
    config = _read(ROOT / "dashboards/prometheus/prometheus.yaml")
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
