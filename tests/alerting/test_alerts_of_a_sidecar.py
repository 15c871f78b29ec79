"""The whole way: an application blocks, people hear of it, the sidecar restarts, people hear of the end."""

from __future__ import annotations

import http.client
import queue
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alert_receiver import PATIENCE, Receiver, answer, firing, running_receiver
from prometheus_client.parser import text_string_to_metric_families
from sidecars import configured

from sidecar.alerts import Alert
from sidecar.alerts.signature import HEADER, sign
from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.service import Sidecar

APPLICATION = Path(__file__).parents[1] / "stalls" / "application.py"
SECRET = b"a secret of some length"


class Inbox:
    """A sink that hands each alert to whoever waits for it."""

    name = "inbox"

    def __init__(self, alerts: queue.Queue[Alert]) -> None:
        self.submit = alerts.put


@contextmanager
def running_sidecar(
    folder: Path, listen: str = "127.0.0.1:0", inbox: queue.Queue[Alert] | None = None, **more: str
) -> Iterator[Sidecar]:
    sidecar = Sidecar(configured(folder, LISTEN=listen, **more))
    if inbox is not None:
        sidecar._alerts._sinks += (Inbox(inbox),)
    sidecar.start()
    try:
        yield sidecar
    finally:
        sidecar.stop(PATIENCE)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_bytes(SECRET + b"\n")
    return file


def metrics(sidecar: Sidecar) -> dict[tuple[str, ...], float]:
    """What `/metrics` says of receivers: (series, sink, reason) to value."""
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin_address.port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    families = text_string_to_metric_families(connection.getresponse().read().decode())
    ours = [family for family in families if not family.name.startswith("tenantscope_alert_sink")]  # those of its own
    samples = [sample for family in ours for sample in family.samples if "sink" in sample.labels]
    connection.close()
    return {(each.name, each.labels["sink"], each.labels.get("reason", "")): each.value for each in samples}


def ends(manager: Receiver) -> list[str]:
    """Tenants whose alerts an Alertmanager was told to be over: those that end with the message, not minutes later."""
    told = [alert for request in list(manager.requests) for alert in request.document]
    now = datetime.now(UTC)
    return [alert["labels"]["tenant_id"] for alert in told if datetime.fromisoformat(alert["endsAt"]) <= now]


def test_a_stall_outlives_a_restart_of_the_sidecar(tmp_path: Path, secret_file: Path) -> None:
    """Told while the loop is blocked, signed; not told again by the new sidecar; its end is told."""
    release = tmp_path / "release"
    cells = tmp_path / "cells"
    cells.mkdir(0o700)
    with running_receiver() as hook, running_receiver() as manager:
        receivers = {
            "WEBHOOK": f"{hook.url}/hook",
            "WEBHOOK_SECRET_FILE": str(secret_file),
            "ALERTMANAGER": manager.url,
            "RUNBOOK_URL": "https://runbooks.example",
        }
        with running_sidecar(tmp_path, **receivers) as sidecar:
            listen = sidecar.listen_address.target
            command = [sys.executable, str(APPLICATION), f"http://{listen}", str(cells), str(release), "sleep"]
            application = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                (message,) = hook.wait_for(1)
                manager.wait_for(1)
                assert not release.exists()
                assert message.document["status"] == "firing"
                (alert,) = message.document["alerts"]
                assert (alert["labels"]["alertname"], alert["labels"]["tenant_id"]) == ("EventLoopStalled", "hooli")
                assert alert["annotations"]["runbook_url"] == "https://runbooks.example/EventLoopStalled.md"
                assert message.document["externalURL"] == f"http://{sidecar.admin_address.target}"
                seconds = int(message.headers[HEADER].split(",")[0].removeprefix("t="))
                assert message.headers[HEADER] == sign(SECRET, message.body, seconds)
                sidecar.stop(PATIENCE)
                inbox: queue.Queue[Alert] = queue.Queue()
                with running_sidecar(tmp_path, listen, inbox, **receivers):
                    assert inbox.get(timeout=PATIENCE).status == "firing"  # the new watchdog found it by itself
                    release.touch()
                    manager.wait_until(lambda: ends(manager) != [])
                assert application.wait(PATIENCE) == 0
            finally:
                application.kill()
                application.wait(PATIENCE)
        assert len(ends(manager)) == 1
        assert len(hook.requests) == 1  # the end is gathered for the group interval
        assert hook.requests[0].headers["User-Agent"] == "tenantscope"
    assert stat.S_IMODE((tmp_path / "state/alerts/webhook.json").stat().st_mode) == 0o600


