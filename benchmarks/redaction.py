"""What redaction costs: microseconds of CPU a span, in batches of 512 spans as the SDK sends them.

    python -m benchmarks.redaction [--rounds 40]

A span has 12 attributes and an event. Five workloads run interleaved, round by round, so that a busy machine slows all
of them alike: nothing to do; 20 % of the values dropped and 10 % masked; the same with every text new, so that
nothing is remembered, once as names are numbered (`Planner4711`) and once with random letters in every name; and, for
scale, protobuf's own parser (in C) reading and writing the same bytes.
"""

from __future__ import annotations

import argparse
import random
import statistics
import string
import time
import uuid
from collections.abc import Callable, Iterator

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.redaction import Policy, Redactor

SPANS = 512
DROPPED, MASKED = 0.2, 0.1
_NAMES = ("autogen.agent.type", "autogen.message.type", "gen_ai.agent.name", "gen_ai.tool.name", "error.type")


Suffix = Callable[[random.Random], str]


def alike(_: random.Random) -> str:
    """One name for all."""
    return "1"


def numbered(chance: random.Random) -> str:
    """Names that differ in their number."""
    return str(chance.randrange(10**6))


def lettered(chance: random.Random) -> str:
    """Names that differ in their letters."""
    return "-" + "".join(chance.choices(string.ascii_lowercase, k=6))


def batch(chance: random.Random, dropped: float, masked: float, suffix: Suffix) -> bytes:
    """A request with `SPANS` spans; `suffix` says how their names go on."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "billing"
    scope = resource.scope_spans.add()
    scope.scope.name = "tenantscope"
    for _ in range(SPANS):
        _fill(scope.spans.add(), chance, dropped, masked, suffix)
    return request.SerializeToString()


def _fill(span: Span, chance: random.Random, dropped: float, masked: float, suffix: Suffix) -> None:
    span.trace_id, span.span_id, span.parent_span_id = map(chance.randbytes, (16, 8, 8))
    span.name = "process planner"
    span.kind = Span.SPAN_KIND_CONSUMER
    span.start_time_unix_nano = 1_760_000_000_000_000_000 + chance.randrange(10**12)
    span.end_time_unix_nano = span.start_time_unix_nano + chance.randrange(10**9)
    span.attributes.add(key="tenant.id").value.string_value = f"tenant-{chance.randrange(50):05}"
    span.attributes.add(key="autogen.message.kind").value.string_value = "send"
    span.attributes.add(key="autogen.message.outcome").value.string_value = "ok"
    span.attributes.add(key="autogen.message.queue.duration").value.double_value = chance.random()
    span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = chance.randrange(5000)
    span.attributes.add(key="gen_ai.request.model").value.string_value = "gpt-4o-2024-08-06"
    conversation = uuid.UUID(int=0xABCDEF << 100 if suffix is alike else chance.getrandbits(128), version=4)
    span.attributes.add(key="gen_ai.conversation.id").value.string_value = str(conversation)
    for key in _NAMES:
        span.attributes.add(key=key).value.string_value = f"Planner{suffix(chance)}"
    # Of the names, and only there, values are bad: 5 of 12 must bear the share of all 12.
    for attribute in list(span.attributes)[-len(_NAMES) :]:
        dice = chance.random() * len(_NAMES) / 12
        if dice < dropped:
            attribute.key = "message"
        elif dice < dropped + masked:
            attribute.value.string_value = f"planner.bob{chance.randrange(1000)}:AKIA{'A1B2C3D4' * 2}"
    event = span.events.add(time_unix_nano=span.end_time_unix_nano, name="exception")
    event.attributes.add(key="exception.type").value.string_value = "TimeoutError"


def workloads() -> dict[str, tuple[Iterator[bytes], Callable[[bytes], object]]]:
    """What is measured, by name: batches, and what is done with each."""
    chance = random.Random(7)
    redactor = Redactor(Policy.default())

    def redact(payload: bytes) -> object:
        return redactor.redact("traces", payload)

    def parse(payload: bytes) -> object:
        return ExportTraceServiceRequest.FromString(payload).SerializeToString()

    def batches(dropped: float, masked: float, suffix: Suffix = alike) -> Iterator[bytes]:
        while True:
            yield batch(chance, dropped, masked, suffix)

    return {
        "all allowed": (batches(0, 0), redact),
        "20 % dropped, 10 % masked": (batches(DROPPED, MASKED), redact),
        "the same, new numbers": (batches(DROPPED, MASKED, numbered), redact),
        "the same, new letters": (batches(DROPPED, MASKED, lettered), redact),
        "protobuf parses and writes": (batches(0, 0), parse),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="batches a workload, after two to warm up")
    rounds = parser.parse_args().rounds
    work = workloads()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 2):
        for name, (batches, handle) in work.items():
            payload = next(batches)
            began = time.process_time()
            handle(payload)
            if turn >= 2:
                seconds[name].append(time.process_time() - began)
    print(f"{SPANS} spans a batch, 12 attributes and an event each; {rounds} interleaved rounds; CPU us/span")
    print(f"{'':28}{'median':>8}{'p10':>8}{'p90':>8}")
    for name, taken in seconds.items():
        each = [second / SPANS * 1e6 for second in taken]
        low, *_, high = statistics.quantiles(each, n=10)
        print(f"{name:28}{statistics.median(each):8.1f}{low:8.1f}{high:8.1f}")


if __name__ == "__main__":
    main()
