"""Every name that the sidecar itself puts out: its own metrics, alert names, alert labels and annotations.

Prometheus names, for the sidecar's own facts are scraped from the admin listener's `/metrics`. The table is the only
source: code, documents, dashboards and rules are checked against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

SIGNALS: Final = ("traces", "metrics", "logs")
Signal = Literal["traces", "metrics", "logs"]

#: The embedded store, where destinations are told apart by name.
STORE: Final = "store"

#: The redaction policies that are shipped, the one that counts when nobody names another first.
POLICIES: Final = ("default", "strict", "genai")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the sidecar: Prometheus name (counters without `_total`), kind, meaning, label names."""

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    labels: tuple[str, ...] = ()

    def family(self) -> CounterMetricFamily | GaugeMetricFamily:
        """What a collector fills at a scrape, empty."""
        # A redaction worker needs the names, and not what brings an HTTP server and TLS along.
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        return kind(self.name, self.description, labels=self.labels)


# A record is a span, a metric data point or a log record. For every signal and destination, at every moment:
# received + recovered = forwarded + rejected + dropped + queued. What was rejected or dropped without a destination, on
# the way in, belongs to the equation of each.
RECEIVED: Final = Metric("tenantscope_records_received", "counter", "records that arrived", ("signal",))
RECOVERED: Final = Metric(
    "tenantscope_records_recovered", "counter", "records that an earlier process had left in the queue",
    ("signal", "destination"),
)  # fmt: skip
FORWARDED: Final = Metric(
    "tenantscope_records_forwarded", "counter", "records handed to an upstream or the embedded store",
    ("signal", "destination"),
)  # fmt: skip
REJECTED: Final = Metric(
    "tenantscope_records_rejected", "counter",
    "records refused to the sender, without a destination, or refused by a destination for good",
    ("signal", "reason", "destination"),
)  # fmt: skip
DROPPED: Final = Metric(
    "tenantscope_records_dropped", "counter",
    "records that redaction, without a destination, or delivery to a destination gave up",
    ("signal", "reason", "destination"),
)  # fmt: skip
QUEUED: Final = Metric(
    "tenantscope_records_queued", "gauge", "records accepted and not yet forwarded", ("signal", "destination")
)
REQUESTS: Final = Metric(
    "tenantscope_requests", "counter", "OTLP requests, by the status that the sender got", ("signal", "status")
)
REQUESTS_REFUSED: Final = Metric(
    "tenantscope_requests_refused", "counter", "OTLP requests of which nothing was taken, by the reason",
    ("signal", "reason"),
)  # fmt: skip
QUOTA_REFUSED: Final = Metric(
    "tenantscope_quota_refused", "counter",
    "records of a tenant dropped because it was over its quota; the 100 tenants with the most", ("tenant_id",),
)  # fmt: skip
REDACTIONS: Final = Metric(
    "tenantscope_redactions", "counter", "values that the policy did not let out as they stood, by what it did and why",
    ("signal", "action", "reason"),
)  # fmt: skip
QUEUE_LOST: Final = Metric(
    "tenantscope_queue_lost_bytes", "counter",
    "bytes of the queue on disk that were not what was written: torn by a crash, or corrupt", ("reason",),
)  # fmt: skip
DEAD_LETTERS: Final = Metric(
    "tenantscope_dead_letters", "counter",
    "rejected records that are kept in the state folder's `dead-letters`, within its bound",
    ("signal", "destination"),
)  # fmt: skip
FORWARD_RETRIES: Final = Metric(
    "tenantscope_forward_retries", "counter", "attempts that a destination put off", ("destination",)
)
WORKERS: Final = Metric("tenantscope_workers", "gauge", "worker processes that redact; none are wanted by default")
WORKERS_REPLACED: Final = Metric(
    "tenantscope_workers_replaced", "counter", "worker processes that failed on a request and were replaced, by how",
    ("reason",),
)  # fmt: skip
PART_SILENT: Final = Metric(
    "tenantscope_part_silent_seconds",
    "gauge",
    "time since a part of the sidecar with work to do was heard of",
    ("part",),
)
LOOPS: Final = Metric("tenantscope_loops", "gauge", "event loops under watch")
STALLS: Final = Metric("tenantscope_stalls", "counter", "stalls, by the tenant who held the loop", ("tenant_id",))
STALL_SECONDS: Final = Metric(
    "tenantscope_stall_seconds", "counter", "time that loops were stalled, by the tenant who held them", ("tenant_id",)
)
STALL_ACTIVE: Final = Metric(
    "tenantscope_stall_active", "gauge", "1 while the tenant holds a loop beyond the threshold",
    ("tenant_id", "service_name", "instance"),
)  # fmt: skip
ALERTS: Final = Metric("tenantscope_alerts", "counter", "changes of verdict", ("alertname", "status"))
ALERTS_WITHHELD: Final = Metric(
    "tenantscope_alerts_withheld", "counter", "times that a tenant was not named in an alert, because 100 others were",
    ("alertname",),
)  # fmt: skip
CELLS_REFUSED: Final = Metric(
    "tenantscope_cells_refused", "counter", "cells that could not be trusted or read", ("reason",)
)
STREAMS_REFUSED: Final = Metric(
    "tenantscope_streams_refused", "counter", "streams to the watchdog that had no room, or announced nothing in time",
    ("reason",),
)  # fmt: skip
HEARTBEATS_REFUSED: Final = Metric(
    "tenantscope_heartbeats_refused", "counter", "heartbeats with facts that were not to be believed", ("reason",)
)
# Each receiver of alerts has its own account: taken = told + dropped + waiting. Told in sum is told.
CHANGES_TAKEN: Final = Metric(
    "tenantscope_alert_changes_taken", "counter", "changes of verdict to be told to a receiver, those from before a "
    "restart included", ("sink",),
)  # fmt: skip
CHANGES_TOLD: Final = Metric(
    "tenantscope_alert_changes_told", "counter", "changes of verdict that a receiver was told", ("sink",)
)
CHANGES_DROPPED: Final = Metric(
    "tenantscope_alert_changes_dropped", "counter", "changes of verdict that a receiver refused for good, or that "
    "found no room", ("sink", "reason"),
)  # fmt: skip
CHANGES_WAITING: Final = Metric(
    "tenantscope_alert_changes_waiting", "gauge", "changes of verdict that a receiver is still to be told", ("sink",)
)
RECEIVER_FAILURES: Final = Metric(
    "tenantscope_alert_failures", "counter", "attempts to tell a receiver that failed", ("sink", "reason")
)
POLICY_RECORDS: Final = Metric(
    "tenantscope_policy_records", "counter", "records received, by the digest of the one policy that redacted them",
    ("signal", "digest"),
)  # fmt: skip
POLICY_RELOADS: Final = Metric(
    "tenantscope_policy_reloads", "counter", "times that the policy and the keys were read again, by what came of it",
    ("outcome",),
)  # fmt: skip
POLICY_STALE: Final = Metric(
    "tenantscope_policy_stale", "gauge", "1 while the policy in force is the last good one, for the file is wrong"
)
TRIAL_RECORDS: Final = Metric(
    "tenantscope_trial_records", "counter", "records that the policy on trial would have kept or dropped",
    ("signal", "outcome"),
)  # fmt: skip
TRIAL_REDACTIONS: Final = Metric(
    "tenantscope_trial_redactions", "counter", "values that the policy on trial would have changed, by reason",
    ("signal", "action", "reason"),
)  # fmt: skip
SINK_FAILURES: Final = Metric(
    "tenantscope_alert_sink_failures", "counter", "changes of verdict that a sink failed on; the others were told",
    ("sink",),
)  # fmt: skip
POLICY_INFO: Final = Metric(
    "tenantscope_policy_info", "gauge", "1, with the digest of the redaction policy in force", ("digest",)
)

