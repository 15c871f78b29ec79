"""Rules that let a text leave in another form, whatever it is, or not at all: a policy's actions beside `allow`.

| action | what leaves |
| --- | --- |
| `drop` | nothing; for a tier, where the policy for everybody allows |
| `mask` | `[redacted:policy]`, of whatever type the value was |
| `hash` | a keyed digest, the same for all tenants |
| `pseudonymise` | a keyed digest under the tenant's own key |
| `truncate` | what shape, bounds and detectors let pass *as a whole*, cut: no secret is cut into innocence |

A digest says nothing without the key, so texts under `hash` and `pseudonymise` need neither shape nor detectors. Where
there is no key, they are masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .detectors import MAX_TEXT
from .pseudonyms import Pseudonyms
from .texts import Masked, Refused, Text, Written, mask

POLICY: Final = "policy"
_LENGTH: Final = "length"


class Action(StrEnum):
    """What a rule may do besides `allow`."""

    DROP = "drop"
    MASK = "mask"
    HASH = "hash"
    PSEUDONYMISE = "pseudonymise"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One such rule, for an attribute or a field.

    Attributes:
        text: for `truncate`, what the whole text is held to.
        length: for `truncate`, in characters.
        typed: whether the file says a type, as for attributes.
    """

    action: Action
    text: Text | None = None
    length: int = 0
    typed: bool = False

    @property
    def written(self) -> Written:
        """The rule as a policy's file says it."""
        said: Written = {"action": self.action.value}
        if self.text is not None:
            said |= {"type": "string"} if self.typed else {}
            said |= self.text.written | {"length": self.length}
        return said

    def rewrite(self, text: bytes | None, tenant: bytes, names: Pseudonyms | None) -> Masked | None:
        """What leaves in the place of a text; None when it stays. `text` is None when the value is of another type.

        Raises:
            Refused: nothing leaves.
        """
        if self.action is Action.DROP:
            raise Refused(POLICY)
        if self.action is Action.MASK:
            return mask(POLICY)
        if text is None:
            raise Refused("type")
        if self.text is not None:
            return self._truncated(self.text, text)
        if not text:
            return None
        if len(text) > 4 * MAX_TEXT:
            raise Refused(_LENGTH)
        if names is None:
            return mask(POLICY)
        written = names.hash(text) if self.action is Action.HASH else names.of(tenant, text)
        return Masked(POLICY, written.encode(), self.action.value)

    def _truncated(self, whole: Text, raw: bytes) -> Masked | None:
        masked = whole.judge(raw)
        if masked is not None:
            return masked
        text = raw.decode()
        return Masked(_LENGTH, text[: self.length].encode(), self.action.value) if len(text) > self.length else None
