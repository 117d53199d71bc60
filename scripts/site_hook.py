"""What mkdocs needs beside docs/: pages that lie elsewhere in the repository, and the API reference.

- README, CONTRIBUTING, CHANGELOG, SECURITY and demo/README become pages; links between pages follow.
- A link to anything else outside docs/ (a proto, an example) holds on GitHub only; the site shows its text without the link.
- A page that would load something from the network fails the build.
- The API reference is made from docstrings: the client's public names, in ``assay.__all__``, and the audit's statistics.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# Where a page lies in the repository, and where on the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
    "demo/README.md": "demo.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
API = {
    "api/client.md": ("The client", ["assay"]),
    "api/errors.md": ("Errors of the client", ["assay.errors"]),
    "api/trainers.md": ("Plans in a trainer", ["assay.trl", "assay.hooks"]),
    "api/audit.md": ("The statistics of an audit", []),
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|link(?![^>]*rel=["']?canonical))\b[^>]*\s(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for page, (title, modules) in API.items():
        blocks = [f"::: {module}" for module in modules or _modules("server/assay_server/audit", "assay_server")]
        files.append(File.generated(config, page, content="\n\n".join([f"# {title}", *blocks]) + "\n"))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Turn links between files of the repository into links between pages."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    return LINK.sub(lambda found: _link(found, posixpath.dirname(source), posixpath.dirname(here)), markdown)


def on_post_page(output: str, *, page: Page, **_: Any) -> str:
    """Refuse a page that loads something from the network."""
    if loaded := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from the network: {loaded[0]}")
    return output


def _link(found: re.Match[str], folder: str, site_folder: str) -> str:
    picture, words, target = found.groups()
    path, mark, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return found[0]
    whole = posixpath.normpath(posixpath.join(folder, path))
    if whole not in PAGES and not whole.startswith("docs/"):
        return words
    there = posixpath.relpath(PAGES.get(whole, whole.removeprefix("docs/")), site_folder or ".")
    return f"{picture}[{words}]({there}{mark}{anchor})"


def _modules(folder: str, package: str) -> list[str]:
    """Modules of a package, in packages within it too, as dotted names."""
    parent = (ROOT / folder).parent
    names = [".".join(path.relative_to(parent).with_suffix("").parts) for path in sorted((ROOT / folder).rglob("*.py"))]
    return [f"{package}.{name}" for name in names if not name.endswith("__init__")]
