"""deploy/kubernetes, made by kustomize: valid for the API server, no more rights than needed, its parts fit together.

No cluster runs here: the validator holds the objects to the API server's own decoding, defaults and validation, and
pods to the security standard `restricted`.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import required
import yaml
from natively import image
from required import ROOT
from validation import Validate

from instrumentation.settings import Settings as LibrarySettings
from sidecar.configuration.settings import Settings as SidecarSettings
from sidecar.policy.version import load_policies

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("try", "vendor", "production")
Objects = list[dict[str, Any]]


@pytest.fixture(scope="session", params=OVERLAYS)
def made(request: pytest.FixtureRequest, validate: Validate) -> Objects:
    """The objects of an overlay."""
    return make(validate, request.param)


def make(validate: Validate, overlay: str) -> Objects:
    """What kustomize makes of it."""
    done = validate("kustomize", KUBERNETES / "overlays" / overlay)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def workload(made: Objects, name: str = "billing-agents") -> dict[str, Any]:
    """The Deployment or StatefulSet of that name."""
    (found,) = (
        each for each in made if each["kind"] in ("Deployment", "StatefulSet") and each["metadata"]["name"] == name
    )
    return found


def pods(made: Objects) -> list[dict[str, Any]]:
    """Every pod template."""
    return [each["spec"]["template"] for each in made if each["kind"] in ("Deployment", "StatefulSet")]


def environment(made: Objects, container: dict[str, Any]) -> dict[str, str]:
    """What the container finds in its environment."""
    maps = {each["metadata"]["name"]: each["data"] for each in made if each["kind"] == "ConfigMap"}
    found: dict[str, str] = {}
    for each in container.get("envFrom", []):
        found |= maps[each["configMapRef"]["name"]]
    return found | {each["name"]: each["value"] for each in container.get("env", [])}


def test_the_api_server_would_take_it(made: Objects, validate: Validate) -> None:
    """Every object, and every pod under the standard `restricted`."""
    done = validate("kubernetes", given=yaml.safe_dump_all(made))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        (lambda pod: pod["spec"]["initContainers"][0].update(restartPolicy="Sometimes"), "restartPolicy"),
        (lambda pod: pod["spec"]["initContainers"][0].update(livenessProb={}), "livenessProb"),
        (lambda pod: pod["spec"]["containers"][0]["volumeMounts"].append({"name": "nix", "mountPath": "/x"}), "nix"),
        (lambda pod: pod["spec"]["securityContext"].update(runAsNonRoot=False), "pod security"),
        (lambda pod: pod["spec"]["containers"][0]["securityContext"].update(capabilities={}), "pod security"),
        (lambda pod: pod["metadata"].update(labels={"app.kubernetes.io/name": "other"}), "selector"),
    ],
    ids=["value", "key", "volume", "root", "capabilities", "selector"],
)
def test_the_validator_finds_mistakes(validate: Validate, change: Any, mistake: str) -> None:
    """Each of these is refused, and named: what passes above has been looked at."""
    made = make(validate, "vendor")
    change(workload(made)["spec"]["template"])
    done = validate("kubernetes", given=yaml.safe_dump_all(made))
    assert done.returncode == 1
    assert mistake in done.stdout


def test_the_sidecar_is_a_native_one(made: Objects) -> None:
    """It starts first and ends last, is asked whether it lives, and never decides whether the application is ready."""
    spec = workload(made)["spec"]["template"]["spec"]
    (sidecar,) = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert (
        sidecar["startupProbe"]["httpGet"]
        == sidecar["livenessProbe"]["httpGet"]
        == {"path": "/healthz", "port": "figures"}
    )
    assert "readinessProbe" not in sidecar
    assert "cpu" not in sidecar["resources"]["limits"]
    settings = environment(made, sidecar)
    (port,) = sidecar["ports"]
    assert settings["TENANTSCOPE_METRICS"] == f"0.0.0.0:{port['containerPort']}"


def test_both_halves_take_their_settings_and_find_each_other(
    made: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address, the folder of the cells at one place in both, in memory; files that settings name are mounted."""
    spec = workload(made)["spec"]["template"]["spec"]
    (sidecar,), (application,) = spec["initContainers"], spec["containers"]
    given = environment(made, sidecar)
    mounts = {each["mountPath"]: each["name"] for each in sidecar["volumeMounts"]}
    files = {key: value for key, value in given.items() if value.startswith("/etc/")}
    for key, value in files.items():
        assert str(Path(value).parent) in mounts
        stand_in = tmp_path / Path(value).name
        maps = [each for each in made if each["kind"] == "ConfigMap" and stand_in.name in each["data"]]
        stand_in.write_text(maps[0]["data"][stand_in.name] if maps else "")
        stand_in.chmod(0o600)
        given[key] = str(stand_in)
    settings = SidecarSettings.from_environment(given)
    load_policies(settings)
    read = LibrarySettings.read(environ=environment(made, application))
    assert read.endpoint == f"http://{settings.listen.target}"
    (cells,) = (each for each in spec["volumes"] if each["name"] == "cells")
    assert cells["emptyDir"]["medium"] == "Memory"
    for container in (sidecar, application):
        places = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "cells"]
        assert places == [str(read.cell_dir.parent if read.cell_dir else None)]
        assert "runAsUser" not in container["securityContext"]
    assert mounts[str(settings.state_dir.parent)] == "queue"
    assert spec["securityContext"]["runAsUser"] == 10001


