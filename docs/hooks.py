"""What `make docs` puts into the site: files of the repository under their own paths, so that links work as here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "docs/reference/*.md", "flstore/*/*.md"),
    *("benchmarks/README.md", "notebooks/[0-9]*.ipynb", "examples/*/README.md", "results/laptop/README.md"),
)
_LINK = re.compile(r"\]\(([^)#\s]+)")
_STORE = "docs/reference/store.md"
STYLE = "docs/site.css"
_PAPER = "docs/reproduce.md", "results/laptop/README.md"


def pages() -> list[str]:
    """Paths of everything that becomes a page."""
    found = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def linked(page: str) -> Iterator[str]:
    """Files of the repository that a page links to and that are no pages: pictures, data, the licence."""
    for target in _LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        path = (ROOT / page).parent / target
        if "://" not in target and path.is_file():
            yield path.resolve().relative_to(ROOT).as_posix()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List what is there: a new tutorial needs no entry anywhere."""
    there = pages()

    def below(folder: str) -> list[str]:
        return [page for page in there if page.rpartition("/")[0] == folder]

    reference = [_STORE, *(page for page in below("docs/reference") if page != _STORE)]
    examples = [page for page in there if page.startswith("examples/")]
    config.nav = [
        {"FLStore": "README.md"},
        {"Tutorials": [page for page in there if page.endswith(".ipynb")]},
        {"Guides": [
            *(page for page in below("docs") if page != _PAPER[0]),
            {"Simulator": "flstore/simulator/README.md"}, {"Cost": "flstore/cost/README.md"},
            {"The policy that learns": "flstore/policies/ADAPTIVE.md"}, *examples,
        ]},
        {"The paper": list(_PAPER)},
        {"Reference": reference},
        {"Benchmarks": "benchmarks/README.md"},
        {"Project": [{"Contributing": "CONTRIBUTING.md"}, {"Changelog": "CHANGELOG.md"}]},
    ]  # fmt: skip
    return config


@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the repository's files in place of those that lie in docs/, before the notebooks are made pages."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    paths = pages()
    paths += sorted({other for page in paths if page.endswith(".md") for other in linked(page)} - set(paths))
    for path in (*paths, STYLE):
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    return files
