"""Twenty thousand messages from the descriptors: the engine agrees with the reference, and no secret comes out."""

from __future__ import annotations

import pytest
from redaction_trials import trial
from row_trials import SEEN, row_trial
from wire_trials import wire_trial

BLOCKS, EACH = 20, 1000
LONG_BLOCKS, LONG_EACH = 10, 25


@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_secret_planted_anywhere_stays_in_and_the_reference_agrees(block: int) -> None:
    """In any leaf, of any type, at any nesting, in any encoding, of all signals, under each shipped policy."""
    for seed in range(block * EACH, (block + 1) * EACH):
        trial(seed)


@pytest.mark.parametrize("block", range(LONG_BLOCKS))
def test_long_requests_come_out_as_short_ones_and_the_reference_agrees(block: int) -> None:
    """Records by the dozen that share their values, some odd or damaged; of senders, tenants and tiers of all kinds."""
    SEEN.clear()
    for seed in range(block * LONG_EACH, (block + 1) * LONG_EACH):
        row_trial(seed)
    assert SEEN["walked"] < SEEN["records"]  # or it was not tried


@pytest.mark.parametrize("block", range(2))
def test_what_an_attacker_writes_comes_out_as_one_by_one(block: int) -> None:
    """Byte by byte, under policies drawn at random, after whatever other senders left in memos."""
    SEEN.clear()
    for seed in range(500 * block, 500 * block + 500):
        wire_trial(seed)
    assert SEEN["walked"] < 0.8 * SEEN["records"]  # or it was not tried