def test_everybody_finds_whom_they_look_for(made: Objects) -> None:
    """Selectors of services, policies and monitors match a pod's labels; addresses have a service."""
    labels = [pod["metadata"]["labels"] for pod in pods(made)]

    def matches(selector: dict[str, Any]) -> bool:
        plain = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
        wanted = {key: [value] for key, value in plain.items()}
        wanted |= {each["key"]: each["values"] for each in selector.get("matchExpressions", [])}
        return any(all(each.get(key) in values for key, values in wanted.items()) for each in labels)

    for each in made:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            assert matches(spec["selector"]), each["metadata"]["name"]
        elif each["kind"] == "NetworkPolicy":
            assert matches(spec["podSelector"]), each["metadata"]["name"]
            for rule in spec["ingress"]:
                for peer in rule["from"]:
                    assert "namespaceSelector" in peer or matches(peer["podSelector"]), each["metadata"]["name"]
        elif each["kind"] == "PodMonitor":
            assert matches(spec["selector"]), each["metadata"]["name"]
    services = {
        f"{each['metadata']['name']}:{port['port']}"
        for each in made
        if each["kind"] == "Service"
        for port in each["spec"]["ports"]
    }
    settings = environment(made, workload(made)["spec"]["template"]["spec"]["initContainers"][0])
    upstream = settings["TENANTSCOPE_UPSTREAM"].removeprefix("http://")
    assert upstream in services or upstream.startswith("https://")


def test_a_policy_lets_in_by_ports_that_are_served(made: Objects) -> None:
    """Each number is one that a container of the pod has."""
    for policy in (each for each in made if each["kind"] == "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"].items()
        (pod,) = (pod for pod in pods(made) if selector <= pod["metadata"]["labels"].items())
        served = {
            port["containerPort"]
            for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
            for port in container.get("ports", [])
        }
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= served


def test_collectors_are_given_what_they_read(made: Objects) -> None:
    """Files that are in the image, and variables that those files read."""
    inside = image(ROOT / "deploy/containers/collector.Dockerfile", None)
    copied = [(place, source) for place, source in inside.copies.items() if place.startswith("/etc/tenantscope/")]
    for pod in pods(made):
        (container,) = pod["spec"]["containers"]
        if not container["image"].partition(":")[0].endswith("tenantscope/collector"):
            continue
        names = [word.removeprefix("--config=") for word in container.get("args", inside.command) if word != "--config"]
        files = [
            ROOT / source / name[len(place) :].lstrip("/")
            for name in names
            for place, source in copied
            if name.startswith(place)
        ]
        assert len(files) == len(names)
        known = {name for file in files for name in re.findall(r"\$\{env:(\w+)", file.read_text())}
        assert set(environment(made, container)) <= known


def test_the_balancers_know_every_sampler(validate: Validate) -> None:
    """By the name that its StatefulSet gives it, at the port that it listens on."""
    made = make(validate, "production")
    samplers = workload(made, "sampler")["spec"]
    (balancer,) = workload(made, "balancer")["spec"]["template"]["spec"]["containers"]
    (sampler,) = samplers["template"]["spec"]["containers"]
    port = environment(made, sampler)["TENANTSCOPE_COLLECTOR_LISTEN"].rpartition(":")[2]
    assert json.loads(environment(made, balancer)["TENANTSCOPE_COLLECTOR_SAMPLERS"]) == [
        f"sampler-{number}.{samplers['serviceName']}:{port}" for number in range(samplers["replicas"])
    ]


def test_the_operators_rules_are_the_rules(validate: Validate, tmp_path: Path) -> None:
    """Valid for promtool, and every alert links to where the sidecars' own alerts do."""
    made = make(validate, "production")
    (rules,) = (each["spec"] for each in made if each["kind"] == "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    done = subprocess.run(
        [required.promtool(), "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    url = environment(made, workload(made)["spec"]["template"]["spec"]["initContainers"][0])["TENANTSCOPE_RUNBOOK_URL"]
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["annotations"]["runbook_url"] == f"{url}/{rule['alert']}.md"


def test_monitors_name_the_jobs_that_the_rules_know(validate: Validate) -> None:
    """As dashboards/prometheus/prometheus.yaml does, with the applications' own job and instance kept."""
    config = yaml.safe_load((ROOT / "dashboards/prometheus/prometheus.yaml").read_text())
    endpoints = [
        endpoint
        for each in make(validate, "production")
        if each["kind"] == "PodMonitor"
        for endpoint in each["spec"]["podMetricsEndpoints"]
    ]
    assert all(endpoint["honorLabels"] for endpoint in endpoints)
    assert {endpoint["interval"] for endpoint in endpoints} == {config["global"]["scrape_interval"]}
    assert {endpoint["relabelings"][0]["replacement"] for endpoint in endpoints} == {
        job["job_name"] for job in config["scrape_configs"]
    }
