"""Alerts: a change of verdict with its evidence, told to every sink once.

What it refuses: to let one sink's failure keep an alert from the others, to tell the same change twice, and content:
an alert carries tenants, places in code and numbers.
"""

from .alert import Alert, printable
from .alerts import Alerts, Sink
from .sinks import LogSink, MetricsSink

__all__ = ["Alert", "Alerts", "LogSink", "MetricsSink", "Sink", "printable"]
