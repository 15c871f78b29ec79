"""Every block of YAML, TOML or PromQL in a document is read by what would read it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from reading import ROOT, Block, blocks, documents

from dashboards.prometheus_names import emitted
from sidecar.configuration.settings import Settings
from sidecar.redaction import Policy
from sidecar.senders.clients import Clients
from sidecar.wire.limits import load as load_limits

#: Languages that a block may be in. `text` is output.
KNOWN = ("python", "sh", "yaml", "toml", "promql", "text")


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_read_by_its_reader(block: Block, tmp_path: Path) -> None:
    """A list of clients by the sidecar's, a policy by the redactor's, anything else by YAML's own."""
    document = yaml.safe_load(block.text)
    assert document is not None
    path = tmp_path / "document.yaml"
    if "clients" in document:
        path.write_text(block.text)
        Clients(path)
    elif "upstreams" in document:
        path.write_text(block.text)
        for named in re.findall(r"_file: (\S+)", block.text):
            (tmp_path / named).write_text("authorization: Bearer x\n")
            (tmp_path / named).chmod(0o600)
        Settings.from_environment({"TENANTSCOPE_UPSTREAMS_FILE": str(path), "TENANTSCOPE_STATE_DIR": str(tmp_path)})
    elif {"attributes", "patterns", "tiers"} & set(document):
        # A part of a policy: in the place of the same part of the shipped one, which brings what the part leaves out.
        whole = yaml.safe_load((ROOT / "sidecar/redaction/policies/default.yaml").read_text()) | document
        path.write_text(yaml.safe_dump(whole))
        Policy.load(path)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_is_read_by_its_reader(block: Block, tmp_path: Path) -> None:
    """Tiers of tenants by what the library and the sidecar read them with."""
    assert "tiers" in tomllib.loads(block.text)
    path = tmp_path / "limits.toml"
    path.write_text(block.text)
    load_limits(path)


@pytest.mark.parametrize("block", blocks("promql"), ids=str)
def test_a_query_asks_for_what_there_is(block: Block) -> None:
    """Series and labels that the library, the sidecar or the Collector puts out."""
    series = emitted()
    named = re.findall(r"\b((?:asyncio|autogen|gen_ai|mcp|tenantscope|traces)_\w+)(?:\{([^}]*)\})?", block.text)
    assert named
    for name, labels in named:
        assert name in series
        assert set(re.findall(r"(\w+)\s*[!=]", labels)) <= series[name]


def test_every_block_says_what_it_is() -> None:
    """A block without a language, or in one that nothing here reads, would be checked by nobody."""
    opened = {
        (str(path.relative_to(ROOT)), language)
        for path in documents()
        for language in re.findall(r"^[ \t]*```(.*)$", path.read_text(), re.MULTILINE)[::2]
    }
    assert {each for each in opened if each[1] not in KNOWN} == set()
