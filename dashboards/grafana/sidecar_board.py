"""The dashboard *Sidecar*: what became of every record, what redaction did, and whether alerts get through.

For every signal and destination: received + left by an earlier process = forwarded + rejected + dropped + queued.
"""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards.prometheus_names import of_sidecar
from sidecar import conventions as names

from .board import Row, board, variables
from .panels import BYTES, COUNT, PER_SECOND, lines, now, query, steps, verdict
from .queries import CHOSEN, INSTANCE, increase, rate, series, threshold, total

SIGNAL, REASON, SINK = "{{signal}}", "{{signal}} {{reason}}", "{{sink}}"
DESTINATION, SIGNAL_THERE = "{{instance}} → {{destination}}", "{{signal}} → {{destination}}"
BACKLOG = threshold("SidecarQueueBacklog")


def first_look() -> list[Builder[Panel]]:
    """Does everything go through?"""
    return [
        verdict(
            "Received per second",
            "Spans, metric points and log records that came in, over all chosen sidecars.",
            PER_SECOND, now(rate(names.RECEIVED, where=CHOSEN)), (4, 4), steps(), "nothing",
        ),
        verdict(
            "Forwarded per second",
            "Records that the destinations took: upstreams, or the embedded store. Each counts what it took.",
            PER_SECOND, now(rate(names.FORWARDED, where=CHOSEN)), (4, 4), steps(), "nothing",
        ),
        verdict(
            "Waiting in the queue",
            "Records accepted and not yet forwarded. From red on, SidecarQueueBacklog asks how fast they go.",
            COUNT, now(total(series(names.QUEUED, CHOSEN))), (4, 4), steps(BACKLOG / 2, BACKLOG), "no sidecar",
        ),
        verdict(
            "Refused per second",
            "Records that a sender was told to send again, or that the upstream refused for good.",
            PER_SECOND, now(rate(names.REJECTED, where=CHOSEN)), (4, 4), steps(0.1, 1), "none",
        ),
        verdict(
            "Alerts that wait",
            "Changes of verdict that a receiver has not been told yet. For minutes: people don't hear of stalls.",
            COUNT, now(total(series(names.CHANGES_WAITING, CHOSEN))), (4, 4), steps(1, 5), "no receiver",
        ),
        verdict(
            "Policies in force",
            "How many different redaction policies the chosen sidecars run with; the digests are below.",
            COUNT, now(f"count(sum by (digest) ({series(names.POLICY_INFO, CHOSEN)}))"), (4, 4), steps(2), "no sidecar",
        ),
    ]  # fmt: skip


def way_of_telemetry() -> list[Builder[Panel]]:
    """Received = forwarded + rejected + dropped + queued."""
    return [
        lines(
            "Received, by signal",
            "Records that came in, per second. One request holds many.",
            PER_SECOND, [query(rate(names.RECEIVED, "signal", CHOSEN), SIGNAL)], (8, 8), stacked=True,
        ),
        lines(
            "Forwarded, by signal",
            "Records that were handed on, per second. Below what is received: dropped, refused, or still queued.",
            PER_SECOND, [query(rate(names.FORWARDED, "signal, destination", CHOSEN), SIGNAL_THERE)], (8, 8),
        ),
        lines(
            "Queue, by instance",
            "Records on disk that wait for a destination, by sidecar and destination. Survives a restart.",
            COUNT, [query(total(series(names.QUEUED, CHOSEN), "job, instance, destination"), DESTINATION)], (8, 8),
            red=BACKLOG,
        ),
        lines(
            "Dropped, by reason",
            "Records that redaction may not let pass, or that could not be kept, per second.",
            PER_SECOND, [query(rate(names.DROPPED, "signal, reason", CHOSEN), REASON)], (8, 8),
        ),
        lines(
            "Refused, by reason",
            "Records that a sender was told to send again (`queue_full`, `queue_disk`, `shutdown`), or that the "
            "upstream refused for good (`upstream_...`), per second.",
            PER_SECOND, [query(rate(names.REJECTED, "signal, reason", CHOSEN), REASON)], (8, 8),
        ),
        lines(
            "Refused for good, and kept",
            "Records in the folder `dead-letters`: what the upstream will never take, kept for you to look at.",
            PER_SECOND, [query(rate(names.DEAD_LETTERS, "signal", CHOSEN), SIGNAL)], (8, 8),
        ),
        lines(
            "Requests, by status",
            "OTLP requests per second, by the gRPC status that the sender got. Anything but `ok` and `unavailable` "
            "is not sent again.",
            PER_SECOND, [query(rate(names.REQUESTS, "signal, status", CHOSEN), "{{signal}} {{status}}")], (6, 8),
        ),
        lines(
            "Requests refused, by reason",
            "Requests per second of which nothing was taken: put off (`crowded`, `quota`, `queue_full`), or refused "
            "for good (`wire`, `limits`, `unknown_client`).",
            PER_SECOND, [query(rate(names.REQUESTS_REFUSED, "signal, reason", CHOSEN), REASON)], (6, 8),
        ),
        lines(
            "Upstream put off",
            "Attempts per second that a destination refused for now, or did not answer.",
            PER_SECOND, [query(rate(names.FORWARD_RETRIES, "job, instance, destination", CHOSEN), DESTINATION)], (4, 8),
        ),
        lines(
            "Left by an earlier process",
            "Records that a restarted sidecar found in its queue, in each interval, by destination.",
            COUNT, [query(increase(names.RECOVERED, "signal, destination", CHOSEN), SIGNAL_THERE)], (4, 8),
        ),
        lines(
            "Lost on disk",
            "Bytes of the queue that were not what was written: torn by a crash, or corrupt.",
            BYTES, [query(increase(names.QUEUE_LOST, "reason", CHOSEN), "{{reason}}")], (4, 8), red=1,
        ),
    ]  # fmt: skip


