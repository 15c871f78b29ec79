"""The documentation as a site: it builds strictly, has every document, and asks nobody else for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from reading import ROOT, documents

#: What makes a browser fetch something, as against a link that a reader may follow.
_FETCHED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=\"(?P<address>[^\"]*)\"", re.DOTALL)
_IN_CSS = re.compile(r"(?:url\(|@import\s+)[\"']?(?P<address>(?:https?:)?//[^\"')]*)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs-site` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


def test_every_document_has_a_page(site: Path) -> None:
    """Also those that lie elsewhere: runbooks, decisions, the changelog."""
    names = {page.stem for page in site.rglob("*.html")}
    wanted = {path.stem for path in documents() if path.name != "README.md"}
    assert wanted - names == set()
    assert {"EventLoopStalled", "dashboards", "CHANGELOG"} <= names


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    """No font, script, style or picture of another host: a reader is seen by nobody but the site."""
    foreign = {
        (page.name, found["address"])
        for page in site.rglob("*.html")
        for found in _FETCHED.finditer(page.read_text())
        if re.match(r"(https?:)?//", found["address"]) and 'rel="canonical"' not in found[0]
    }
    foreign |= {
        (page.name, found["address"]) for page in site.rglob("*.css") for found in _IN_CSS.finditer(page.read_text())
    }
    assert foreign == set()


def test_links_between_files_lead_somewhere() -> None:
    """In the repository, too: where the files are read as files."""
    broken = [
        (str(path.relative_to(ROOT)), target)
        for path in documents()
        for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []


def test_every_link_of_a_page_leads_to_a_page(site: Path) -> None:
    """Also those that the strict build takes for granted: to folders, to files that are shown."""
    broken = set()
    for page in site.rglob("*.html"):
        for address in re.findall(r'<a [^>]*?href="([^"#?]+)', page.read_text()):
            if not re.match(r"[a-z]+:|//", address) and not (page.parent / unquote(address)).is_file():
                broken.add((str(page.relative_to(site)), address))
    assert {each for each in broken if each[0] != "404.html"} == set()
