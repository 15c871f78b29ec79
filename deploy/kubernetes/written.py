"""Writes what deploy/kubernetes repeats of other files, for kustomize reads nothing outside of its own folder.

python -m deploy.kubernetes.written            write it
python -m deploy.kubernetes.written --check    exit 1 if it is not up to date

components/monitoring/rules.yaml is dashboards/prometheus as an object of the Prometheus operator; its links to runbooks
begin with a word that the component replaces. overlays/production/policy.yaml is the shipped policy `strict`, for a
start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.generated import write_or_compare

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
RULES: Final = HERE / "components/monitoring/rules.yaml"
POLICY: Final = HERE / "overlays/production/policy.yaml"
_HEAD: Final = """\
# Written from dashboards/prometheus by `make docs`. kustomization.yaml replaces the first part of each runbook_url.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tenantscope
spec:
  groups:
"""


def rules() -> Iterator[str]:
    """The groups of all rule files, as they are but for where their links begin."""
    yield _HEAD
    for path in sorted((ROOT / "dashboards/prometheus").glob("*.rules.yaml")):
        _, _, groups = path.read_text().partition("\ngroups:\n")
        for line in groups.splitlines():
            yield f"  {line}".rstrip().replace("dashboards/runbooks/", "RUNBOOKS/") + "\n"


def policy() -> str:
    """The shipped policy without the line that tells editors where its schema lies."""
    text = (ROOT / "sidecar/redaction/policies/strict.yaml").read_text()
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("# yaml-language-server"))


if __name__ == "__main__":
    sys.exit(write_or_compare([(RULES, "".join(rules())), (POLICY, policy())]))
