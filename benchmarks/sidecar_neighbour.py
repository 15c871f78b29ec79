"""What a tenant that sends ten times as much does to one that is well-behaved: the time to its acknowledgements.

Alone and beside the other one in turns of a few seconds, so that whatever else the machine does is in both turns of a
pair: the middle one of the pairs is held to the target. Each sends from a process of its own: what they wait for is the
sidecar, not each other's interpreter.
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from benchmarks.sidecar_process import send, sidecar, upstream
from benchmarks.sidecar_stages import line
from benchmarks.spans import stated
from sidecar.senders.clients import new_token

SPANS: Final = 50  # in a request
BATCHES: Final = 64  # different requests of each
RATE: Final = 500.0  # spans a second of the well-behaved one
TIMES: Final = 10
TURNS: Final = 8
LOUD_SENDERS: Final = 8


def neighbour(folder: Path, seconds: float) -> None:
    """Print both, and by how much they differ.

    Args:
        seconds: of each turn; there are eight alone and eight beside.
    """
    chance = random.Random(3)
    tokens = {tenant: new_token() for tenant in ("calm", "loud")}
    clients = folder / "clients.yaml"
    clients.write_text(
        "clients:\n"
        + "".join(
            f'  {tenant}: {{tokens: ["{digest}"], tenants: [{tenant}]}}\n' for tenant, (_, digest) in tokens.items()
        )
    )
    payloads = {tenant: [stated(chance, SPANS, tenant) for _ in range(BATCHES)] for tenant in tokens}
    options = ("--clients-file", str(clients))
    with (
        upstream() as destination,
        sidecar(folder / "state", "--upstream", f"http://{destination}", *options) as running,
    ):
        ours, theirs = multiprocessing.Pipe()
        loud = multiprocessing.get_context("spawn").Process(
            target=_loud, args=(theirs, running.target, payloads["loud"], seconds + 1, tokens["loud"][0]), daemon=True
        )
        loud.start()
        ours.recv()

        def calm() -> list[float]:
            return send(
                running.target, payloads["calm"], SPANS, seconds=seconds, senders=2, rate=RATE, token=tokens["calm"][0]
            ).waits

        calm()
        alone, beside, taken = [], [], 0
        for _ in range(TURNS):
            alone.append(calm())
            ours.send("go")
            beside.append(calm())
            taken += ours.recv()
        loud.kill()
        _told(alone, beside, taken / TURNS / (seconds + 1))


def _told(alone: list[list[float]], beside: list[list[float]], loud: float) -> None:
    before, now = (_p99([wait for waits in turns for wait in waits]) for turns in (alone, beside))
    pairs = sorted(_p99(with_it) / _p99(without) for with_it, without in zip(beside, alone, strict=True))
    line("a well-behaved tenant's p99, alone", f"{before:.1f} ms", f"{RATE:,.0f} spans/s in requests of {SPANS}")
    line("the same while another sends ten times as much", f"{now:.1f} ms", f"{now / before:.1f} times")
    line(
        "by pairs of turns",
        f"{statistics.median(pairs):.1f} times",
        f"at most 2; {pairs[1]:.1f} to {pairs[-2]:.1f} without the ends",
    )
    line("the other one got through", f"{loud:,.0f} spans/s", f"of {RATE * TIMES:,.0f}")


def _p99(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100, method="inclusive")[98] * 1e3


def _loud(commands: Connection, target: str, payloads: list[bytes], seconds: float, token: str) -> None:
    commands.send("ready")
    while commands.recv():
        sent = send(
            target, payloads, SPANS, seconds=seconds, senders=LOUD_SENDERS, rate=RATE * TIMES, token=token
        )  # fmt: skip
        commands.send(sent.spans)
