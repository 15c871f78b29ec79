"""A file of examples: values at places, and what a policy is expected to do with them.

    examples:
      - {key: tenant.id, place: span, value: acme, expect: passes}
      - {key: Span.Event.exception.message, value: no such user, expect: dropped}
      - {key: tenant.id, place: span, value: bob@example.com, expect: masked:email}

`key` is what `tenantscope policy explain` takes; an attribute's needs a `place`, unless the name of a message
stands in front. `signal` picks one where several have the place, `tenant` says whose record it is. Values have the
types that YAML gives them. What stands in a value is never repeated: examples may be real ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from sidecar.configuration.strict_yaml import YamlError, parse, read_file
from sidecar.conventions import POLICIES, SIGNALS, Signal
from sidecar.redaction import Policy, PolicyError
from sidecar.redaction.policy import shipped_file
from sidecar.redaction.policy_file import Mistake
from sidecar.redaction.rule_file import unknown

from .probe import PLACES, VERDICTS, Outcome, Probe, Target, resolve

_KEYS: Final = ("tenant", "signal", "place", "key", "value", "expect")
_EXPECT: Final = re.compile(rf"passes|(?:{'|'.join(VERDICTS.values())})(?::[a-z][a-z0-9-]*)?")


class Example(NamedTuple):
    """One line of expectation."""

    line: int
    target: Target
    signal: Signal
    value: object
    expect: str
    tenant: str | None = None


class Failure(NamedTuple):
    """An example that came out in another way."""

    example: Example
    outcome: Outcome


def load(source: str) -> list[Example]:
    """The examples in a file, or those that are shipped with a policy, by its name.

    Raises:
        PolicyError: the file cannot be read or has mistakes; one line each.
    """
    try:
        content = shipped_examples(source) if source in POLICIES else read_file(Path(source))
        document = parse(content)
    except YamlError as error:
        raise PolicyError([Mistake(str(error), error.line)], source) from None
    value = document.value
    if not isinstance(value, dict) or list(value) != ["examples"] or not isinstance(value["examples"], list):
        raise PolicyError([Mistake("must be a mapping with one key, examples, and a list behind it", None)], source)
    found: list[Example] = []
    mistakes: list[Mistake] = []
    for index, said in enumerate(value["examples"]):
        line = document.lines["examples", str(index)]
        try:
            found.append(_example(said, line))
        except ValueError as mistake:
            mistakes.append(Mistake(str(mistake), line))
    if mistakes or not found:
        raise PolicyError(mistakes or [Mistake("examples: must not be empty", None)], source)
    return found


def shipped_examples(policy: str) -> bytes:
    """The file of examples that is shipped with a policy."""
    return shipped_file(f"{policy}.examples.yaml")


def _example(said: Mapping[str, Any], line: int) -> Example:
    if not isinstance(said, dict):
        raise ValueError("must be a mapping, such as {place: span, key: tenant.id, value: acme, expect: passes}")
    for word in said:
        if word not in _KEYS:
            raise ValueError(f"{word}: {unknown(word, _KEYS)}")
    for word in ("key", "value", "expect"):
        if word not in said:
            raise ValueError(f"{word}: is missing")
    if not isinstance(said["key"], str):
        raise ValueError("key: must be a string; quote it")
    if not isinstance(said["expect"], str) or not _EXPECT.fullmatch(said["expect"]):
        raise ValueError(
            f"expect: must be passes, {', '.join(VERDICTS.values())}, all but the first with or without `:reason`"
        )
    target = _target(said["key"], said.get("place"))
    signal = said.get("signal", target.signals[0])
    if signal not in SIGNALS:
        raise ValueError(f"signal: must be one of {', '.join(SIGNALS)}")
    if signal not in target.signals:
        raise ValueError(f"signal: {signal} have no {target.path}")
    tenant = said.get("tenant")
    if tenant is not None and not isinstance(tenant, str):
        raise ValueError("tenant: must be a string; quote it")
    return Example(line, target, signal, said["value"], said["expect"], tenant)


def _target(key: str, place: object) -> Target:
    named = resolve(key)
    if place is None:
        if named is None:
            raise ValueError(f"place: is missing; must be one of {', '.join(PLACES)}")
        return named
    if not isinstance(place, str) or place not in PLACES:
        raise ValueError(f"place: {unknown(place, PLACES)}; must be one of {', '.join(PLACES)}")
    # Here the key is all of it: an attribute may be called like a field.
    return Target(PLACES[place], key)


def failures(policy: Policy, examples: list[Example]) -> Iterator[Failure]:
    """The examples that come out in another way than expected; a value that cannot be sent is one, too."""
    probes: dict[str | None, Probe] = {None: Probe(policy)}
    for example in examples:
        whose = example.tenant
        if whose is not None and whose not in probes:
            probes[whose] = Probe(policy.of_tenant(whose))
        try:
            outcome = probes[whose].ask(example.target, example.signal, example.value)
        except ValueError:
            outcome = Outcome("cannot be sent", "value")
        if example.expect not in (outcome.verdict, str(outcome)):
            yield Failure(example, outcome)