METRICS: Final[tuple[Metric, ...]] = (
    POLICY_INFO, POLICY_RECORDS, POLICY_RELOADS, POLICY_STALE, TRIAL_RECORDS, TRIAL_REDACTIONS,
    RECEIVED, RECOVERED, FORWARDED, REJECTED, DEAD_LETTERS, DROPPED, QUEUED, QUEUE_LOST, REQUESTS, REQUESTS_REFUSED,
    QUOTA_REFUSED,
    REDACTIONS,
    FORWARD_RETRIES, WORKERS, WORKERS_REPLACED,
    PART_SILENT, LOOPS, STALLS, STALL_SECONDS, STALL_ACTIVE, ALERTS, ALERTS_WITHHELD, CELLS_REFUSED, STREAMS_REFUSED,
    HEARTBEATS_REFUSED,
    CHANGES_TAKEN, CHANGES_TOLD, CHANGES_DROPPED, CHANGES_WAITING, RECEIVER_FAILURES, SINK_FAILURES,
)  # fmt: skip

# Alerts -------------------------------------------------------------------------------------------------------------
EVENT_LOOP_STALLED: Final = "EventLoopStalled"  # one slice is overdue; the tenant is the culprit
EVENT_LOOP_SATURATED: Final = "EventLoopSaturated"  # too many slices; the tenant has the largest share
EVENT_LOOP_STARVED: Final = "EventLoopStarved"  # the host has too little CPU for it; nobody's tenant is to blame
EVENT_LOOP_STOPPED: Final = "EventLoopStopped"  # the process is held: a signal, a debugger
EVENT_LOOP_DEAD: Final = "EventLoopDead"  # the process is gone without taking its leave
EVENT_LOOP_SILENT: Final = "EventLoopSilent"  # the process lives, and nothing is heard of its loop
#: Verdicts of the watchdog.
LOOP_ALERTS: Final = (
    EVENT_LOOP_STALLED, EVENT_LOOP_SATURATED, EVENT_LOOP_STARVED, EVENT_LOOP_STOPPED, EVENT_LOOP_DEAD,
    EVENT_LOOP_SILENT,
)  # fmt: skip
TURN_BUDGET_EXCEEDED: Final = "TurnBudgetExceeded"  # turns of the tenant take longer than they may
TENANT_LOOP_DELAY_HIGH: Final = "TenantLoopDelayHigh"  # the tenant waits longer than its tier should
TENANT_ALERTS: Final = (TURN_BUDGET_EXCEEDED, TENANT_LOOP_DELAY_HIGH)
REDACTION_POLICY_REFUSED: Final = "RedactionPolicyRefused"  # the file is wrong, the last good policy stays in force
ALERT_NAMES: Final = (*LOOP_ALERTS, *TENANT_ALERTS, REDACTION_POLICY_REFUSED)
ALERT_LABELS: Final = ("alertname", "tenant_id", "service_name", "instance", "severity")
ALERT_ANNOTATIONS: Final = ("summary", "duration_ms", "stack", "victims", "runbook_url", "suppressed_changes")
CRITICAL_ALERTS: Final[frozenset[str]] = frozenset({EVENT_LOOP_DEAD})
INFO_ALERTS: Final[frozenset[str]] = frozenset({EVENT_LOOP_STOPPED})


