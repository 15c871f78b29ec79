"""Alerts: a change of verdict with its evidence, told to every sink once, and to people over the network.

    watchdog -> Alerts -> log, metrics
                       -> records -> redaction, and on as telemetry
                       -> outbox | courier -> Alertmanager
                       -> outbox | courier -> webhook

What it refuses: to let one sink's failure keep an alert from the others, to let a receiver delay the watchdog, to tell
the same change twice, and content: an alert carries tenants, places in code and numbers.
"""

from .alert import Alert, printable
from .alerts import Alerts, Sink
from .receivers import Receivers
from .records import Records
from .signature import read_secret
from .sinks import LogSink, MetricsSink

__all__ = ["Alert", "Alerts", "LogSink", "MetricsSink", "Receivers", "Records", "Sink", "printable", "read_secret"]
