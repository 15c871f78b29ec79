"""Fuzzes the engine with atheris: whatever comes in, what comes out is OTLP that the policy lets pass, or nothing.

    python tests/redaction/fuzz_redaction.py -max_total_time=600

Options are libFuzzer's. The first byte picks signal and policy; a few messages from the descriptors are the start.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

# First: only what is imported inside of this is watched.
with atheris.instrument_imports(include=["sidecar.redaction"]):
    from sidecar.redaction import Malformed, Policy, Redactor

from redaction_samples import REQUESTS, Composer, records, unknown_fields  # noqa: E402  # as above

from sidecar.conventions import POLICIES, SIGNALS  # noqa: E402  # as above

CASES = [(signal, policy) for signal in SIGNALS for policy in POLICIES]
REDACTORS = {policy: Redactor(Policy.load(policy)) for policy in POLICIES}
START = 60


def once(data: bytes) -> None:
    """One input. Raises AssertionError, or whatever the engine should not."""
    if not data:
        return
    signal, policy = CASES[data[0] % len(CASES)]
    try:
        redacted = REDACTORS[policy].redact(signal, data[1:])
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
    assert REDACTORS[policy].redact(signal, redacted.payload).payload == redacted.payload


def main() -> None:
    """Fuzz from a corpus made anew."""
    with tempfile.TemporaryDirectory() as corpus:
        for seed in range(START):
            case = seed % len(CASES)
            keys = [key for section, key in Policy.load(CASES[case][1]).rules if section != "fields"]
            message = Composer(seed, keys).request(CASES[case][0]).SerializeToString()[:600]
            (Path(corpus) / str(seed)).write_bytes(bytes((case,)) + message)
        atheris.Setup([*sys.argv, corpus], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
