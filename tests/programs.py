"""Prometheus, Alertmanager, a sidecar and a web server for the runbooks, as processes on free ports.

Nothing here imitates them: each is the real program with the repository's configuration, or the test is skipped.
What differs from production is how fast time goes: a minute of the configuration lasts `MINUTE` seconds, in every
window, every `for` and every interval alike, so that a rule of five minutes can be seen to fire and to resolve.
"""

from __future__ import annotations

import functools
import http.server
import json
import math
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import required
import yaml
from collector_process import DEADLINE, eventually, free_ports, http_get
from required import ROOT

PROMETHEUS = ROOT / "dashboards/prometheus"
RUNBOOKS = ROOT / "dashboards/runbooks"
MINUTE = 1.5
#: The token that Prometheus shows.
SCRAPER = "p" * 40
SCRAPE = "500ms"  # three in a minute; in production there are four

ALERTMANAGER = """
route:
  receiver: recorder
  group_by: [{groups}]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: recorder
    webhook_configs:
      - url: {url}
        send_resolved: true
"""
_UNITS = {"ms": 1 / 60_000, "s": 1 / 60, "m": 1, "h": 60, "d": 1440}
_READY = re.compile(r"sidecar ready.* listen=\S*:(?P<listen>\d+) .*\badmin=\S*:(?P<admin>\d+)")


def faster(duration: str) -> str:
    """A duration of PromQL on the fast clock: `5m` becomes as many milliseconds as five of its minutes have."""
    minutes = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h|d)", duration))
    return f"{round(minutes * MINUTE * 1000)}ms"


def fast_rules(text: str) -> str:
    """A rule file on the fast clock."""
    document = yaml.safe_load(text)
    for group in document["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule["expr"] = fast_query(rule["expr"])
            if "for" in rule:
                rule["for"] = faster(rule["for"])
    return yaml.safe_dump(document, sort_keys=False)


def fast_query(expr: str) -> str:
    """An expression on the fast clock: every range, and every offset."""
    expr = re.sub(r"\[([0-9a-z]+)\]", lambda found: f"[{faster(found[1])}]", expr)
    return re.sub(r"\boffset\s+([0-9a-z]+)", lambda found: f"offset {faster(found[1])}", expr)


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output is in `log`; ended in the end, kindly at first."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TENANTSCOPE_", "OTEL_"))}
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=inherited | environment
        )
    assert child.stdin is not None
    try:
        yield child
    finally:
        child.stdin.close()
        child.terminate()
        try:
            child.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, asked over its HTTP API."""

    address: str

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an API answer, or None."""
        answer = http_get(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        return json.loads(answer)["data"] if answer else None

    def numbers(self, expr: str) -> dict[str, float]:
        """Result of an instant query: labels and values that are numbers."""
        result = (self.get("query", query=expr) or {"result": []})["result"]
        values = {json.dumps(sample["metric"], sort_keys=True): float(sample["value"][1]) for sample in result}
        return {labels: value for labels, value in values.items() if not math.isnan(value)}

    def see(self, expr: str, deadline: float = DEADLINE) -> dict[str, float]:
        """`numbers`, asked until there are some."""
        found: dict[str, float] = eventually(lambda: self.numbers(expr), f"data for {expr}", deadline)
        return found


@contextmanager
def prometheus(folder: Path, targets: dict[str, list[str]], alertmanager: str, runbooks: str) -> Iterator[Prometheus]:
    """Prometheus with the repository's configuration and rules; only addresses and the pace are others.

    Args:
        folder: for its files.
        targets: addresses to scrape, by job.
        alertmanager: address that is told of alerts.
        runbooks: where the runbooks are published.
    """
    program = required.prometheus()
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    config["global"] |= {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
        job["authorization"] = {"credentials": SCRAPER}  # for the sidecar that has a list of clients
    (alerting,) = config["alerting"]["alertmanagers"]
    alerting["static_configs"] = [{"targets": [alertmanager]}]
    for name in config["rule_files"]:
        # As dashboards/README.md says how the runbooks' address gets into the rules.
        command = ["sed", f"s|dashboards/runbooks/|{runbooks}|", str(PROMETHEUS / name)]
        published = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (folder / name).write_text(fast_rules(published))
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        # Alerts that are older than this are sent again: Alertmanager hears of the end by their absence, too.
        "--rules.alert.resend-delay=1s",
        "--rules.alert.for-grace-period=1s",
        "--enable-feature=exemplar-storage",
    ]
    with process(command, folder / "log") as child:
        eventually(lambda: child.poll() is not None or http_get(f"http://{address}/-/ready"), "Prometheus is up")
        assert child.poll() is None, (folder / "log").read_text()[-2000:]
        yield Prometheus(address)


@contextmanager
def alertmanager(folder: Path, receiver: str, groups: tuple[str, ...] = ("alertname", "tenant_id")) -> Iterator[str]:
    """The address of an Alertmanager that tells `receiver` of everything at once, what has these labels in common in
    one message."""
    program = required.alertmanager()
    (folder / "alertmanager.yml").write_text(ALERTMANAGER.format(url=receiver, groups=", ".join(groups)))
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [
        program,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with process(command, folder / "log") as child:
        eventually(lambda: child.poll() is not None or http_get(f"http://{address}/-/ready"), "Alertmanager is up")
        assert child.poll() is None, (folder / "log").read_text()[-2000:]
        yield address


@dataclass(frozen=True)
class Sidecar:
    """A running sidecar: where it takes telemetry in, where it is asked, and its process."""

    listen: str
    admin: str
    process: subprocess.Popen[bytes]


@contextmanager
def sidecar(folder: Path, program: tuple[str, ...] = ("-m", "sidecar"), **settings: str) -> Iterator[Sidecar]:
    """A sidecar with these settings, `UPSTREAM` and so on, on ports of its own choice."""
    environment = {"LISTEN": "127.0.0.1:0", "ADMIN": "127.0.0.1:0", "STATE_DIR": str(folder / "state"), **settings}
    log = folder / "sidecar.log"
    named = {f"TENANTSCOPE_{key}": value for key, value in environment.items()}
    with process([sys.executable, *program], log, **named) as child:
        said = eventually(
            lambda: child.poll() is not None or _READY.search(log.read_text(errors="replace")), "the sidecar is ready"
        )
        assert isinstance(said, re.Match), log.read_text()[-2000:]
        yield Sidecar(f"127.0.0.1:{said['listen']}", f"127.0.0.1:{said['admin']}", child)


@contextmanager
def published(folder: Path, port: int = 0) -> Iterator[str]:
    """The URL below which the files of `folder` are served, as any web server would; on any port when it is 0."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Not on the terminal."""

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:  # or a test that failed never ends
            server.shutdown()
            thread.join()
