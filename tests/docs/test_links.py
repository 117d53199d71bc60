"""Links of every page hold: to files of the repository, and to headings within them."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
FENCE = re.compile(r"^( *)(```+).*?^\1\2", re.DOTALL | re.MULTILINE)
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
PAGES = sorted(LISTED) or sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}


def links(text: str) -> list[str]:
    """Targets of a page's links, those in code left out."""
    return [first or second for first, second in LINK.findall(re.sub(r"`[^`\n]*`", "code", FENCE.sub("", text)))]


def broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere; those to the network are not tried."""
    lost: list[str] = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            lost.append(link)
    return lost


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_holds(page: str) -> None:
    assert broken(ROOT / page) == []


def test_a_lost_file_and_a_lost_heading_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `x` thing\n[a](#one-x-thing) [`b`](page.md) [c](gone.md) [d](page.md#gone) `[e](code.md)`\n![f](f.svg)\n"
    )
    assert broken(page) == ["gone.md", "page.md#gone", "f.svg"]


def test_every_page_of_docs_is_on_the_site_and_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f": {page.name}\n" not in navigation] == []
