"""The cell: one shared-memory page in which an event loop publishes what it is doing, layout version 5.

A loop writes, the watchdog of another process reads, no lock between them. All numbers are unsigned 64-bit words in
native byte order (both sides are on one machine), so every store is one aligned write. Times are nanoseconds of
`CLOCK_MONOTONIC`, which all processes of a machine share.

| words | content |
| --- | --- |
| `MAGIC` .. `CREATED` | identity, written once before the file gets its name |
| `RUNNING` | 0 while the loop idles; else start of the running slice, the low 12 bits replaced by its tenant's slot |
| `BEAT` | when the slot table was last written: at the end of every slice that was long, and every few milliseconds |
| `HEARTBEAT`, `LATENESS` | when the loop's own timer last ran, and how late that was |
| `NAMES` | how many slots have had a name; a name is written before it is counted |
| `OWNERS` | changes whenever a slot changes hands, and is odd meanwhile |
| `THREAD_STATE`, `PYTHON` | where the loop's thread is in the memory of its process, see `frames`; 0: not offered |
| `CLOSED` | 1 when the loop was closed in good order |
| `LONG_SLICES` | how many long slices have ended: they are in the long table before they are counted |
| slot table | `SLOT_WORDS` words a slot, from `HEADER_WORDS` on: the totals of the tenant who has it |
| name table | `NAME_BYTES` bytes a slot after the slot table: length word, then UTF-8 |
| delay table | `DELAY_WORDS` words a slot: how often its ready work waited, by the bounds of `DELAY_BOUNDS_NS` |
| pair table | `PAIRS_HEADER` words, then `MAX_PAIRS` entries of `PAIR_WORDS`: who made whom wait; key 0 is no entry |
| long table | the last `MAX_LONG` long slices, `LONG_WORDS` each: `RUNNING` as it was, when it ended, what it lacked |

`RUNNING` is one word so that a reader can never pair one slice's start with another's tenant.
A slot can be taken from a tenant and given to another, who then begins with totals of 0. `OWNER` tells whose it is: a
*holder* is a slot together with that number. `SINCE` is when it got its name: a slice that began before was a former
tenant's. Between two tenants the slot's name is empty, and nobody counts there. Who reads totals or names looks at
`OWNERS` before and after, and reads again when that was odd or is another number.
Keys of pairs are of holders, and move only while `PAIRS_CHANGE` is odd; who reads another number afterwards than before
reads again.
The n-th long slice is entry n % `MAX_LONG`, n from 0: who looks late still finds those that ended meanwhile.
What a slice lacked is for how long, at most, its thread was ready and had no CPU; `NOT_KNOWN` where nobody can tell.
Slot 0 is `unknown` (no tenant bound), slot 1 is `other` (tenants without a slot).
"""

from __future__ import annotations

from typing import Final

MAGIC_VALUE: Final = int.from_bytes(b"TSCELL\x00\x01", "little")
VERSION: Final = 5

# Header, in words.
MAGIC: Final = 0
LAYOUT: Final = 1
SLOTS: Final = 2
PID: Final = 3
THREAD: Final = 4  # native id of the loop's thread
PROCESS_START: Final = 5  # field 22 of /proc/<pid>/stat: tells a process from a later one with the same pid
CREATED: Final = 6
LOOP_ID: Final = 7
RUNNING: Final = 8
BEAT: Final = 9
NAMES: Final = 10
HEARTBEAT: Final = 11
LATENESS: Final = 12
CLOSED: Final = 13
IDENT: Final = 14  # what Python calls the loop's thread (`threading.get_ident()`); names its part of the stacks file
THREAD_STATE: Final = 15  # address of the `PyThreadState` of the loop's thread
PYTHON: Final = 16  # `sys.hexversion >> 16`, when the frames of this process were proved to be as `frames` has them
LONG_SLICES: Final = 17
OWNERS: Final = 18
HEADER_WORDS: Final = 24

