"""Fuzzes the engine with atheris: whatever comes in, what comes out is OTLP that the policy lets pass, or nothing.

    python tests/redaction/fuzz_redaction.py -max_total_time=600

Options are libFuzzer's. The first byte picks signal, policy and whether the sender may name all tenants. Each input is
redacted three times: records by the hundred, each of them walked, and by the hundred once more; bytes and counts are
the same. The start are a few messages from the descriptors, and long ones in the form that exporters send.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

# First: only what is imported inside of this is watched.
with atheris.instrument_imports(include=["sidecar.redaction"]):
    from sidecar.redaction import Malformed, Policy, Redactor
    from sidecar.redaction.engine import Pass

from redaction_samples import REQUESTS, Composer, records, unknown_fields  # noqa: E402  # as above
from row_trials import MAY_NAME, Rows, Writer, outcome  # noqa: E402  # as above

from sidecar.conventions import POLICIES, SIGNALS  # noqa: E402  # as above

CASES = [(signal, policy, tenants) for signal in SIGNALS for policy in POLICIES for tenants in (None, MAY_NAME)]
REDACTORS = {policy: Redactor(Policy.load(policy)) for policy in POLICIES}
START = 90
LONGEST = 1200


def once(data: bytes) -> None:
    """One input. Raises AssertionError, or whatever the engine should not."""
    if not data:
        return
    signal, policy, tenants = CASES[data[0] % len(CASES)]
    redactor, payload = REDACTORS[policy], data[1:]
    by_the_hundred = outcome(Rows, redactor, signal, payload, tenants)
    assert outcome(Pass, redactor, signal, payload, tenants) == by_the_hundred
    assert outcome(Rows, redactor, signal, payload, tenants) == by_the_hundred
    try:
        redacted = redactor.redact(signal, payload, tenants)
    except Malformed as malformed:
        if str(malformed) == "error":
            raise
        return
    # protobuf's own parser must be able to read whatever left, and find nothing in it that OTLP has not.
    output = REQUESTS[signal].FromString(redacted.payload)
    assert unknown_fields(output) == 0
    assert records(output) == redacted.records_out
    assert redacted.records_in - redacted.records_out == sum(redacted.dropped.values())
    assert "error" not in {reason for _, reason in redacted.actions} | set(redacted.dropped)
    assert redactor.redact(signal, redacted.payload, tenants).payload == redacted.payload


def _message(case: int, seed: int) -> bytes:
    signal, policy, _ = CASES[case]
    if seed // len(CASES) % 2:
        made = Writer(random.Random(seed), policy, "AKIAIOSFODNN7EXAMPLE", True).request(signal)
    else:
        keys = [key for section, key in Policy.load(policy).rules if section != "fields"]
        made = Composer(seed, keys).request(signal)
    payload: bytes = made.SerializeToString()
    return payload


def main() -> None:
    """Fuzz from a corpus made anew."""
    with tempfile.TemporaryDirectory() as corpus:
        for seed in range(START):
            case = seed % len(CASES)
            whole = (message for again in range(1000) if len(message := _message(case, seed + again * START)) < LONGEST)
            (Path(corpus) / str(seed)).write_bytes(bytes((case,)) + next(whole))
        atheris.Setup([*sys.argv, corpus], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
