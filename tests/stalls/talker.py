"""A stream to the watchdog at a test's command, and how to wait for what comes of it."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

from instrumentation.loop.cell import Cell
from sidecar.watchdog import Watchdog
from sidecar.wire import CONNECTED
from sidecar.wire import watchdog_pb2 as wire

DEADLINE = 30.0
WATCH = "/tenantscope.watchdog.v1.Watchdog/Watch"


class Talker:
    """One stream, at the test's command."""

    def __init__(self, channel: grpc.Channel, service: str, token: str = "") -> None:
        self._service = service
        self.told: list[wire.Directive] = []
        self._reports: queue.SimpleQueue[wire.Report | None] = queue.SimpleQueue()
        watch = channel.stream_stream(
            WATCH,
            request_serializer=wire.Report.SerializeToString,
            response_deserializer=wire.Directive.FromString,
        )
        shown = (("authorization", f"Bearer {token}"),) if token else ()
        self.call: Any = watch(iter(self._reports.get, None), timeout=DEADLINE, metadata=shown)

    def connected(self) -> bool:
        """Whether the watchdog took the stream."""
        return CONNECTED in dict(self.call.initial_metadata() or ())

    def say(self, report: wire.Report) -> None:
        self._reports.put(report)

    def announce(self, cell: Cell, loop_id: int = 1) -> None:
        self._reports.put(
            wire.Report(
                announce=wire.Announce(
                    loop_id=loop_id,
                    service_name=self._service,
                    instance="i",
                    pid=os.getpid(),
                    host="h",
                    cell_path=str(cell.path),
                )
            )
        )

    def withdraw(self, loop_id: int = 1) -> None:
        self._reports.put(wire.Report(withdraw=wire.Withdraw(loop_id=loop_id)))

    def beat(self) -> None:
        self._reports.put(wire.Report(heartbeat=wire.Heartbeat(monotonic_ns=1)))

    def finish(self) -> list[wire.Directive]:
        """End it in good order; returns when the watchdog is through with all that was said, what it said itself."""
        self._reports.put(None)
        assert self.ended() is grpc.StatusCode.OK
        return self.told

    def ended(self) -> grpc.StatusCode:
        """Wait until the watchdog has ended it; with which status?"""
        with suppress(grpc.RpcError):
            self.told += self.call
        code: grpc.StatusCode = self.call.code()
        return code

    def close(self) -> None:
        self._reports.put(None)
        self.call.cancel()


def services(watchdog: Watchdog) -> list[str]:
    return [loop["service"] for loop in watchdog.loops()]


def wait_until(condition: Callable[[], object]) -> None:
    """Another thread has to come round to it; a deadline, no timing."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)