# A slot, in words from its beginning.
LOOP_NS: Final = 0  # time that the tenant had the loop
SLICES: Final = 1
LONGEST_NS: Final = 2
SUFFERED_NS: Final = 3  # time that the tenant's ready work waited for other tenants' long slices
CAUSED_NS: Final = 4  # time that other tenants' ready work waited for this tenant's long slices
WAITS: Final = 5  # how many pieces of work `SUFFERED_NS` sums over
TURN_OVERRUNS: Final = 6  # turns of the tenant that were over their wall-time budget
LOOP_OVERRUNS: Final = 7  # and over their budget of loop time
QUEUED_NS: Final = 8  # time from the sending of the tenant's messages to the start of their handlers on this loop
QUEUED: Final = 9  # how many messages `QUEUED_NS` sums over
TOTALS: Final = 10  # so many words are totals
OWNER: Final = 10  # how many tenants the slot was taken from
SINCE: Final = 11  # when it was given to the present one; 0: to the first
SLOT_WORDS: Final = 12

NAME_BYTES: Final = 1032
MAX_SLOTS: Final = 4096
SLOT_BITS: Final = MAX_SLOTS - 1  # the low bits of RUNNING
START_BITS: Final = ~SLOT_BITS & (2**64 - 1)

# Upper bounds, inclusive, in nanoseconds; the last word of a slot is for all that is longer.
DELAY_BOUNDS_NS: Final = (
    100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000,
    250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000, 25_000_000_000,
)  # fmt: skip
DELAY_WORDS: Final = len(DELAY_BOUNDS_NS) + 1

PAIRS_CHANGE: Final = 0
PAIRS_REST_NS: Final = 1  # what the pairs without an entry waited
PAIRS_HEADER: Final = 2
PAIR_KEY: Final = 0
PAIR_NS: Final = 1  # how long the victim's ready work waited for the culprit's slices
PAIR_WORDS: Final = 2
MAX_PAIRS: Final = 256
GENERATION_BITS: Final = (1 << 19) - 1  # of `OWNER`, in a holder
_HOLDER_BITS: Final = 31
_PAIR: Final = 1 << 2 * _HOLDER_BITS  # in every key: none is 0

LONG_NS: Final = 5_000_000  # a slice from here on is a long one
MAX_LONG: Final = 64
LONG_WORDS: Final = 3
NOT_KNOWN: Final = 2**64 - 1


def size(slots: int) -> int:
    """Bytes of a cell with so many slots."""
    return long_word(slots, MAX_LONG) * 8


def slot_word(slot: int) -> int:
    """Index of the first word of a slot's totals."""
    return HEADER_WORDS + slot * SLOT_WORDS


def name_offset(slots: int, slot: int) -> int:
    """Byte offset of a slot's name (the length word)."""
    return (HEADER_WORDS + slots * SLOT_WORDS) * 8 + slot * NAME_BYTES


def delay_word(slots: int, slot: int) -> int:
    """Index of the first word of a slot's delays."""
    return name_offset(slots, slots) // 8 + slot * DELAY_WORDS


def pairs_word(slots: int) -> int:
    """Index of the first word of the pair table."""
    return delay_word(slots, slots)


def long_word(slots: int, count: int) -> int:
    """Index of the first word of an entry of the long table; `count` below `MAX_LONG`."""
    return pairs_word(slots) + PAIRS_HEADER + MAX_PAIRS * PAIR_WORDS + count * LONG_WORDS


def holder(slot: int, owner: int) -> int:
    """Who has a slot, by its `OWNER` word; of the first that has it, the slot itself."""
    return (owner & GENERATION_BITS) << 12 | slot


def pair_key(culprit: int, victim: int) -> int:
    """The key of a pair of holders."""
    return _PAIR | culprit << _HOLDER_BITS | victim


def holders_of(key: int) -> tuple[int, int]:
    """The culprit and the victim of a key."""
    holders = (1 << _HOLDER_BITS) - 1
    return key >> _HOLDER_BITS & holders, key & holders
