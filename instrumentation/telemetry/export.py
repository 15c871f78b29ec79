"""The way out: a bounded queue and one background thread that exports spans and metrics over OTLP/gRPC.

The exporters are OpenTelemetry's; the SDK's batch processor in front of them is not used, because an exception in a
processor reaches the application, its flush and shutdown take as long as the peer likes (21 s were measured against a
closed port), and one span that cannot be encoded takes its whole batch with it. Here `emit` appends to a deque and
returns; everything else happens in the thread, which makes the channel itself when there is something to send, so that
nothing of gRPC exists in a process that forks at its start.

Nothing is lost uncounted: `export.queue_full`, `export.failed`, `export.unencodable`, `export.stopped`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from opentelemetry import context as otel
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace.export import SpanExportResult

from instrumentation.diagnostics import count, fault, log
from instrumentation.settings import Settings
from instrumentation.telemetry.event_file import EventFile
from instrumentation.telemetry.spans import ActivitySpan

# What the OTLP exporter logs about a peer that does not answer is ours to say, in our own log.
_EXPORTER_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.grpc.metric_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "opentelemetry.exporter.otlp.proto.common._internal",
    "opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder",
    "opentelemetry.exporter.otlp.proto.common._internal.trace_encoder",
)


class SpanSink(Protocol):
    """Takes ended spans to where they go; called in the export thread only, and may raise."""

    def export(self, spans: list[ActivitySpan], /) -> SpanExportResult:
        """Deliver them, or say that it failed."""

    def shutdown(self) -> None:
        """Let go of the peer; an `export` that waits returns soon after. Called from another thread."""


class Exporter:
    """Queue and thread. The thread starts with the first span, or with `start`.

    Args:
        settings: sizes and intervals.
        make_exporters: called in the thread, once.
        collect: the metrics of this moment, or None; called in the thread.
        event_file: gets every span too, whatever becomes of the export.
    """

    def __init__(
        self,
        settings: Settings,
        make_exporters: Callable[[], tuple[SpanSink, MetricExporter]],
        collect: Callable[[], MetricsData | None],
        event_file: EventFile | None = None,
    ) -> None:
        self._settings = settings
        self._make_exporters = make_exporters
        self._collect = collect
        self._event_file = event_file
        self._queue: deque[ActivitySpan] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._asked = self._answered = 0
        self._exporters: tuple[SpanSink, MetricExporter] | None = None
        self._failing = False
        #: the metrics of the last time have arrived
        self.metrics_delivered = False

    # In the application's threads -----------------------------------------------------------------------------------
    def emit(self, span: ActivitySpan) -> None:
        """Queue a span, or drop and count it. Never blocks, never raises."""
        try:
            if len(self._queue) >= self._settings.span_queue:
                count("export.queue_full")
            elif self._stopping:
                count("export.stopped")
            else:
                self._queue.append(span)
                if self._thread is None:
                    self.start()
                elif len(self._queue) % self._settings.span_batch == 0:
                    with self._changed:  # a batch is full: not to be left lying until the interval is over
                        self._changed.notify_all()
        except BaseException as error:
            fault("export.queue", error)

    def start(self) -> None:
        """Start the thread, unless it runs.

        Raises:
            RuntimeError: it could not be started; the next span tries again.
        """
        with self._changed:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._run, name="tenantscope-export", daemon=True)
                thread.start()  # fails where there are no more threads, or at the end of the interpreter
                self._thread = thread

    def flush(self, timeout: float) -> bool:
        """Export what is queued, and the metrics of this moment. False when that took longer than `timeout` seconds."""
        with self._changed:
            if self._thread is None:
                return not self._queue
            if self._thread is threading.current_thread():  # a logging handler, say, called by gRPC
                return False
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._answered >= mine, timeout)

    def stop(self, timeout: float) -> bool:
        """Flush and end the thread within `timeout` seconds; what is then left is dropped and counted."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._stopping = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            # The last tenth is for the exporters to let go of a peer that does not answer.
            thread.join(timeout * 0.9)
            if thread.is_alive():
                self._shut_down_exporters()
                thread.join(max(0.0, deadline - time.monotonic()))
        left = len(self._queue)
        if left:
            self._queue.clear()
            count("export.stopped", left)
        return left == 0

    # In the thread --------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        ident = threading.get_ident()

        def not_from_here(record: logging.LogRecord) -> bool:
            return record.thread != ident

        loggers = [logging.getLogger(name) for name in _EXPORTER_LOGGERS]
        for logger in loggers:
            logger.addFilter(not_from_here)
        try:
            # The application may trace its gRPC calls; these are not its own.
            otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # noqa: SLF001
            self._work()
        except BaseException as error:
            fault("export", error)
        finally:
            self._shut_down_exporters()
            if self._event_file is not None:
                self._event_file.close()
            for logger in loggers:
                logger.removeFilter(not_from_here)
            with self._changed:
                self._answered = self._asked
                self._changed.notify_all()

    def _work(self) -> None:
        metrics_due = time.monotonic() + self._settings.metric_interval
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._stopping or self._asked > self._answered or len(self._queue) >= self._settings.span_batch
                    ),
                    self._settings.span_interval,
                )
                stopping, asked = self._stopping, self._asked
            told = stopping or asked > self._answered
            self._export_spans()
            if told or time.monotonic() >= metrics_due:
                self._export_metrics()
                metrics_due = time.monotonic() + self._settings.metric_interval
            with self._changed:
                self._answered = asked
                self._changed.notify_all()
            if stopping and not self._queue:
                return

    def _export_spans(self) -> None:
        for _ in range(1 + len(self._queue) // self._settings.span_batch):
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._settings.span_batch))]
            if not batch:
                return
            if self._event_file is not None:
                self._event_file.write(batch)
            try:
                self._send_spans(batch)
            except Exception:
                # One span that cannot be encoded: find it, drop it alone.
                for span in batch:
                    try:
                        self._send_spans([span])
                    except Exception as error:
                        count("export.unencodable")
                        fault("export.encode", error)

    def _send_spans(self, batch: list[ActivitySpan]) -> None:
        result = self._connected()[0].export(batch)
        self._note(result is SpanExportResult.SUCCESS, len(batch))

    def _export_metrics(self) -> None:
        try:
            data = self._collect()
            if data is not None:
                self.metrics_delivered = False
                self.metrics_delivered = self._connected()[1].export(data) is MetricExportResult.SUCCESS
                self._note(self.metrics_delivered, 0)
        except Exception as error:
            fault("export.metrics", error)

    def _note(self, delivered: bool, spans: int) -> None:
        if not delivered:
            count("export.failed", spans or 1)
        if delivered is self._failing:  # a change of state, once
            self._failing = not delivered
            if delivered:
                log.info("the sidecar answers again", endpoint=self._settings.endpoint)
            else:
                log.warning(
                    "no sidecar answers: telemetry is dropped, the application runs the same",
                    endpoint=self._settings.endpoint,
                    start_one_with="tenantscope sidecar",
                )

    def _connected(self) -> tuple[SpanSink, MetricExporter]:
        if self._exporters is None:
            self._exporters = self._make_exporters()
        return self._exporters

    def _shut_down_exporters(self) -> None:
        exporters, self._exporters = self._exporters, None
        for exporter in exporters or ():
            try:
                exporter.shutdown()
            except Exception as error:
                fault("export.shutdown", error)
