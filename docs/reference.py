"""Writes docs/reference.md from the tables in the code: settings, attributes, metrics, alerts.

python docs/reference.py            write it
python docs/reference.py --check    exit 1 if it is not up to date
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from instrumentation import conventions as library
from instrumentation.settings import SETTINGS as LIBRARY_SETTINGS
from sidecar import conventions as sidecar
from sidecar.settings import SETTINGS as SIDECAR_SETTINGS

TARGET: Final = Path(__file__).with_name("reference.md")
RUNBOOKS: Final = Path(__file__).parent.parent / "dashboards" / "runbooks"


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


def lines() -> Iterator[str]:
    """The document."""
    yield "# Reference"
    yield ""
    yield "Written by `docs/reference.py` from the tables in the code; a test holds the two together."
    yield ""
    yield "## Settings of the library"
    yield ""
    yield "An argument of `instrumentation.start()` wins over the environment."
    yield ""
    yield from table(
        ("key", "default", "meaning"), ((f"`{s.key}`", s.default, s.description) for s in LIBRARY_SETTINGS)
    )
    yield "`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and the remaining `OTEL_EXPORTER_OTLP_*` mean what"
    yield "OpenTelemetry says."
    yield ""
    yield "## Settings of the sidecar"
    yield ""
    yield from table(
        ("key", "default", "meaning"),
        ((f"`{s.key}`", s.default or "none", s.description) for s in SIDECAR_SETTINGS),
    )
    yield "## Attributes"
    yield ""
    yield from table(("name", "type", "meaning"), ((f"`{a.name}`", a.type, a.description) for a in library.ATTRIBUTES))
    yield f"On the resource: {code(library.RESOURCE_ATTRIBUTES)}."
    yield ""
    yield "## Metrics of the library"
    yield ""
    yield from table(
        ("name", "kind", "unit", "meaning", "attributes"),
        ((f"`{m.name}`", m.kind, m.unit, m.description, code(m.attributes)) for m in library.METRICS),
    )
    yield "## Metrics of the sidecar"
    yield ""
    yield "Scraped from `/metrics` on the admin listener; counters end in `_total` there."
    yield ""
    yield from table(
        ("name", "kind", "meaning", "labels"),
        ((f"`{m.name}`", m.kind, m.description, code(m.labels)) for m in sidecar.METRICS),
    )
    yield "## Alerts of the sidecar"
    yield ""
    yield f"Labels: {code(sidecar.ALERT_LABELS)}. Annotations: {code(sidecar.ALERT_ANNOTATIONS)}."
    yield ""
    for name in sidecar.ALERT_NAMES:
        page = RUNBOOKS / f"{name}.md"
        yield f"- [{name}](../dashboards/runbooks/{page.name})" if page.exists() else f"- {name}"


def main() -> int:
    """Write the file, or compare it."""
    text = "\n".join(lines()) + "\n"
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            print(f"{TARGET} is not up to date: run `make docs`", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
