"""The table of limits: which tier a tenant is in, and what a tier may use and may expect. One file for both halves.

    default = "standard"        # tier of everybody who is named nowhere; without it they have no limits

    [tiers.standard]
    turn = 60.0                 # seconds that the handling of one message may take
    loop = 0.5                  # seconds of the event loop that it may hold
    cancel = false              # whether a handler that takes more is cancelled, or only reported
    delay_p99 = 0.1             # seconds that 99 of 100 waits for other tenants' slices should not exceed
    records = 500               # spans, data points and log records a second that the sidecar takes of it
    bytes = 1_000_000           # bytes of them a second
    burst = 30.0                # seconds' worth that may come at once

    [tiers.acme-alone]
    turn = 600.0

    [tenants]
    acme = "acme-alone"

The library enforces `turn`, `loop` and `cancel`; the sidecar watches `delay_p99` and enforces the quota: `records`,
`bytes` and `burst`. A tenant with limits of its own is in a tier of its own.

What it refuses: a file with any mistake in it, in one go with one line for each.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

#: Where the file is: a setting of both halves.
KEY: Final = "TENANTSCOPE_LIMITS"
DESCRIPTION: Final = (
    "TOML file with tiers of tenants: turn budgets, targets for the delay at the event loop, quotas of telemetry "
    "(docs/limits.md)"
)
MAX_BYTES: Final = 8 * 1024 * 1024
MAX_SECONDS: Final = 86_400.0
MAX_TENANT: Final = 255
_TOP: Final = ("default", "tiers", "tenants")
_SECONDS: Final = ("turn", "loop", "delay_p99")
#: Keys of a quota, here and wherever else one is stated.
QUOTA_KEYS: Final = ("records", "bytes", "burst")
_TIER: Final = (*_SECONDS, "cancel", *QUOTA_KEYS)
MAX_RATE: Final = 1e12
DEFAULT_BURST: Final = 10.0
_MAX_MISTAKES: Final = 20


class LimitsError(ValueError):
    """The table cannot be used.

    Attributes:
        mistakes: one line for each; they name keys of the table, never values.
    """

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


@dataclass(frozen=True, slots=True)
class Quota:
    """How much telemetry may be sent.

    Attributes:
        records: a second: spans, data points and log records; None is any number.
        bytes: of them a second; None is any number.
        burst: seconds' worth of both that may come at once.
    """

    records: float | None
    bytes: float | None
    burst: float = DEFAULT_BURST


@dataclass(frozen=True, slots=True)
class Tier:
    """Limits of a group of tenants, in seconds; None is no limit.

    Attributes:
        turn: wall time of the handling of one message, its awaits included.
        loop: time for which it holds the event loop.
        cancel: whether a handler over `turn` or `loop` is cancelled.
        delay_p99: what 99 of 100 waits for other tenants' slices should not exceed.
        quota: of telemetry.
    """

    name: str
    turn: float | None = None
    loop: float | None = None
    cancel: bool = False
    delay_p99: float | None = None
    quota: Quota | None = None


@dataclass(frozen=True)
class Limits:
    """Who is in which tier.

    Attributes:
        tiers: by name.
        tenants: tier by tenant id.
        default: of everybody else; None: no limits.
        source: the file that it was read from.
    """

    tiers: Mapping[str, Tier]
    tenants: Mapping[str, Tier]
    default: Tier | None = None
    source: Path | None = field(default=None, compare=False)

    @property
    def has_quotas(self) -> bool:
        """Whether any tenant has a quota of telemetry."""
        return any(tier.quota is not None for tier in self.tiers.values())

    def of(self, tenant: str) -> Tier | None:
        """The tier of a tenant, None when it has no limits."""
        return self.tenants.get(tenant, self.default)


def load(path: Path) -> Limits:
    """Read the table in a file.

    Raises:
        LimitsError: it cannot be read, or has mistakes.
    """
    try:
        # No FIFO is waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise LimitsError(["is not a file"])
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LimitsError([f"cannot be read: {error.strerror}"]) from None
    except ValueError as error:  # a path with NUL, or our own
        raise error if isinstance(error, LimitsError) else LimitsError(["is not a path"]) from None
    if len(content) > MAX_BYTES:
        raise LimitsError([f"is larger than {MAX_BYTES} bytes"])
    return replace(parse(content), source=path)


def parse(content: bytes) -> Limits:
    """The table in the text of a file.

    Raises:
        LimitsError: it has mistakes.
    """
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise LimitsError(["is not UTF-8"]) from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        # The parser's own words quote single characters at most; but they are another's.
        where = str(error).rpartition("(")[2].rstrip(")") if "(at " in str(error) else "somewhere"
        raise LimitsError([f"is not TOML, {where}"]) from None
    mistakes: list[str] = []
    _refuse_unknown("", document, _TOP, mistakes)
    tiers = {name: _tier(name, table, mistakes) for name, table in _table("tiers", document.get("tiers", {}), mistakes)}
    tenants: dict[str, Tier] = {}
    for tenant, name in _table("tenants", document.get("tenants", {}), mistakes):
        if not tenant or len(tenant) > MAX_TENANT or not tenant.isprintable() or tenant != tenant.strip():
            mistakes.append(f"tenants: {_shown(tenant)} can be no tenant's id")
        elif (tier := _named(f"tenants.{_shown(tenant)}", name, tiers, mistakes)) is not None:
            tenants[tenant] = tier
    default = None if "default" not in document else _named("default", document["default"], tiers, mistakes)
    if mistakes:
        more = len(mistakes) - _MAX_MISTAKES
        raise LimitsError(mistakes[:_MAX_MISTAKES] + ([f"and {more} more mistakes"] if more > 0 else []))
    return Limits(MappingProxyType(tiers), MappingProxyType(tenants), default)


def _tier(name: str, table: Any, mistakes: list[str]) -> Tier:
    where = f"tiers.{_shown(name)}"
    if not isinstance(table, dict):
        mistakes.append(f"{where}: must be a table")
        return Tier(name)
    _refuse_unknown(f"{where}.", table, _TIER, mistakes)
    seconds: dict[str, float | None] = {}
    for key in _SECONDS:
        value = table.get(key)
        if value is not None and not is_limit(value):
            mistakes.append(f"{where}.{key}: must be a number of seconds, above 0 and at most {MAX_SECONDS:.0f}")
            value = None
        seconds[key] = value
    cancel = table.get("cancel", False)
    if type(cancel) is not bool:
        mistakes.append(f"{where}.cancel: must be true or false")
        cancel = False
    elif cancel and "turn" not in table and "loop" not in table:
        mistakes.append(f"{where}.cancel: does nothing without `turn` or `loop`")
    quota = read_quota(table, lambda key, what: mistakes.append(f"{where}.{key}: {what}"))
    return Tier(name, seconds["turn"], seconds["loop"], cancel, seconds["delay_p99"], quota)


def read_quota(table: Mapping[str, Any], mistake: Callable[[str, str], object]) -> Quota | None:
    """The quota that a table states; None when it states none. `mistake` is told a key and what is wrong with it."""
    rates: dict[str, float | None] = {}
    for key in ("records", "bytes"):
        rate = table.get(key)
        if rate is not None and not (type(rate) in (int, float) and 0 < rate <= MAX_RATE):
            mistake(key, f"must be a number a second, above 0 and at most {MAX_RATE:.0f}")
            rate = None
        rates[key] = rate
    burst = table.get("burst", DEFAULT_BURST)
    if not is_limit(burst):
        mistake("burst", f"must be a number of seconds, above 0 and at most {MAX_SECONDS:.0f}")
        burst = DEFAULT_BURST
    elif "burst" in table and "records" not in table and "bytes" not in table:
        mistake("burst", "does nothing without `records` or `bytes`")
    if rates["records"] is None and rates["bytes"] is None:
        return None
    return Quota(rates["records"], rates["bytes"], burst)


def is_limit(value: object) -> bool:
    """Whether `value` is a number of seconds that can be a limit."""
    return type(value) in (int, float) and 0 < value <= MAX_SECONDS  # type: ignore[operator]


def _table(where: str, value: Any, mistakes: list[str]) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return value.items()
    mistakes.append(f"{where}: must be a table")
    return ()


def _named(where: str, name: Any, tiers: Mapping[str, Tier], mistakes: list[str]) -> Tier | None:
    if not isinstance(name, str):
        mistakes.append(f"{where}: must be the name of a tier")
        return None
    if name not in tiers:
        mistakes.append(f"{where}: there is no tier {_shown(name)}{_suggestion(name, tiers)}")
        return None
    return tiers[name]


def _refuse_unknown(where: str, table: Mapping[str, Any], known: Iterable[str], mistakes: list[str]) -> None:
    known = list(known)
    mistakes += [f"{where}{_shown(key)}: unknown{_suggestion(key, known)}" for key in table if key not in known]


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word[:80], list(known)[:1000], n=1)
    return f"; did you mean {_shown(close[0])}?" if close else ""


def _shown(name: str) -> str:
    """A name as TOML has it, on one line and not too long."""
    if name and len(name) <= 80 and name.isascii() and name.replace("-", "").replace("_", "").isalnum():
        return name
    return ascii(name[:80])
