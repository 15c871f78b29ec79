"""The container files of deploy/containers: what they are made of exists, is pinned, and is enough to run."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from required import ROOT
from validation import Validate

CONTAINERS = ROOT / "deploy/containers"
FILES = sorted(CONTAINERS.glob("*ockerfile"))
LOCKS = sorted(CONTAINERS.glob("*.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned(lock: Path) -> dict[str, str]:
    """Version by name."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_buildkit_warns_of_nothing(validate: Validate, file: Path) -> None:
    """Docker's own parser and linter."""
    done = validate("dockerfile", file)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_image_is_pinned_healthy_and_nobody(file: Path) -> None:
    """Bases by version; what runs is not root, and says whether it is healthy."""
    text = file.read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = re.findall(r" AS (\S+)", text)
    assert all(base in stages or re.search(r":[0-9]+\.[0-9]+\.[0-9]+-", base) for base in bases)
    assert "USER 10001:10001" in text
    assert text.count("HEALTHCHECK") == text.count("ENTRYPOINT")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_copied_is_in_the_context(file: Path) -> None:
    """Every source is there, and .dockerignore lets it in."""
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)$", file.read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in let_in), source


def test_the_builder_is_the_one_of_make_collector() -> None:
    """One release of OpenTelemetry's builder makes the binary here and in the image."""
    (here,) = re.findall(r'^BUILDER = "(.*)"$', (ROOT / "deploy/collector/build.py").read_text(), re.MULTILINE)
    assert f"go run {here} " in (CONTAINERS / "collector.Dockerfile").read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_images_have_the_versions_that_are_tested(lock: Path) -> None:
    """What is in requirements.lock; each with hashes."""
    tested = pinned(ROOT / "requirements.lock")
    assert pinned(lock)
    assert pinned(lock).items() <= tested.items()
    assert lock.read_text().count("==") <= lock.read_text().count("--hash=sha256:")


def test_the_sidecars_image_has_its_extra_and_nothing_of_autogen() -> None:
    """All that the extra asks for, and no library that only the application needs."""
    inside = set(pinned(CONTAINERS / "sidecar.lock"))
    extra = {canonicalize_name(Requirement(each).name) for each in PROJECT["optional-dependencies"]["sidecar"]}
    assert extra <= inside
    assert not {name for name in inside if name.startswith(("autogen", "openai", "opentelemetry-sdk"))}


ALONE = """
import importlib.abc, importlib.metadata, sys

allowed = set(sys.argv.pop(1).split(","))
homes = importlib.metadata.packages_distributions()

class Gate(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        owners = {each.lower().replace("_", "-").replace(".", "-") for each in homes.get(top, [])}
        if owners and not owners & allowed:
            raise ModuleNotFoundError(f"not in the image: {name}")

sys.meta_path.insert(0, Gate())
from sidecar.service import Sidecar
from sidecar.configuration.settings import Settings
sidecar = Sidecar(Settings.from_environment())
sidecar.start()
sidecar.stop(1)
print("ran")
"""


def test_the_sidecar_runs_with_what_its_image_has(tmp_path: Path) -> None:
    """It starts and stops with every other package of this environment out of reach."""
    allowed = {*pinned(CONTAINERS / "sidecar.lock"), "tenantscope"}
    environment = {
        "TENANTSCOPE_LISTEN": "127.0.0.1:0",
        "TENANTSCOPE_ADMIN": "127.0.0.1:0",
        "TENANTSCOPE_METRICS": "127.0.0.1:0",
        "TENANTSCOPE_STATE_DIR": str(tmp_path / "state"),
        "TENANTSCOPE_UPSTREAM": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-c", ALONE, ",".join(allowed)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1:] == ["ran"], done.stderr[-2000:]


def test_the_images_have_the_version_of_the_package() -> None:
    """The tag in compose and in the comments is the package's version."""
    version = importlib.metadata.version("tenantscope")
    for file in (CONTAINERS / "Dockerfile", ROOT / "deploy/compose/compose.yaml"):
        assert set(re.findall(r"tenantscope/(?:sidecar|demo):(\S+)", file.read_text())) == {version}
