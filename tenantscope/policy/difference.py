"""Compares two policies: what became more permissive, what less.

A rule became more permissive when there is a value that passes now and did not before, as far as that can be
told from the rules; where it cannot, it counts as more permissive. So a change that this calls harmless is
harmless, and one that it stops is for a person to read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from sidecar.configuration.strict_yaml import Place
from sidecar.redaction import Policy
from sidecar.redaction.policy import Rule
from sidecar.redaction.rewrites import Rewrite
from sidecar.redaction.rules import StringListValue, StringValue
from sidecar.redaction.shapes import ENUM
from sidecar.redaction.texts import Refused, Text

from .explanation import in_words

#: Shapes that let every text of another shape pass, and see the same secrets in it; a test holds this to them.
WIDER: Final = {
    "uuid": ("identifier", "hostname", "version", "tenant", "free"),
    "hostname": ("identifier", "version", "tenant", "free"),
    "severity": ("identifier", "hostname", "version", "unit", "tenant", "free"),
    "schema_url": ("tenant", "free"),
    "identifier": ("tenant", "free"),
    "version": ("tenant", "free"),
    "unit": ("tenant", "free"),
    "operation": ("tenant", "free"),
    "free": ("tenant",),
}


# The actions, from what says least to what says most: within a tenant a pseudonym can be joined, a hash everywhere.
_ACTIONS: Final = ("drop", "mask", "pseudonymise", "hash", "truncate", "allow")


class Change(NamedTuple):
    """One difference.

    Attributes:
        place: the section and the key.
        more: more permissive; otherwise less.
        what: the difference, in words.
    """

    place: Place
    more: bool
    what: str


def changes(old: Policy, new: Policy) -> list[Change]:
    """What `new` treats in another way than `old`; in the order of the new one, with what is gone at the end.

    First for everybody, then for each tier what is another difference than that for everybody.
    """
    found = list(_of_rules(old, new))
    everybody = set(found)
    for name in dict.fromkeys((*new.tiers, *old.tiers)):
        before, after = (policy.of_tier(name) if name in policy.tiers else policy for policy in (old, new))
        found += (
            Change(("tiers", name, *place), more, what)
            for place, more, what in _of_rules(before, after)
            if Change(place, more, what) not in everybody
        )
        members = [set(policy.tiers[name].tenants) if name in policy.tiers else set() for policy in (old, new)]
        if members[0] != members[1] and old.tiers and new.tiers:
            # Who leaves one tier comes under other rules: nobody can tell from here which say more of whom. Where one
            # side has no tiers, the others are the rules for everybody, and the comparison above is all.
            found.append(Change(("tiers", name, "tenants"), True, "other tenants"))
    patterns = [{} if policy.patterns is None else policy.patterns.written for policy in (old, new)]
    for name in dict.fromkeys((*patterns[1], *patterns[0])):
        if patterns[0].get(name) != patterns[1].get(name):
            added = name not in patterns[0]
            what = (
                "looked for now" if added else "another expression" if name in patterns[1] else "no longer looked for"
            )
            found.append(Change(("patterns", name), not added, what))
    return found


def _of_rules(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = old.rules, new.rules
    for place, rule in after.items():
        if place in before:
            yield from (Change(place, *change) for change in _between(before[place], rule))
        elif _action(rule) != _ACTIONS[0]:
            yield Change(place, True, f"allowed now: {in_words(rule)}")
    for place, rule in before.items():
        if place not in after and _action(rule) != _ACTIONS[0]:
            yield Change(place, False, "no longer allowed")


def _action(rule: Rule) -> str:
    return rule.action.value if isinstance(rule, Rewrite) else _ACTIONS[-1]


def _between(old: Rule, new: Rule) -> Iterator[tuple[bool, str]]:
    if (was := _action(old)) != (now := _action(new)):
        yield _ACTIONS.index(now) > _ACTIONS.index(was), f"action: {was} -> {now}"
        return
    if isinstance(old, Rewrite) and isinstance(new, Rewrite):
        if old.text is not None and new.text is not None:
            if old.length != new.length:
                yield new.length > old.length, f"length: {old.length} -> {new.length}"
            yield from _between(old.text, new.text)
        return
    yield from _of_values(old, new)


def _of_values(old: Rule, new: Rule) -> Iterator[tuple[bool, str]]:
    before, after = old.written, new.written
    if before.get("type") != after.get("type"):
        yield True, f"another type: {before.get('type')} -> {after.get('type')}"
        return
    if before.get("shape") != after.get("shape"):
        more = not _within(new, old)
        if more or not _within(old, new):
            yield more, f"another shape: {in_words(old)} -> {in_words(new)}"
        return
    for key in ("min", "max", "max_length", "max_items"):
        if before.get(key) != after.get(key):
            yield (after[key] > before[key]) != (key == "min"), f"{key}: {before[key]} -> {after[key]}"
    for key in ("values", "verbs"):
        added = [word for word in after.get(key, ()) if word not in before[key]]
        gone = [word for word in before.get(key, ()) if word not in after[key]]
        if added:
            yield True, f"{key}: {', '.join(added)} added"
        if gone:
            yield False, f"{key}: {', '.join(gone)} taken out"
    if before.get("misfit") != after.get("misfit"):
        # With a mask it gets out that something stood there, though nothing of it does.
        masks = after.get("misfit") == "mask"
        yield masks, f"misfit: {'drop -> mask' if masks else 'mask -> drop'}"


def _within(inner: Rule, outer: Rule) -> bool:
    """Whether all that passes `inner` surely passes `outer`, of two rules of one type and different shapes."""
    said, bound = inner.written, outer.written
    if (said.get("misfit") and not bound.get("misfit")) or said.get("max_items", 0) > bound.get("max_items", 0):
        return False
    if said["shape"] == ENUM:
        return all(_passes(word, outer) for word in said["values"])
    if bound["shape"] == ENUM:
        return False
    return bound["shape"] in WIDER.get(said["shape"], ()) and said["max_length"] <= bound["max_length"]


def _passes(word: str, rule: Rule) -> bool:
    text = rule.text if isinstance(rule, StringValue | StringListValue) else rule
    try:
        return isinstance(text, Text) and text.judge(word.encode()) is None
    except Refused:
        return False