# The same as telemetry: one log record a change of verdict.
ALERT_EVENT: Final = "tenantscope.alert"
TENANT_ID: Final = "tenant.id"
ALERT_NAME: Final = "tenantscope.alert.name"
ALERT_STATUS: Final = "tenantscope.alert.status"
ALERT_SERVICE: Final = "tenantscope.alert.service"
ALERT_INSTANCE: Final = "tenantscope.alert.instance"
ALERT_DURATION: Final = "tenantscope.alert.duration"
ALERT_STACK: Final = "tenantscope.alert.stack"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of such a record: its name, its OTLP type, what it says."""

    name: str
    type: Literal["string", "double"]
    description: str


#: Besides `tenant.id`, whom the alert names. The resource is the sidecar's own.
ALERT_ATTRIBUTES: Final = (
    Attribute(ALERT_NAME, "string", "name of the alert"),
    Attribute(ALERT_STATUS, "string", "`firing` when the verdict came to hold, `resolved` when it ceased to"),
    Attribute(ALERT_SERVICE, "string", "`service.name` of the application that it is about"),
    Attribute(ALERT_INSTANCE, "string", "`service.instance.id` of that application"),
    Attribute(ALERT_DURATION, "double", "seconds for which it has held, or did"),
    Attribute(
        ALERT_STACK, "string", "where the loop was held: `file:line function`, a line a frame, the innermost first"
    ),
)

#: OTLP's severity number and text, by `severity`.
SEVERITIES: Final = {"critical": (18, "CRITICAL"), "warning": (13, "WARN"), "info": (9, "INFO")}


def severity(alertname: str) -> str:
    """The label `severity` of an alert: `critical`: does not end by itself; `info`: is nobody's fault."""
    if alertname in CRITICAL_ALERTS:
        return "critical"
    return "info" if alertname in INFO_ALERTS else "warning"
