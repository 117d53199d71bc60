"""Writes docs/descriptors.md from the text descriptors.

python scripts/descriptors.py             writes the page
python scripts/descriptors.py --check     fails if the committed page is stale
"""

import sys
from pathlib import Path

from assay_server.descriptors import DESCRIPTORS, VERSION, Descriptor

PAGE = Path(__file__).resolve().parent.parent / "docs" / "descriptors.md"
HEAD = f"""# Text descriptors

Generated from `server/assay_server/descriptors/vocabulary.py` by `make docs-reference`. Version `{VERSION}`: a change of a
definition, a lexicon or the order is a new version.

A descriptor is a property of a response that its text alone shows, without the model: what the SAE's features are read beside.
Each has an amount, at least 0, and is present where the amount reaches a threshold. As concepts, `text/bold` is bold text present
and `text/more-bold` its amount. The prompt is read by `echo` and `other-language` only.

How a text is read (`server/assay_server/descriptors/words.py`): curly quotes and apostrophes count as straight ones. Fenced code
blocks are left out. A word is a run of letters and digits with inner apostrophes; an emoji and a Han, Hiragana or Katakana
character are words of their own. A sentence ends at its mark before a blank, and at a line's end. Lexicons are phrases of whole
words (`server/assay_server/descriptors/lexicons.json`, with exceptions such as "better safe than sorry"); they are English, and
say little about text in other languages.

Headings, list items and bold text are counted as FastChat's `add_markdown_info` counts them for Chatbot Arena's style control, so
that amounts compare with published ones; there a code block is what two fences of three backticks enclose without a backtick.
"""


def page() -> str:
    """The whole page: a heading and a table per family."""
    lines = [HEAD.rstrip()]
    for family in dict.fromkeys(one.family for one in DESCRIPTORS):
        lines += ["", f"## {family.capitalize()}", "", "| id | noun | amount | present from | definition |"]
        lines += ["| --- | --- | --- | --- | --- |", *(row(one) for one in DESCRIPTORS if one.family == family)]
    return "\n".join(lines) + "\n"


def row(one: Descriptor) -> str:
    """One descriptor's row."""
    described = one.described.replace("|", "\\|")
    return f"| `{one.id}` | {one.noun} | {one.unit} | {one.present_from:g} | {described} |"


def main() -> int:
    """Write the page, or with ``--check`` fail if it is stale."""
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE.name} is stale: run `make docs-reference` and commit the result.", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