def redaction() -> list[Builder[Panel]]:
    """What the policy did."""
    return [
        lines(
            "Redaction, by reason",
            "Values per second that the policy dropped or masked. The reason `error` is a fault, and raises "
            "RedactionFailing.",
            PER_SECOND, [query(rate(names.REDACTIONS, "action, reason", CHOSEN), "{{action}} {{reason}}")], (8, 8),
        ),
        lines(
            "Policy",
            "Sidecars by the digest of their policy: one line when all agree, a crossing when one is rolled out.",
            COUNT, [query(total(series(names.POLICY_INFO, CHOSEN), "digest"), "{{digest}}")], (8, 8), stacked=True,
        ),
        lines(
            "Workers replaced, by reason",
            "Processes that redact and failed on a request, in each interval: ended, or without an answer in time. "
            "Raises WorkersReplaced.",
            COUNT, [query(increase(names.WORKERS_REPLACED, "reason", CHOSEN), "{{reason}}")], (8, 8), red=1,
        ),
    ]  # fmt: skip


def way_of_alerts() -> list[Builder[Panel]]:
    """From the watchdog to people."""
    return [
        lines(
            "Verdicts",
            "Changes of verdict in each interval, by alert and status.",
            COUNT, [query(increase(names.ALERTS, "alertname, status", CHOSEN), "{{alertname}} {{status}}")], (8, 8),
        ),
        lines(
            "Told to receivers",
            "Changes that receivers were told of and that are still to be told; in sum what they should know.",
            COUNT,
            [query(increase(names.CHANGES_TAKEN, "sink", CHOSEN), f"{SINK} to tell"),
             query(increase(names.CHANGES_TOLD, "sink", CHOSEN), f"{SINK} told"),
             query(total(series(names.CHANGES_WAITING, CHOSEN), "sink"), f"{SINK} waiting")],
            (8, 8),
        ),
        lines(
            "Receivers of alerts",
            "Attempts to tell a receiver that failed, per second, by reason.",
            PER_SECOND, [query(rate(names.RECEIVER_FAILURES, "sink, reason", CHOSEN), "{{sink}} {{reason}}")], (8, 8),
        ),
        lines(
            "Never told",
            "Changes that a receiver refused for good, or that found no room, in each interval.",
            COUNT, [query(increase(names.CHANGES_DROPPED, "sink, reason", CHOSEN), "{{sink}} {{reason}}")], (8, 8),
            red=1,
        ),
        lines(
            "Loops watched, by instance",
            "Event loops that each sidecar watches. A line that falls while its applications run is worth a look.",
            COUNT, [query(total(series(names.LOOPS, CHOSEN), "job, instance"), INSTANCE)], (8, 8),
        ),
        lines(
            "Cells and streams refused",
            "Loops that could not be watched, in each interval: a shared-memory page that is not to be trusted, a "
            "stream without room or manners.",
            COUNT,
            [query(increase(names.CELLS_REFUSED, "reason", CHOSEN), "cell {{reason}}"),
             query(increase(names.STREAMS_REFUSED, "reason", CHOSEN), "stream {{reason}}")],
            (8, 8),
        ),
    ]  # fmt: skip


def build() -> Dashboard:
    """The whole dashboard."""
    return board(
        "sidecar",
        "Sidecar",
        "Sidecars: what became of every record, what redaction did, and whether alerts get through.",
        variables(of_sidecar(names.LOOPS)[0], None),
        [
            Row("", first_look()),
            Row("Telemetry: received = forwarded + refused + dropped + queued", way_of_telemetry()),
            Row("Redaction", redaction()),
            Row("Alerts and the watchdog", way_of_alerts()),
        ],
    )
