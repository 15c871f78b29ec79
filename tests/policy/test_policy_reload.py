"""Another policy takes its place while requests go on: whole or not at all, each record under exactly one."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.alerts import Alert
from sidecar.configuration.settings import Settings
from sidecar.policy.counts import MAX_COUNTED
from sidecar.policy.in_force import PolicyInForce
from sidecar.policy.keyring import NAME, rotate
from sidecar.policy.version import load_policies
from sidecar.redaction import Policy

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECRET = "bob@example.com"
RULES = """\
version: 1
attributes:
  a.left: {%s}
  a.right: {%s}
events: {}
resource: {}
fields: {}
"""
NAMED, OFF = "type: string, shape: identifier, max_length: 64", "action: drop"
LEFT, RIGHT, NONE = RULES % (NAMED, OFF), RULES % (OFF, NAMED), RULES % (OFF, OFF)


class Desk:
    """A policy file, the policy in force, and the alerts that were heard."""

    def __init__(self, folder: Path, trial: str | None = None) -> None:
        self.file = folder / "policy.yaml"
        self.file.write_text(LEFT)
        environment = {"TENANTSCOPE_POLICY": str(self.file), "TENANTSCOPE_STATE_DIR": str(folder)}
        if trial is not None:
            environment["TENANTSCOPE_TRIAL_POLICY"] = trial
        self.folder = folder
        self.alerts: list[Alert] = []
        settings = Settings.from_environment({**environment, "TENANTSCOPE_RUNBOOK_URL": "https://runbooks.example"})
        self.policy = PolicyInForce(settings, load_policies(settings), self.alerts.append, wall=lambda: MOMENT)

    def write(self, content: str) -> None:
        """As an editor does: the old file until the new one is whole."""
        draft = self.file.with_suffix(".new")
        draft.write_text(content)
        draft.replace(self.file)

    def metric(self, name: str, **labels: str) -> float:
        found = [
            sample.value
            for family in self.policy.collect()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        return sum(found)

    def keys_left(self, count: int = 1) -> list[list[str]]:
        """The keys of each span that leaves."""
        redacted = self.policy.redact("traces", request(count))
        return keys_in(redacted.payload)


def request(count: int = 1) -> bytes:
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    for _ in range(count):
        span = scope.spans.add()
        span.attributes.add(key="a.left").value.string_value = "x"
        span.attributes.add(key="a.right").value.string_value = "x"
        span.attributes.add(key="a.else").value.string_value = SECRET
    return made.SerializeToString()


def keys_in(payload: bytes) -> list[list[str]]:
    found = ExportTraceServiceRequest.FromString(payload)
    spans = [span for resource in found.resource_spans for scope in resource.scope_spans for span in scope.spans]
    return [[attribute.key for attribute in span.attributes] for span in spans]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_reload_puts_the_new_policy_in_force(desk: Desk) -> None:
    """From then on; without a change nothing happens, and both are counted."""
    assert desk.keys_left() == [["a.left"]]
    assert desk.policy.reload() == "unchanged"
    desk.write(RIGHT)
    assert desk.policy.reload() == "applied"
    assert desk.keys_left() == [["a.right"]]
    digest = Policy.parse(RIGHT.encode()).digest
    assert desk.policy.status()["digest"] == digest
    assert desk.metric("tenantscope_policy_info", digest=digest) == 1
    assert desk.metric("tenantscope_policy_reloads_total", outcome="applied") == 1
    assert desk.metric("tenantscope_policy_reloads_total", outcome="unchanged") == 1
    assert desk.alerts == []


def test_a_file_that_changed_is_read_when_it_has_settled(desk: Desk) -> None:
    """Not on the look that sees the change: somebody may be writing still."""
    desk.policy.look()
    desk.write(RIGHT)
    desk.policy.look()
    assert desk.keys_left() == [["a.left"]]
    desk.policy.look()
    assert desk.keys_left() == [["a.right"]]
    desk.policy.look()
    assert desk.metric("tenantscope_policy_reloads_total", outcome="applied") == 1
    assert desk.metric("tenantscope_policy_reloads_total", outcome="unchanged") == 0


def invalid(desk: Desk) -> None:
    desk.write(RIGHT.replace("max_length: 64", "max_lenght: 64"))


def half(desk: Desk) -> None:
    desk.write(RIGHT[: len(RIGHT) // 2])


def empty(desk: Desk) -> None:
    desk.write("")


def gone(desk: Desk) -> None:
    desk.file.unlink()


def folder(desk: Desk) -> None:
    desk.file.unlink()
    desk.file.mkdir()


def garbage(desk: Desk) -> None:
    desk.file.write_bytes(os.urandom(2000))


def bomb(desk: Desk) -> None:
    desk.write("a: &a [x,x]\nb: &b [*a,*a]\n")


def keys_damaged(desk: Desk) -> None:
    (desk.folder / NAME).write_text("k1 short\n")


def keys_gone(desk: Desk) -> None:
    (desk.folder / NAME).unlink()


@pytest.mark.parametrize(
    "spoil",
    [invalid, half, empty, gone, folder, garbage, bomb, keys_damaged, keys_gone],
    ids=lambda spoil: spoil.__name__,
)
def test_what_cannot_be_used_changes_nothing_and_is_alerted(desk: Desk, spoil: Callable[[Desk], None]) -> None:
    """The last good policy stays in force; the alert is told once, and resolved by the next good file."""
    keys = (desk.folder / NAME).read_bytes()
    spoil(desk)
    for _ in range(3):
        assert desk.policy.reload() == "refused"
    assert desk.keys_left() == [["a.left"]]
    assert desk.policy.stale
    assert desk.metric("tenantscope_policy_stale") == 1
    (alert,) = desk.alerts
    assert (alert.name, alert.status, alert.starts_at) == ("RedactionPolicyRefused", "firing", MOMENT)
    assert alert.annotations["runbook_url"] == "https://runbooks.example/RedactionPolicyRefused.md"

    if desk.file.is_dir():
        desk.file.rmdir()
    (desk.folder / NAME).write_bytes(keys)
    (desk.folder / NAME).chmod(0o600)
    desk.write(RIGHT)
    assert desk.policy.reload() == "applied"
    assert desk.keys_left() == [["a.right"]]
    assert desk.metric("tenantscope_policy_stale") == 0
    assert [alert.status for alert in desk.alerts] == ["firing", "resolved"]
    assert desk.alerts[0].fingerprint == desk.alerts[1].fingerprint


def test_the_good_file_that_comes_back_resolves(desk: Desk) -> None:
    """Though nothing else changed by it."""
    invalid(desk)
    desk.policy.reload()
    desk.write(LEFT)
    assert desk.policy.reload() == "unchanged"
    assert [alert.status for alert in desk.alerts] == ["firing", "resolved"]


def test_each_record_is_redacted_by_one_policy_under_a_thousand_reloads(desk: Desk) -> None:
    """Two threads redact while the policy changes a thousand times: no span is between two, and none is uncounted."""
    done = threading.Event()
    sent: list[int] = []

    def export() -> set[tuple[str, ...]]:
        seen = set()
        spans = 0
        while not done.is_set():
            payload = desk.policy.redact("traces", request(8)).payload
            spans += 8
            seen.add(tuple(sorted({"+".join(keys) for keys in keys_in(payload)})))
            assert SECRET.encode() not in payload
        sent.append(spans)
        return seen

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(export) for _ in range(2)]
        outcomes = []
        for content in itertools.islice(itertools.cycle((RIGHT, LEFT, "broken: [", NONE)), 1000):
            desk.write(content)
            outcomes.append(desk.policy.reload())
        done.set()
        seen = set().union(*(future.result() for future in running))
    assert seen <= {("a.left",), ("a.right",), ("",)}
    assert (outcomes.count("applied"), outcomes.count("refused")) == (750, 250)
    digests = [Policy.parse(content.encode()).digest for content in (LEFT, RIGHT, NONE)]
    counted = [desk.metric("tenantscope_policy_records_total", signal="traces", digest=digest) for digest in digests]
    assert sum(counted) == sum(sent)


def test_versions_are_counted_one_by_one_up_to_a_bound(desk: Desk) -> None:
    """Whoever reloads all day does not fill the metrics."""
    for number in range(MAX_COUNTED + 5):
        desk.write(LEFT.replace("64", str(100 + number)))
        desk.policy.reload()
        desk.keys_left()
    assert desk.metric("tenantscope_policy_records_total", signal="traces", digest="other") == 5


def test_a_new_key_is_taken_like_a_new_policy(desk: Desk) -> None:
    """Rotation needs no restart: pseudonyms are made with it from the next request on."""
    desk.write(
        LEFT.replace("a.left: {type: string, shape: identifier, max_length: 64}", "tenant.id: {action: pseudonymise}")
    )
    desk.policy.reload()
    before = desk.policy.tenant("acme")
    rotate(desk.folder, "KEY")
    desk.policy.look()
    desk.policy.look()
    assert before.startswith("p-k1-")
    assert desk.policy.tenant("acme").startswith("p-k2-")
    assert desk.policy.status()["key"] == "k2"


def test_a_policy_on_trial_counts_and_changes_nothing(tmp_path: Path) -> None:
    """Everything that leaves is the work of the policy in force; what the other would do is in the metrics."""
    trial = tmp_path / "trial.yaml"
    trial.write_text(NONE)
    desk, alone = Desk(tmp_path, str(trial)), Desk(tmp_path)
    redacted, expected = (each.policy.redact("traces", request(3)) for each in (desk, alone))
    assert redacted == expected
    assert desk.metric("tenantscope_trial_records_total", signal="traces", outcome="kept") == 3
    assert desk.metric("tenantscope_trial_redactions_total", signal="traces", action="drop", reason="policy") == 6
    assert desk.metric("tenantscope_trial_redactions_total", signal="traces", action="drop", reason="unlisted") == 3
    assert desk.policy.status()["trial"]["digest"] == Policy.parse(NONE.encode()).digest
    assert alone.metric("tenantscope_trial_records_total", signal="traces", outcome="kept") == 0


def test_a_trial_that_fails_costs_nobody_anything(tmp_path: Path) -> None:
    """Its faults are counted, and that is all."""

    class Failing:
        def redact(self, *_: object) -> None:
            raise ZeroDivisionError(SECRET)

    desk = Desk(tmp_path, "strict")
    object.__setattr__(desk.policy.version, "trial", Failing())
    assert desk.keys_left() == [["a.left"]]
    assert desk.metric("tenantscope_trial_records_total", signal="traces", outcome="malformed") == 1
