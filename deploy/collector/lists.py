"""Writes what collector-config.yaml says of single names, from the tables in instrumentation/conventions.py and (of the
sidecar's alerts) in sidecar/conventions.py; and what the tiers of deploy/gateway have in common with it.

python -m deploy.collector.lists            write both
python -m deploy.collector.lists --check    exit 1 if one is not up to date

Between a comment `>>> NAME` and the next `<<<`, nothing is written by hand. Each name has a line of its own, so that
two people who add a name each do not get into each other's way. deploy/gateway/common.yaml is written as a whole.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from docs.generated import write_or_compare
from instrumentation import conventions
from instrumentation.activity import Kind
from instrumentation.telemetry.attributes import NAME_ATTRIBUTES
from sidecar.conventions import ALERT_ATTRIBUTES

CONFIG: Final = Path(__file__).parents[2] / "collector-config.yaml"
COMMON: Final = Path(__file__).parents[1] / "gateway" / "common.yaml"
_COMMON_HEAD: Final = """\
# What all tiers of the gateway have in common with ../../collector-config.yaml: the limit, the second redaction, tail
# sampling, span metrics. Written from there by `make docs`; a tier uses of it what its pipelines name.

"""
# A number is a number: no text, and no more digits than a count of tokens needs. Lists are taken care of by hand.
_IS: Final = {
    "int": 'IsMatch({0}, "^[0-9]{{1,9}}$")',
    "double": "IsDouble({0})",
    "bool": "IsBool({0})",
}
_NOT_TEXT: Final = tuple(each for each in conventions.ATTRIBUTES if each.type != "string")
_NO_TEXT_IN_ALERTS: Final = tuple(each for each in ALERT_ATTRIBUTES if each.type != "string")
_BLOCK: Final = re.compile(r"^( *)# >>> ([a-z ]+)\n.*?^ *# <<<$", re.MULTILINE | re.DOTALL)


def numbers() -> Iterator[str]:
    """Of spans: what is no text goes unless it is what it should be."""
    for attribute in _NOT_TEXT:
        if attribute.type in _IS:
            path = f'span.attributes["{attribute.name}"]'
            yield f'- delete_key(span.attributes, "{attribute.name}") where not {_IS[attribute.type].format(path)}'
    for alert in _NO_TEXT_IN_ALERTS:
        yield f'- delete_key(span.attributes, "{alert.name}")'


def none(of: str) -> Iterator[str]:
    """Of everything else: what is no text stands on spans only; but see `none_but_alerts`."""
    for name in (*(each.name for each in _NOT_TEXT), *(each.name for each in _NO_TEXT_IN_ALERTS if of != "log")):
        yield f'- delete_key({of}.attributes, "{name}")'


def none_but_alerts() -> Iterator[str]:
    """Of log records: the sidecar's alerts are some, and say for how long a verdict held."""
    yield from none("log")
    for alert in _NO_TEXT_IN_ALERTS:
        path = f'log.attributes["{alert.name}"]'
        yield f'- delete_key(log.attributes, "{alert.name}") where not {_IS[alert.type].format(path)}'


def allowed() -> Iterator[str]:
    """Every attribute that may pass."""
    yield from (f"- {attribute.name}" for attribute in conventions.ATTRIBUTES)
    yield from (f"- {attribute.name}" for attribute in ALERT_ATTRIBUTES)
    yield from (f"- {name}" for name in conventions.RESOURCE_ATTRIBUTES)


def names() -> Iterator[str]:
    """The name of a span of each kind, from the attribute that says the same."""
    for kind in Kind:
        attribute = f'span.attributes["{NAME_ATTRIBUTES[kind]}"]'
        made = f'set(span.cache["name"], Concat(["{kind.value}", {attribute}], " "))'
        yield f'- {made} where HasPrefix(span.name, "{kind.value} ") and {attribute} != nil'


def one_of(values: list[str], path: str) -> Iterator[str]:
    """A condition that holds for every other value; YAML folds its lines into one."""
    yield "- not ContainsValue(["
    yield ",\n".join(f'    "{value}"' for value in values)
    yield f"  ], {path})"


BLOCKS: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "numbers": numbers,
    "numbers of events": lambda: none("spanevent"),
    "numbers of points": lambda: none("datapoint"),
    "numbers of records": none_but_alerts,
    "allowed": allowed,
    "names": names,
    "metrics": lambda: one_of([metric.name for metric in conventions.METRICS], "metric.name"),
    "units": lambda: one_of(sorted({metric.unit for metric in conventions.METRICS}), "metric.unit"),
}


def written(text: str) -> str:
    """The configuration with every block made anew.

    Raises:
        KeyError: it has a block that nobody knows.
    """

    def block(found: re.Match[str]) -> str:
        indent, name = found[1], found[2]
        lines = "\n".join(BLOCKS[name]()).splitlines()
        return "\n".join([f"{indent}# >>> {name}", *(indent + line for line in lines), f"{indent}# <<<"])

    return _BLOCK.sub(block, text)


def common(text: str) -> str:
    """The sections of the configuration that the gateway's tiers share, word for word."""
    sections = re.findall(r"^(?:processors|connectors):\n(?:[ #].*\n|\n)*", text, re.MULTILINE)
    return _COMMON_HEAD + "".join(section.rstrip() + "\n\n" for section in sections).rstrip() + "\n"


def main() -> int:
    """Write the files, or compare them."""
    config = written(CONFIG.read_text())
    return write_or_compare([(CONFIG, config), (COMMON, common(config))])


if __name__ == "__main__":
    sys.exit(main())
