"""A passport on the wire: between processes it is W3C trace context, which is all that AutoGen carries for us.

`traceparent` is the sender's span. In `tracestate` stands one entry of ours, first, before those of others:

    tenantscope=1;acme;5d21f3a0;7c0e19b2;;;kM3vT0c2m1Yq8sZbW4xR9A
                | |    |        |       || seal over all before it, and over the trace's id (see peers.py)
                | |    |        |       |budget: turn/loop/c in hexadecimal nanoseconds, as bound in code
                | |    |        |       conversation, a keyed digest
                | |    |        which clock that is: processes of one machine have the same
                | |    monotonic nanoseconds at the send
                | tenant, percent-encoded; empty without one
                1: `traceparent` is a span; 1r: the sender was in none, and what follows is a root

What it refuses: a claim without a seal of one of our keys (the tenant is `unknown` then, and counted), a tenant id that
is too long for an entry (counted, not cut), and to let the entry go any further than to the next process: whatever a
handler calls, over HTTP say, sees the trace state without it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import secrets
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from instrumentation import budgets, tenancy
from instrumentation.diagnostics import count, log
from instrumentation.isolation import Isolation
from instrumentation.peers import Peers
from instrumentation.telemetry.recorder import current_activity

from .passport import PassportAbroad

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
KEY: Final = "tenantscope"
#: Of an entry's value and of the list, by the W3C's recommendation (Trace Context, 3.3.1).
MAX_VALUE: Final = 256
MAX_ENTRIES: Final = 32
#: As long as a list can be by that grammar; nobody's blanks are counted.
_MAX_LIST: Final = MAX_ENTRIES * (256 + 1 + MAX_VALUE + 1)
_UNDER: Final = "1"
_ROOT: Final = "1r"
_AS_IT_IS: Final = "-_.~:@/+!"
_BEGIN: Final = f"{KEY}="
# Trace Context, 3.2: version, trace, parent, flags; no part of zeros.
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
# What each field may be: a key vouches for a tenant, and not for its writer's good sense.
_ENTRY: Final = re.compile(
    r"((1r?);((?:[^;%]|%[0-9A-F]{2})*);([0-9a-f]{1,16});([0-9a-f]{8});([\w-]{22}|);((?:[0-9a-f]*/[0-9a-f]*/c?)?));([^;]*)",
    re.ASCII,
)
# Trace Context, 3.3.1: key, or key of a tenant at a vendor, and value.
_MEMBER: Final = re.compile(
    r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)


class Wire:
    """Writes passports for other processes, and reads theirs."""

    def __init__(self, peers: Peers, isolation: Isolation) -> None:
        self._peers = peers
        self._isolation = isolation

    # Out ------------------------------------------------------------------------------------------------------------
    def write(self, passport: PassportAbroad) -> dict[str, str]:
        """`traceparent` and `tracestate` of a message. Remembers in the passport which trace it went out with."""
        span = get_current_span(passport.context).get_span_context()
        if span.is_valid:
            passport.trace_id = span.trace_id
            return self._written(_UNDER, passport, span)
        passport.trace_id = passport.trace_id or secrets.randbits(128) | 1
        return self._written(_ROOT, passport, SpanContext(passport.trace_id, secrets.randbits(64) | 1, False))

    def answer(self, passport: PassportAbroad) -> dict[str, str]:
        """Those of the answer to a message that came with `passport`; nothing when it came without a trace."""
        if passport.trace_id is None:
            return {}
        answer = PassportAbroad(passport.binding, None, passport.context, time.monotonic_ns())
        answer.trace_id = passport.trace_id
        return self.write(answer)

    def _written(self, version: str, passport: PassportAbroad, span: SpanContext) -> dict[str, str]:
        others = [(key, value) for key, value in span.trace_state.items() if key != KEY][: MAX_ENTRIES - 1]
        entries = [(KEY, self._entry(version, passport, span.trace_id)), *others]
        return {
            TRACEPARENT: f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}",
            TRACESTATE: ",".join(f"{key}={value}" for key, value in entries),
        }

    def _entry(self, version: str, passport: PassportAbroad, trace_id: int) -> str:
        tenant = passport.tenant
        name = "" if tenant.slot == tenancy.UNKNOWN_SLOT else _quoted(tenant.name)
        activity = current_activity(passport.context)
        conversation = None if activity is None else activity.conversation
        behind = ";".join(
            (
                f"{passport.sent_ns or 0:x}",
                clock_id(),
                "" if conversation is None else base64.urlsafe_b64encode(uuid.UUID(conversation).bytes).decode()[:-2],
                _budget_text(passport.budget),
            )
        )
        sealed = f"{version};{name};{behind}"
        if len(sealed) + 1 + 22 > MAX_VALUE:
            count("tenant.too_long")
            sealed = f"{version};;{behind}"
        return f"{sealed};{self._peers.seal(_text(trace_id, sealed))}"

    # In -------------------------------------------------------------------------------------------------------------
    def read(self, metadata: Mapping[str, str], report: bool = True) -> PassportAbroad:
        """The passport of a message that came in with `metadata`.

        Args:
            report: whether a claim that is not believed is counted; not where the message only passes through.
        """
        found = _TRACEPARENT.fullmatch(metadata[TRACEPARENT]) if TRACEPARENT in metadata else None
        if found is None:
            return PassportAbroad(None, None, Context(), None)
        trace_id, span_id, flags = (int(part, 16) for part in found.groups())
        entry, others = _ours(metadata[TRACESTATE]) if TRACESTATE in metadata else (None, [])
        state = TraceState(others) if others else None
        span = SpanContext(trace_id, span_id, True, TraceFlags(flags), state)
        context = set_span_in_context(NonRecordingSpan(span), Context())
        passport = PassportAbroad(None, None, context, None)
        passport.trace_id = trace_id
        if entry is not None:
            passport.marked = True
            self._believe(entry, passport, report)
        return passport

    def _believe(self, entry: str, passport: PassportAbroad, report: bool) -> None:
        """Fill in what the entry says, if it may be believed."""
        fields = _ENTRY.fullmatch(entry) if len(entry) <= MAX_VALUE else None
        if fields is None:
            return self._disbelieve("malformed", report)
        sealed, version, name, sent, clock, conversation, budget, seal = fields.groups()
        if version == _ROOT:
            passport.context = Context()
        key = self._peers.whose(_text(passport.trace_id or 0, sealed), seal)
        if key is None:
            return self._disbelieve("forged" if self._peers.shared else "unknown", report and bool(name))
        tenant = unquote(name, errors="surrogateescape")  # which no valid id has in it
        if tenant and not key.speaks_for(tenant):
            return self._disbelieve("foreign_tenant", report)
        if tenant:
            passport.binding = tenancy.Binding(tenancy.TABLE.intern(tenant))
        if clock == clock_id():
            passport.sent_ns = int(sent, 16)
        if conversation:
            passport.conversation = str(uuid.UUID(bytes=base64.urlsafe_b64decode(conversation + "==")))
        passport.budget = _budget(budget)
        passport.believed = True
        return None

    def _disbelieve(self, reason: str, report: bool) -> None:
        if report:
            count(f"peer.{reason}")
            if self._peers.shared:
                self._isolation.forged()
            else:
                log.warning("the tenants of other processes are not believed: TENANTSCOPE_PEER_KEYS_FILE is not set")


def _ours(tracestate: str) -> tuple[str | None, list[tuple[str, str]]]:
    """The value of our entry, and the entries of others; none of those where they do not keep to the grammar.

    Not `TraceState.from_header`, which logs what does not please it: text of a stranger's, in the application's log.
    """
    if tracestate.startswith(_BEGIN) and "," not in tracestate:
        return tracestate[len(_BEGIN) :], []
    if len(tracestate) > _MAX_LIST:
        return None, []
    entries = [entry for member in tracestate.split(",") if (entry := member.strip(" \t"))]
    mine = [entry for entry in entries if entry.startswith(_BEGIN)]
    # The grammar allows one; of several, somebody wrote one who should not.
    value = None if not mine else mine[0][len(_BEGIN) :] if len(mine) == 1 else ""
    found = [_MEMBER.fullmatch(entry) for entry in entries if not entry.startswith(_BEGIN)]
    others = {member[1]: member[2] for member in found if member is not None}
    return value, list(others.items()) if len(others) == len(found) <= MAX_ENTRIES else []


@functools.lru_cache(maxsize=4096)
def _quoted(tenant: str) -> str:
    return quote(tenant, safe=_AS_IT_IS)


def _text(trace_id: int, sealed: str) -> bytes:
    return f"{trace_id:032x};{sealed}".encode()


def _budget_text(bound: budgets.Bound | None) -> str:
    if bound is None:
        return ""
    budget = bound.budget
    turn, loop = ("" if limit is None else f"{limit:x}" for limit in (budget.turn_ns, budget.loop_ns))
    return f"{turn}/{loop}/{'c' if budget.cancel else ''}"


def _budget(text: str) -> budgets.Bound | None:
    if not text:
        return None
    turn, loop, cancel = text.split("/")
    limits = budgets.Budget(int(turn, 16) if turn else None, int(loop, 16) if loop else None, cancel == "c")
    return budgets.Bound(limits)


@functools.cache
def clock_id() -> str:
    """Which monotonic clock this is: the machine's, since it was started; another one in another time namespace.

    Drawn where the system does not say: a clock that nobody else has.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return hashlib.sha256(f"{boot};{Path('/proc/self/ns/time').readlink()}".encode()).hexdigest()[:8]
    except OSError:
        return secrets.token_hex(4)
