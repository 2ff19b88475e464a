"""A hook of mkdocs: pages that lie beside `docs/` are part of the site, the README is its first page."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SUFFIXES = (".md", ".svg", ".png", ".html", ".json")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """What people read in `results/`, and the pages at the top of the repository."""
    for path in sorted((ROOT / "results").rglob("*")):
        if path.suffix in SUFFIXES:
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between `docs/` and what lies beside it, as they are in the site."""
    if page.file.src_uri in ("index.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        markdown = re.sub(r"(\]\(|src=\")docs/", r"\1", markdown).replace("](README.md)", "](index.md)")
    if page.file.src_uri.startswith("results/"):
        return markdown.replace("](../docs/", "](../").replace("](../../docs/", "](../../")
    return markdown.replace("](../results/", "](results/")
