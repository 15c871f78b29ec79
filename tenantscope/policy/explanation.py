"""Says what a policy does with one key, and which rule or decision says so, on which line of which file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sidecar.conventions import SIGNALS, Signal
from sidecar.redaction import Policy
from sidecar.redaction.policy import Rule
from sidecar.redaction.rewrites import Action, Rewrite
from sidecar.redaction.shapes import ENUM, OPERATION, SHAPES
from sidecar.redaction.table import TABLE, Decision

from .probe import PLACES, Outcome, Probe, Target, resolve

# Of the decisions that no policy can change.
_DECIDED: Final = {
    Decision.INTO: ("read", "holds records: decided field by field; if it cannot be read, the request is refused"),
    Decision.RECORD: ("read", "a record: decided field by field, counted, dropped alone"),
    Decision.PART: ("read", "part of a record or beside one: decided field by field, dropped alone"),
    Decision.NUMBER: ("allowed", "a number of its type; an enumeration if OTLP has a name for the value"),
    Decision.TRACE_ID: ("allowed", "16 bytes or none, not text with a secret; else the record is dropped"),
    Decision.SPAN_ID: ("allowed", "8 bytes or none, not text with a secret; else the record is dropped"),
    Decision.ATTRIBUTES: ("read", "attributes, by the list `attributes` of the policy"),
    Decision.EVENT_ATTRIBUTES: ("read", "attributes, by the list `events` of the policy"),
    Decision.RESOURCE_ATTRIBUTES: ("read", "attributes, by the list `resource` of the policy"),
    Decision.BY_RULE: ("read", "inside of an attribute, by the attribute's own rule"),
    Decision.DROP: ("dropped", "no policy lets it out"),
}


# Of the actions of a policy, for values that get as far.
_VERDICTS: Final = {
    Action.DROP: "dropped",
    Action.MASK: "masked",
    Action.HASH: "changed",
    Action.PSEUDONYMISE: "changed",
    Action.TRUNCATE: "allowed",
}
_WHY: Final = {
    Action.DROP: "dropped, as the policy says",
    Action.MASK: "becomes `[redacted:policy]`, whatever it is",
    Action.HASH: "a text becomes a keyed digest, the same for all tenants",
    Action.PSEUDONYMISE: "a text becomes a keyed digest under the tenant's own key",
}


class Explanation(NamedTuple):
    """What happens to a key at some places that are treated alike.

    Attributes:
        where: the places, such as `span`, or the path of a field.
        target, signal: one of them, to try values on.
        verdict: `allowed`, `dropped`, `masked`, `changed`, or `read` for what holds other fields.
        why: the rule or the decision, in words.
        source: where it is written: the policy and the line, or the table of OTLP's fields.
        rule: the policy's rule, None without one.
    """

    where: tuple[str, ...]
    target: Target
    signal: Signal
    verdict: str
    why: str
    source: str
    rule: Rule | None


def explain(policy: Policy, key: str, signal: str | None = None, place: str | None = None) -> list[Explanation]:
    """What happens to a key: of an attribute, at all places or at one; or of a field of OTLP.

    Raises:
        ValueError: the signal has no such place, or the key says another place than `place`.
    """
    named = resolve(key)
    if named is not None:
        if place is not None and PLACES[place] != named.path:
            raise ValueError(f"{key} is a place of its own, {named}; leave out --where")
        return [_explained(policy, named, (named.path,), signal)]
    targets = {name: Target(path, key) for name, path in PLACES.items() if place in (None, name)}
    targets = {name: target for name, target in targets.items() if signal is None or signal in target.signals}
    if not targets:
        raise ValueError(f"{signal} have no place called {place}")
    alike: dict[tuple[str | None, Decision], list[str]] = {}
    for name, target in targets.items():
        alike.setdefault((target.section, TABLE[target.path]), []).append(name)
    return [_explained(policy, targets[names[0]], tuple(names), signal) for names in alike.values()]


def _explained(policy: Policy, target: Target, where: tuple[str, ...], signal: str | None) -> Explanation:
    possible: tuple[Signal, ...] = tuple(each for each in target.signals if signal in (None, each))
    if not possible:
        raise ValueError(f"{signal} have no {target.path}")
    verdict, why, source, rule = _decided(policy, target)
    return Explanation(where, target, possible[0], verdict, why, source, rule)


def _decided(policy: Policy, target: Target) -> tuple[str, str, str, Rule | None]:
    section = target.section
    if section is None:
        verdict, why = _DECIDED[TABLE[target.path]]
        return verdict, why, f"OTLP's field {target.path}", None
    source = policy.source or "policy"
    place = (section, target.path if target.key is None else target.key)
    rule = policy.rules.get(place)
    if rule is not None:
        lost = TABLE[target.path] is Decision.NAME and not rule.written.get("misfit")
        why = f"{in_words(rule)}; without it the metric is dropped" if lost else in_words(rule)
        verdict = _VERDICTS[rule.action] if isinstance(rule, Rewrite) else "allowed"
        return verdict, why, f"{source}:{policy.lines.get(place, 0)}", rule
    line = policy.lines.get((section,), 0)
    return "dropped", f"has no rule under `{section}`, and what has none is dropped", f"{source}:{line}", None


def in_words(rule: Rule) -> str:
    """A rule for people."""
    if isinstance(rule, Rewrite) and rule.text is None:
        return _WHY[rule.action]
    said = rule.written
    if isinstance(rule, Rewrite):
        return f"{_text_in_words(said)}; cut to {rule.length} characters"
    match said.get("type"):
        case "bool":
            return "true or false"
        case "int":
            return f"a whole number from {said['min']} to {said['max']}"
        case "double":
            return f"a number from {said['min']:.15g} to {said['max']:.15g}"
        case "string[]":
            return f"a list of at most {said['max_items']} strings, each {_text_in_words(said)}"
    words = _text_in_words(said)
    return f"{words}; what does not fit becomes `redacted`" if said.get("misfit") else words


def _text_in_words(said: dict[str, Any]) -> str:
    shape = said["shape"]
    if shape == ENUM:
        return f"one of {', '.join(said['values'])}"
    verbs = f" ({'|'.join(said['verbs'])})" if shape == OPERATION else ""
    scanned = shape not in SHAPES or SHAPES[shape].scanned
    searched = ", masked if a secret is found in it" if scanned else ""
    return f"of shape {shape}{verbs}, at most {said['max_length']} characters{searched}"


def try_value(probe: Probe, explanation: Explanation, text: str) -> Outcome:
    """What the engine does with a value that was typed: read as the type that the rule wants if it can be.

    Raises:
        ValueError: such a value cannot stand there.
    """
    kind = None if explanation.rule is None else explanation.rule.written.get("type")
    return probe.ask(explanation.target, explanation.signal, _typed(text, kind))


def _typed(text: str, kind: str | None) -> object:
    try:
        match kind:
            case "int":
                return int(text)
            case "double":
                return float(text)
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "string[]":
                return [item.strip() for item in text.split(",")]
    except (ValueError, KeyError):
        pass
    return text


def lines(key: str, explanations: list[Explanation], probe: Probe, value: str | None) -> Iterator[str]:
    """An explanation as it is printed.

    Raises:
        ValueError: the value cannot stand at a place.
    """
    yield key
    width = max(len(", ".join(each.where)) for each in explanations)
    for each in explanations:
        yield f"  {', '.join(each.where):{width}}  {each.verdict:7}  {each.why}  ({each.source})"
        if value is not None:
            outcome = try_value(probe, each, value)
            reason = f" ({outcome.reason})" if outcome.reason else ""
            leaves = "" if outcome.verdict in ("passes", "dropped") else f"; {outcome.leaves!r} leaves"
            yield f"  {'':{width}}  this value: {outcome.verdict}{reason}{leaves}"


#: What `--signal` and `--where` take.
CHOICES: Final = {"signal": SIGNALS, "where": tuple(PLACES)}
