"""Copy Apache Kafka into the user's cache, once: `python tests/collector/broker/fetch.py`; needs Maven and Java.

For one test, of the gateway with a broker between its tiers. The jars lie below the hash of pom.xml, as the Collector
lies below that of its manifest.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).with_name("pom.xml")


def where() -> Path:
    """Folder of the jars that belong to pom.xml, whether it is there or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tenantscope" / f"kafka-{hashlib.sha256(PROJECT.read_bytes()).hexdigest()[:12]}"


def fetch(target: Path) -> None:
    """Copy into a scratch folder beside `target`, then move it in place in one step."""
    maven = shutil.which("mvn")
    if maven is None:
        sys.exit("make broker needs Maven and Java 17 or newer: on Debian `apt-get install maven`")
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Copying Apache Kafka into {target} (once, 50 MB) ...", flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={scratch}/jars"]
        subprocess.run([maven, "--quiet", "--batch-mode", f"--file={PROJECT}", *goal], check=True)
        (Path(scratch) / "jars").rename(target)


def main() -> None:
    """Print where the jars are; copy them first when they are missing and `--where` isn't given."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--where", action="store_true", help="print the path, copy nothing")
    only_where = arguments.parse_args().where
    target = where()
    if not only_where and not target.is_dir():
        try:
            fetch(target)
        except subprocess.CalledProcessError as error:
            sys.exit(f"Apache Kafka could not be copied: {error}")
    print(target)


if __name__ == "__main__":
    main()
