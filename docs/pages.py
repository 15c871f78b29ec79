"""What `mkdocs build` needs to know of this repository: pages that lie outside of docs/, and where links go.

A document's links are those of the repository, so that they can be followed where the files are read as files. On the
site a link to another document leads to its page, one to any other file to a page that shows it, and one to a folder is
none. One that leads to nothing is left alone: the strict build ends with it.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parent.parent
#: Documents outside of docs/, and what they are called on the site.
ELSEWHERE: Final = {
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "dashboards/README.md": "dashboards.md",
    **{
        f"dashboards/runbooks/{page.name}": f"runbooks/{page.name}"
        for page in (ROOT / "dashboards/runbooks").glob("*.md")
    },
    **{
        str(page.relative_to(ROOT)): f"{page.parent.relative_to(ROOT)}.md"
        for page in sorted((ROOT / "deploy").rglob("README.md"))
    },
}
_LINK: Final = re.compile(r"(?<!!)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
_ANY: Final = re.compile(r"(?<!!)\[(?P<text>[^\]\n]+)\]\((?P<target>[^)\s#:]+)\)")
_LANGUAGES: Final = {
    ".py": "python",
    ".yaml": "yaml",
    ".toml": "toml",
    ".proto": "protobuf",
    ".sh": "sh",
    ".json": "json",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A `*` in the navigation becomes the pages that match."""
    pages = sorted(
        {*(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")), *ELSEWHERE.values()}
    )
    config.nav = list(_expanded(config.nav or [], pages))
    return config


def _expanded(nav: Iterable[Any], pages: list[str]) -> Iterator[Any]:
    for entry in nav:
        if isinstance(entry, dict):
            yield {
                title: list(_expanded(below, pages)) if isinstance(below, list) else below
                for title, below in entry.items()
            }
        elif "*" in entry:
            yield from fnmatch.filter(pages, entry)
        else:
            yield entry


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents that lie elsewhere, and a page for each file that a document links to."""
    for path, uri in ELSEWHERE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for page in list(files.documentation_pages()):
        for match in _LINK.finditer(page.content_string):
            path = _target(page, match["target"])
            if path is None or path in _documents(files) or files.get_file_from_path(_shown(path)):
                continue
            source = (ROOT / path).read_text()
            fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", source)), default=0))
            text = f"# {path}\n\n{fence}{_LANGUAGES.get(Path(path).suffix, 'text')}\n{source}{fence}\n"
            files.append(File.generated(config, _shown(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Links between files become links between pages."""
    documents = _documents(files)

    def rewritten(match: re.Match[str]) -> str:
        path = _target(page.file, match["target"])
        if path is None:
            return match[0]
        uri = documents.get(path, _shown(path))
        return f"]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{match['anchor'] or ''})"

    def named(match: re.Match[str]) -> str:
        here = _path(page.file)
        folder = None if here is None else ROOT / posixpath.dirname(here) / match["target"]
        return match["text"] if folder is not None and folder.is_dir() else match[0]

    return _LINK.sub(rewritten, _ANY.sub(named, markdown))


def _documents(files: Files) -> dict[str, str]:
    """Pages and pictures of the site, by the path of their file in the repository."""
    return {path: file.src_uri for file in files if (path := _path(file)) is not None}


def _path(file: File) -> str | None:
    return None if file.abs_src_path is None else os.path.relpath(file.abs_src_path, ROOT)


def _target(page: File, target: str) -> str | None:
    """The file that a link of a page leads to; None if it is none of the repository's."""
    here = _path(page)
    if here is None:  # shows a file: what looks like a link there is not ours
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
    return path if (ROOT / path).is_file() else None


def _shown(path: str) -> str:
    return f"files/{path}.md"
