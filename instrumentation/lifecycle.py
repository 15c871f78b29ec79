"""`start` and `stop`: joins the rooms of the library, and takes them apart again.

Both are idempotent, may be called from any thread, and never raise for anything that happens at run time; only a wrong
setting is an error, because it is better found at the start of the application than in its telemetry.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import multiprocessing.util
import os
import platform
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExporter,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from . import budgets, channels, conventions, diagnostics, tenancy
from .activation import Activation
from .diagnostics import fault, log
from .hooks.census import Census
from .hooks.runtime import Resolver
from .hooks.waiting import Waiting
from .loop import Loops
from .settings import ConfigurationError, Settings
from .telemetry.accumulators import Accumulators, gauge_of, sum_of
from .telemetry.digests import Digests
from .telemetry.event_file import EventFile
from .telemetry.export import Exporter, SpanSink
from .telemetry.loop_metrics import loop_metrics
from .telemetry.otlp import otlp_exporters
from .telemetry.recorder import Recorder
from .telemetry.spans import SpanFactory
from .turnover import Turnover

_UNWATCHED: Final = "not watched: forked from a process that has used gRPC, which must not be used here any more"
_SCOPE: Final = InstrumentationScope(conventions.SCOPE)
MakeExporters = Callable[[Settings, Resource], tuple[SpanSink, MetricExporter]]


class Running:
    """Everything that `start` made, for one process."""

    def __init__(self, settings: Settings, resolver: Resolver | None, make_exporters: MakeExporters) -> None:
        self.settings = settings
        self._make_exporters = make_exporters
        self.waiting = Waiting()
        self._open_telemetry()
        self.recorder = Recorder(
            SpanFactory(dict(self.settings.sampling)),
            self.accumulators,
            self.exporter.emit,
            digests=Digests(self.settings.digest_key),
            latest_conventions=settings.latest_conventions,
        )
        self.activation = Activation(
            self.recorder,
            self.waiting,
            resolver,
            budgets.Tiers(settings.limits),
            self._overran,
            settings.peers,
            self._queued,
        )
        self.census = Census(self.waiting, self.activation.isolation, self.activation.awaited)

    def _open_telemetry(self) -> None:
        """Resource, accumulators, exporter, loops: all that belongs to one process."""
        self.resource = _resource(self.settings)
        self._open_figures()
        self.loops = Loops(
            cell_dir=self.settings.cell_dir,
            service_name=str(self.resource.attributes["service.name"]),
            instance=str(self.resource.attributes["service.instance.id"]),
            endpoint=self.settings.endpoint,
            read_stacks=self.settings.read_stacks,
            queued=self.waiting.on,
        )
        self.turnover = Turnover(tenancy.TABLE, self.loops, round(self.settings.tenant_idle * 1e9))

    def _open_figures(self) -> None:
        self.accumulators = Accumulators(is_shown=tenancy.TABLE.is_shown)
        event_log, most_bytes = self.settings.event_log, self.settings.event_log_bytes
        self.exporter = Exporter(
            self.settings,
            lambda: self._make_exporters(self.settings, self.resource),
            self.metrics,
            None if event_log is None else EventFile(event_log, most_bytes),
        )

    def _overran(self, loop: asyncio.AbstractEventLoop, slot: int, budget: str) -> None:
        self.loops.overran(loop, slot, budget)  # of this moment: a forked child has others

    def _queued(self, loop: asyncio.AbstractEventLoop, slot: int, wait_ns: int) -> None:
        self.loops.queued(loop, slot, wait_ns)

    def open(self) -> None:
        """Start every part; one that cannot start is left out, and `close` stops the others."""
        _each(
            ("start.activation", self.activation.attach),
            ("start.loops", self.loops.start),
            ("start.exporter", self.exporter.start),
        )

    def close(self, timeout: float) -> None:
        """Stop every part within `timeout` seconds, whatever becomes of the others."""
        deadline = time.monotonic() + timeout
        _each(
            ("stop.activation", self.activation.detach),
            # Before the loops: its last metrics still read them.
            ("stop.exporter", lambda: self.exporter.stop(timeout * 0.8)),
            ("stop.loops", lambda: self.loops.stop(max(0.05, deadline - time.monotonic()))),
        )

    def after_fork(self) -> None:
        """In the child of a process that has not sent anything yet: identity and counts begin anew."""
        self._open_telemetry()
        self.recorder.lead_to(self.accumulators, self.exporter.emit)
        self.activation.after_fork()
        self.loops.start()

    def leave_alone(self) -> None:
        """In a child that is not to be watched: nothing is recorded or told; tenants go with messages."""
        # Also what is still open: the parent's figures have a lock that a thread of his may have held.
        self._open_figures()
        self.recorder.lead_to(self.accumulators, lambda _: None)
        self.recorder.retired = True
        self.activation.after_fork()

    def metrics(self) -> MetricsData | None:
        """The metrics of this moment."""
        now, delivered = time.time_ns(), self.exporter.metrics_delivered
        began = self.accumulators.began_ns
        _each(("turnover.settle", lambda: self.turnover.settle(delivered)))
        if self.settings.peers is not None:
            _each(("peers.renew", self.settings.peers.renew))
        found: list[Metric] = self.accumulators.collect(now, delivered)
        try:
            totals = self.loops.totals()
            found += loop_metrics(totals, began, now)
            self.turnover.judge(totals)
        except Exception as error:
            fault("loop_metrics", error)
        for metric, figures in (
            (conventions.QUEUE_SIZE, self.census.queued()),
            (conventions.AWAITED, self.census.awaited()),
            (conventions.AGENTS, self.census.agents()),
        ):
            if figures:
                found.append(gauge_of(metric, now, figures.items()))
        faults = diagnostics.counts()
        if faults:
            series = (((reason,), float(amount)) for reason, amount in faults.items())
            found.append(sum_of(conventions.FAULTS, began, now, series))
        if not found:
            return None
        found.append(gauge_of(conventions.TENANTS_BEYOND, now, [((), tenancy.TABLE.beyond())]))
        found.append(sum_of(conventions.TENANTS_FREED, began, now, [((), self.turnover.freed)]))
        found.append(sum_of(conventions.TENANTS_DISPLACED, began, now, [((), self.turnover.displaced)]))
        return MetricsData([ResourceMetrics(self.resource, [ScopeMetrics(_SCOPE, found, "")], "")])


def _each(*steps: tuple[str, Callable[[], object]]) -> None:
    for name, step in steps:
        try:
            step()
        except Exception as error:
            fault(name, error)


_running: Running | None = None
_starting = False
# Held while parts are put on and taken off, so that two of these never interleave. A signal handler may call us while
# its own thread is at it: then it finds nothing to stop, and nothing more is started.
_lock = threading.RLock()
_inherited: list[object] = []  # a parent's: collected, they would close what is still his


def start(
    service_name: str | None = None,
    endpoint: str | None = None,
    *,
    resolver: Resolver | None = None,
    max_tenants: int | None = None,
    cell_dir: str | Path | None = None,
) -> None:
    """Watch this process: attach to AutoGen, account the event loops, export to the sidecar.

    Calling it again while it runs changes nothing. With `OTEL_SDK_DISABLED=true` it does nothing.

    Args:
        service_name: `service.name`; else `OTEL_SERVICE_NAME`.
        endpoint: where the sidecar listens, `http://host:port` or `unix:/path`; else `OTEL_EXPORTER_OTLP_ENDPOINT`.
        resolver: names the tenant of a message for which nobody bound one, from its `AgentId` or `TopicId`; returns
            None when it can't tell. For core applications whose agent keys are their tenants.
        max_tenants: tenants with figures of their own, 1 to 4094; the rest are `other`.
        cell_dir: folder of the shared-memory cells, absolute.

    Raises:
        ConfigurationError: a setting is wrong; one line for each mistake.
    """
    settings = Settings.read(service_name, endpoint, max_tenants, cell_dir)
    if resolver is not None and (not callable(resolver) or inspect.iscoroutinefunction(resolver)):
        raise ConfigurationError("resolver: must be a function, and not a coroutine function")
    if settings.disabled:
        return
    started = start_with(settings, resolver, otlp_exporters)
    if started is not None:
        log.info("watching", service=started.resource.attributes["service.name"], endpoint=settings.endpoint)
    elif channels.forbidden():
        log.info(_UNWATCHED)
    elif _running is not None:
        log.info("is watching already; this call of start() changes nothing")


def start_with(settings: Settings, resolver: Resolver | None, make_exporters: MakeExporters) -> Running | None:
    """`start` with everything decided, and without a word; for `testing`, which exports into memory.

    Returns what it started; None when something runs already, or could not be started.
    """
    global _running, _starting
    with _lock:
        if _running is not None or _starting or channels.forbidden():
            return None
        _starting = True
        try:
            tenancy.TABLE.resize(settings.max_tenants)
            diagnostics.set_log_context(_log_context)
            running = Running(settings, resolver, make_exporters)
            running.open()
            _running = running
        except Exception as error:
            fault("start", error)
            return None
        finally:
            _starting = False
        return running


def _log_context() -> dict[str, str]:
    tenant = tenancy.current_tenant()
    return {} if tenant is None else {conventions.TENANT_ID: tenant}


def stop(timeout: float = 2.0) -> None:
    """Export what is left, detach, and leave no trace in AutoGen or asyncio. Returns within about `timeout` seconds."""
    global _running
    with _lock:
        running, _running = _running, None
        if running is not None:
            running.close(_seconds(timeout))


def flush(timeout: float = 2.0) -> bool:
    """Export what is queued, and the metrics of this moment. False when that took longer than `timeout` seconds."""
    running = _running
    return True if running is None else running.exporter.flush(_seconds(timeout))


def _seconds(timeout: object) -> float:
    """A timeout that every lock understands: none at all for what is no number, an hour for ever."""
    return min(max(timeout, 0.0), 3600.0) if isinstance(timeout, int | float) and timeout == timeout else 0.0


def running() -> Running | None:
    """What runs in this process, or None."""
    return _running


def _after_fork_in_child() -> None:
    global _lock, _starting
    _starting = False
    _lock = threading.RLock()  # another thread of the parent may have held it, as with those of these
    diagnostics.after_fork()
    tenancy.TABLE.after_fork()
    channels.after_fork()
    if _running is None:
        return
    _inherited.append((_running, _running.exporter, _running.loops))
    try:
        if channels.forbidden():
            _running.leave_alone()
            diagnostics.count("fork.unwatched")
            log.info(_UNWATCHED)
        else:
            _running.after_fork()
    except Exception as error:
        fault("fork", error)


def _resource(settings: Settings) -> Resource:
    about: dict[str, str | int] = {
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
    }
    # `create` reads OTEL_RESOURCE_ATTRIBUTES: what the environment says of the application goes before our guesses, and
    # an argument of `start` before both.
    named = Resource({"service.name": settings.service_name} if settings.service_name_given else {})
    return Resource(about).merge(Resource.create({})).merge(named)


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(stop)


def _in_child_of_multiprocessing(_: object) -> None:
    # Such a child ends by `os._exit`, past `atexit`; this list it goes through. After the application's own entries.
    multiprocessing.util.Finalize(None, stop, exitpriority=-100)


multiprocessing.util.register_after_fork(_in_child_of_multiprocessing, _in_child_of_multiprocessing)
