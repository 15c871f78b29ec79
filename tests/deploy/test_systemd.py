"""The unit of deploy/systemd: systemd takes it, it is locked up, and the sidecar can live with what it forbids.

No systemd runs here. Its own analyser reads the unit, and the calls that a sidecar makes while it works are compared
with those that the unit lets through.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest
import required
from collector_process import DEADLINE, eventually
from natively import image
from otlp_peers import export, running_upstream, trace_request
from required import ROOT

from sidecar.configuration.settings import Settings
from sidecar.watchdog import bell

UNIT = ROOT / "deploy/systemd/tenantscope-sidecar.service"
EXPOSURE = 15  # tenths; 0 is a service that can do nothing, 96 one without any of this


def find(name: str, package: str) -> str:
    """Path of a program, or skip."""
    return required.program(name, variable="REQUIRE_SYSTEMD", package=package)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with this machine's interpreter in the place of the one that would be installed."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/tenantscope/bin/python", os.path.realpath(sys.executable)))
    return copy


def values(key: str) -> list[str]:
    """All values of a key, in their order."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_systemd_takes_it(unit: Path) -> None:
    """No unknown key, no value that it would ignore."""
    done = subprocess.run([find("systemd-analyze", "systemd"), "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_locked_up(unit: Path) -> None:
    """systemd's own judgement."""
    command = [find("systemd-analyze", "systemd"), "security", "--offline=true", f"--threshold={EXPOSURE}", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_its_settings_are_the_sidecars() -> None:
    """Each variable is a setting; the socket and the state are in the folders that systemd makes for it."""
    given = dict(value.split("=", 1) for value in values("Environment"))
    settings = Settings.from_environment(given)
    assert str(settings.listen.path).startswith(f"/run/{values('RuntimeDirectory')[0]}/")
    assert str(settings.state_dir).startswith(f"/var/lib/{values('StateDirectory')[0]}/")
    assert values("ExecStart")[0].split()[1:] == image(ROOT / "deploy/containers/Dockerfile", "sidecar").entrypoint[1:]


def test_the_watch_may_come_first() -> None:
    """The unit lets its thread have what it asks for, and no more."""
    assert values("LimitNICE") == [str(bell._NICE)]


def test_it_stays_down_when_its_configuration_is_wrong(tmp_path: Path) -> None:
    """The status that the sidecar ends with then is the one that the unit does not restart for."""
    command = [sys.executable, *values("ExecStart")[0].split()[1:]]
    done = subprocess.run(command, env={"TENANTSCOPE_LISTEN": "nowhere"}, capture_output=True, cwd=tmp_path)
    assert [str(done.returncode)] == values("RestartPreventExitStatus")


def allowed() -> set[str]:
    """The calls that SystemCallFilter leaves."""
    analyze = find("systemd-analyze", "systemd")

    def members(group: str) -> set[str]:
        text = subprocess.run([analyze, "syscall-filter", group], capture_output=True, text=True, check=True).stdout
        words = {line.split()[0] for line in text.splitlines()[1:] if line.strip() and not line.strip().startswith("#")}
        nested = {word for word in words if word.startswith("@")}
        return (words - nested).union(*(members(each) for each in nested))

    found: set[str] = set()
    for rule in values("SystemCallFilter"):
        for word in rule.lstrip("~").split():
            meant = members(word) if word.startswith("@") else {word}
            found = found - meant if rule.startswith("~") else found | meant
    return found


def test_a_working_sidecar_makes_no_call_that_is_forbidden(tmp_path: Path) -> None:
    """From its start over telemetry and a reload to its end: calls, kinds of sockets, no memory to write and run."""
    strace = find("strace", "strace")
    trace, log = tmp_path / "calls", tmp_path / "log"
    command = [strace, "-f", "-qq", "-o", str(trace), sys.executable, "-m", "sidecar"]
    with running_upstream() as upstream:
        settings = {"TENANTSCOPE_LISTEN": f"unix:{tmp_path}/o/s.sock", "TENANTSCOPE_ADMIN": "127.0.0.1:0",
                    "TENANTSCOPE_STATE_DIR": str(tmp_path / "state"), "TENANTSCOPE_METRICS": "127.0.0.1:0",
                    "TENANTSCOPE_UPSTREAM": upstream.url}  # fmt: skip
        with programs.process(command, log, **settings) as child:
            said = eventually(lambda: re.search(r"sidecar ready.* pid=(\d+)", log.read_text()), "it is ready", 60)
            export(f"unix:{tmp_path}/o/s.sock", trace_request(3))
            upstream.wait_for(1)
            os.kill(int(said[1]), 1)  # SIGHUP, as ExecReload sends it
            os.kill(int(said[1]), 15)
            assert child.wait(2 * DEADLINE) == 0
    text = trace.read_text(errors="replace")
    made = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert {"socket", "accept4", "fsync"} & made
    assert made - allowed() == set()
    families = set(re.findall(r" socket\((AF_\w+)", text))
    assert families <= set(values("RestrictAddressFamilies")[0].split())
    assert not re.findall(r" (?:mmap|mprotect)\(.*PROT_WRITE\|PROT_EXEC.*", text)
