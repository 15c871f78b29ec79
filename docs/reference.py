"""Writes docs/reference.md from the tables in the code: settings, attributes, metrics, alerts, rules.

python -m docs.reference            write it
python -m docs.reference --check    exit 1 if it is not up to date
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import yaml

from docs.generated import page, write_or_compare
from instrumentation import conventions as library
from instrumentation.settings import SETTINGS as LIBRARY_SETTINGS
from sidecar import conventions as sidecar
from sidecar.configuration.table import SETTINGS as SIDECAR_SETTINGS

TARGET: Final = Path(__file__).with_name("reference.md")
RUNBOOKS: Final = Path(__file__).parent.parent / "dashboards" / "runbooks"
RULES: Final = RUNBOOKS.parent / "prometheus"
#: Arguments of `instrumentation.start()`, by the setting that each wins over.
ARGUMENTS: Final = {
    "OTEL_SERVICE_NAME": "service_name",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "endpoint",
    "TENANTSCOPE_MAX_TENANTS": "max_tenants",
    "TENANTSCOPE_CELL_DIR": "cell_dir",
}


def table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A Markdown table."""
    heading = list(heading)
    yield "| " + " | ".join(heading) + " |"
    yield "| " + " | ".join("---" for _ in heading) + " |"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def code(words: Iterable[str]) -> str:
    """Words as code, in a row."""
    return ", ".join(f"`{word}`" for word in words)


def default(text: str) -> str:
    """A default as code, or a dash."""
    return "–" if text in ("", "none") else text if text.startswith("`") else f"`{text}`"


def meaning(name: str) -> str:
    """The first sentence of an alert's runbook."""
    paragraph = (RUNBOOKS / f"{name}.md").read_text().split("\n\n")[1].replace("\n", " ")
    return paragraph.split(". ")[0].rstrip(".").replace("](../../docs/", "](").replace("](../", "](../dashboards/")


def alert(name: str) -> str:
    """An alert's name as a link to its runbook."""
    return f"[{name}](../dashboards/runbooks/{name}.md)"


def lines() -> Iterator[str]:
    """The document."""
    yield "# Reference"
    yield ""
    yield "Every name that a user may rely on. Written by `docs/reference.py` from the code's tables, and held to them"
    yield "by a test. A mistake in a setting ends the start with one line that names the key."
    yield ""
    yield from settings()
    yield from telemetry()
    yield from alerts()


def settings() -> Iterator[str]:
    """Of both halves."""
    yield "## Settings of the library"
    yield ""
    yield "Variables of the application's environment. An argument of `instrumentation.start()` wins over them."
    yield ""
    yield from table(
        ("key", "argument", "default", "meaning"),
        (
            (f"`{s.key}`", f"`{ARGUMENTS[s.key]}`" if s.key in ARGUMENTS else "–", default(s.default), s.description)
            for s in LIBRARY_SETTINGS
        ),
    )
    yield "`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and the remaining `OTEL_EXPORTER_OTLP_*` mean what"
    yield "OpenTelemetry says. The argument `resolver` has no variable ([how tenants travel](tenants.md))."
    yield ""
    yield "## Settings of the sidecar"
    yield ""
    yield "Variables of the sidecar's environment. Each is an option, too, which wins."
    yield "`tenantscope sidecar --check` reads all of them and ends."
    yield ""
    yield from table(
        ("key", "option", "default", "meaning"),
        (
            (f"`{s.key}`", f"`--{s.field.replace('_', '-')}`", default(s.default), s.description)
            for s in SIDECAR_SETTINGS
        ),
    )


def telemetry() -> Iterator[str]:
    """Attributes and metrics."""
    sys.path.append(str(RUNBOOKS.parent.parent))  # dashboards are not installed
    from dashboards.prometheus_names import of_library, of_sidecar

    yield "## Attributes"
    yield ""
    yield from table(("name", "type", "meaning"), ((f"`{a.name}`", a.type, a.description) for a in library.ATTRIBUTES))
    yield f"On the resource: {code(library.RESOURCE_ATTRIBUTES)}."
    yield ""
    yield "## Metrics of the library"
    yield ""
    yield "The second name is what the Collector's Prometheus exporter makes of the first; a histogram is three series,"
    yield "`..._bucket`, `..._sum` and `..._count`."
    yield ""
    yield from table(
        ("name, and in Prometheus", "kind", "unit", "meaning", "attributes"),
        (
            (
                f"`{m.name}`<br>`{of_library(m)[0].removesuffix('_bucket')}`",
                m.kind,
                m.unit,
                m.description,
                code(m.attributes),
            )
            for m in library.METRICS
        ),
    )
    yield "## Metrics of the sidecar"
    yield ""
    yield "Scraped from `/metrics` on the admin listener, or on `TENANTSCOPE_METRICS`."
    yield ""
    yield from table(
        ("name", "kind", "meaning", "labels"),
        ((f"`{of_sidecar(m)[0]}`", m.kind, m.description, code(m.labels)) for m in sidecar.METRICS),
    )


def alerts() -> Iterator[str]:
    """Of the sidecar, and of the rules for Prometheus."""
    yield "## Alerts of the sidecar"
    yield ""
    yield "Told to the log, to Alertmanager, to a webhook and as telemetry within milliseconds."
    yield f"Labels: {code(sidecar.ALERT_LABELS)}. Annotations: {code(sidecar.ALERT_ANNOTATIONS)}."
    yield ""
    yield from table(
        ("alert", "severity", "meaning"),
        ((alert(name), sidecar.severity(name), meaning(name)) for name in sidecar.ALERT_NAMES),
    )
    yield f"Each change of verdict is also an OTLP log record: event `{sidecar.ALERT_EVENT}`, its severity, the"
    yield "sidecar as resource, `tenant.id`, and"
    yield ""
    of_alerts = sidecar.ALERT_ATTRIBUTES
    yield from table(("name", "type", "meaning"), ((f"`{a.name}`", a.type, a.description) for a in of_alerts))
    yield "## Alerts of the rules for Prometheus"
    yield ""
    yield "`for` is how long the condition must hold. Thresholds are in the rule files and nowhere else."
    yield ""
    rows, recorded = [], []
    for path in sorted(RULES.glob("*.rules.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    recorded.append((f"`{rule['record']}`", f"`{' '.join(rule['expr'].split())}`"))
                else:
                    held = rule.get("for", "0m").removeprefix("0m") or "at once"
                    rows.append((alert(rule["alert"]), rule["labels"]["severity"], held, meaning(rule["alert"])))
    yield from table(("alert", "severity", "for", "meaning"), rows)
    yield "## Recorded series"
    yield ""
    yield from table(("name", "expression"), recorded)


if __name__ == "__main__":
    sys.exit(write_or_compare([(TARGET, page(lines()))]))
