"""Files that pages name exist, and docs/design.md answers "Where is ...?" with one file each."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Where a page's paths begin: pages about the server say `audit/run.py` for server/assay_server/audit/run.py.
ROOTS = (ROOT, ROOT / "server" / "assay_server", ROOT / "client" / "python" / "assay", ROOT / "client" / "typescript")
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
ELSEWHERE = ("open_instruct/",)  # another project's
NAMED = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|proto|ts|js|toml|yaml|json|md|svg))`")
QUESTION = re.compile(r"^\| (.+\?) \| `([^`|]+)` \|$", re.MULTILINE)


def missing(text: str) -> list[str]:
    """Named files that do not exist."""
    ours = [name for name in NAMED.findall(text) if not name.startswith(ELSEWHERE)]
    return [name for name in ours if not any((root / name).is_file() for root in ROOTS)]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_exist(page: str) -> None:
    assert missing((ROOT / page).read_text(encoding="utf-8")) == []


def test_a_file_that_is_gone_is_noticed() -> None:
    assert missing("`audit/run.py`, `audit/gone.py`, `run.py` and `a/{b}/c.py`") == ["audit/gone.py"]


def test_each_question_of_the_design_record_has_its_own_file() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = text.partition("## Where is ...?")[2].partition("\n## ")[0]
    found = QUESTION.findall(section)
    assert len(found) == section.count("\n| ") - 2, "every row is a question and one file"
    assert len(found) >= 20
    assert [path for _, path in found if not (ROOT / path).is_file()] == []
    assert len({question for question, _ in found}) == len({path for _, path in found}) == len(found)
