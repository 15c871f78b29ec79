"""Copy Apache Kafka into the user's cache, once: `python -m tests.collector.broker.fetch`; needs Maven and Java.

For one test, of the gateway with a broker between its tiers.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from deploy.cached import Cached, tool

PROJECT = Path(__file__).with_name("pom.xml")


def fetch(scratch: Path) -> Path:
    """Copy the jars that pom.xml names, and those that they need."""
    maven = tool("mvn", "make broker needs Maven and Java 17 or newer: on Debian `apt-get install maven`")
    jars = scratch / "jars"
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
    subprocess.run([maven, "--quiet", "--batch-mode", f"--file={PROJECT}", *goal], check=True)
    return jars


KAFKA = Cached("kafka", PROJECT.read_bytes(), fetch, cost="50 MB")

if __name__ == "__main__":
    KAFKA.main()