def test_one_receivers_trouble_is_not_the_others(tmp_path: Path, receiver: Receiver) -> None:
    """A dead Alertmanager delays no webhook; `/metrics` tells them apart, and the account of each balances."""
    with running_receiver() as manager:
        manager.always = answer(503)
        with running_sidecar(tmp_path, WEBHOOK=receiver.url, ALERTMANAGER=f"{manager.url}/prefix/") as sidecar:
            sidecar._alerts.submit(firing())
            receiver.wait_for(1)
            assert manager.wait_for(1)[0].path == "/prefix/api/v2/alerts"
            sidecar._receivers.stop(PATIENCE)
            found = metrics(sidecar)
    assert found["tenantscope_alert_failures_total", "alertmanager", "status_5xx"] >= 1
    del found["tenantscope_alert_failures_total", "alertmanager", "status_5xx"]
    assert found == {
        **{
            ("tenantscope_alert_changes_dropped_total", sink, reason): 0
            for sink in ("alertmanager", "webhook", "otlp")
            for reason in ("refused", "queue_full")
        },
        ("tenantscope_alert_changes_taken_total", "alertmanager", ""): 1,
        ("tenantscope_alert_changes_told_total", "alertmanager", ""): 0,
        ("tenantscope_alert_changes_waiting", "alertmanager", ""): 1,
        ("tenantscope_alert_changes_taken_total", "webhook", ""): 1,
        ("tenantscope_alert_changes_told_total", "webhook", ""): 1,
        ("tenantscope_alert_changes_waiting", "webhook", ""): 0,
        ("tenantscope_alert_changes_taken_total", "otlp", ""): 1,
        ("tenantscope_alert_changes_told_total", "otlp", ""): 1,
        ("tenantscope_alert_changes_waiting", "otlp", ""): 0,
    }


def test_without_receivers_nothing_is_kept(tmp_path: Path) -> None:
    """No folder; and no thread and no series but those of the way of telemetry."""
    with running_sidecar(tmp_path) as sidecar:
        assert [sink.name for sink in sidecar._receivers.sinks] == ["otlp"]
        assert {sink for _, sink, _ in metrics(sidecar)} == {"otlp"}
    assert not (tmp_path / "state" / "alerts").exists()


def test_two_sidecars_do_not_share_a_memory(tmp_path: Path, receiver: Receiver) -> None:
    """The second is refused by the name of the setting, also when neither has the embedded store."""
    more = {"WEBHOOK": receiver.url, "UPSTREAM": "http://127.0.0.1:1"}
    owned = pytest.raises(ConfigurationError, match="TENANTSCOPE_STATE_DIR: another sidecar owns")
    with running_sidecar(tmp_path, **more), owned:
        running_sidecar(tmp_path, **more).__enter__()
    with running_sidecar(tmp_path, **more):
        pass


def test_a_secret_that_cannot_be_used_is_an_error_at_start(tmp_path: Path, secret_file: Path) -> None:
    """By the name of the setting, before anything runs; so is one without a webhook."""
    secret_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_WEBHOOK_SECRET_FILE: can be read by everybody"):
        running_sidecar(tmp_path, WEBHOOK="http://127.0.0.1:1", WEBHOOK_SECRET_FILE=str(secret_file)).__enter__()
    with pytest.raises(ConfigurationError, match="signs nothing without TENANTSCOPE_WEBHOOK"):
        running_sidecar(tmp_path, WEBHOOK_SECRET_FILE=str(secret_file)).__enter__()


@pytest.mark.parametrize("key", ["ALERTMANAGER", "WEBHOOK"])
@pytest.mark.parametrize(
    "url",
    [
        "https://bob:hunter2@x", "ftp://hunter2", "file:///hunter2", "gopher://x/hunter2", "127.0.0.1:9093/hunter2",
        "http://", "http://x:99999/hunter2", "http://x:y/hunter2", "http://x/#hunter2", "http://x/hunter2 y",
        "http://x/hunter2\r\nHost: y", "http://a b/hunter2", "http://x/hünter2", "unix:/run/hunter2",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_being_repeated(key: str, url: str) -> None:
    """http and https alone, no credentials, and not a word of what may be a secret."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_environment({f"TENANTSCOPE_{key}": url})
    (line,) = refused.value.lines
    assert line.startswith(f"TENANTSCOPE_{key}: ")
    assert "hunter2" not in line


def test_addresses_that_are_ones_are_taken() -> None:
    """A webhook's address is used to the letter; an Alertmanager's may have a prefix, and no API path."""
    settings = Settings.from_environment(
        {"TENANTSCOPE_WEBHOOK": "https://h.example/a/?t=x/", "TENANTSCOPE_ALERTMANAGER": "http://[::1]:9093/am/"}
    )
    assert (settings.webhook, settings.alertmanager) == ("https://h.example/a/?t=x/", "http://[::1]:9093/am")
    for wrong in ("http://x/api/v2", "http://x/api/v2/alerts", "http://x/?a=b"):
        with pytest.raises(ConfigurationError, match="must end before /api/v2"):
            Settings.from_environment({"TENANTSCOPE_ALERTMANAGER": wrong})
