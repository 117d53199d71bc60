"""Counts of Markdown in a text. Linear in its length: each pattern reads a run once, or gives up where it began."""

from __future__ import annotations

import re

from assay_server.descriptors.words import ends_in_code

# FastChat's add_markdown_info deletes what stands between the fences, not the fences: a marker behind them opens no line.
_BLOCK = re.compile(r"```[^`]*+```")
_EMPTIED = "``````"
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
# Arena's `^\s*` may begin on an empty line above: quadratic where there are many. From its own line each marker is found too.
_ORDERED = re.compile(r"^[^\S\n]*+\d++\.\s", re.MULTILINE)
_UNORDERED = re.compile(r"^[^\S\n]*+[-*+]\s", re.MULTILINE)
_STARS = re.compile(r"\*\*[^*\n]++\*\*")
_BARS = re.compile(r"__[^_\n]++__")

_CODE = re.compile(r"(?<!`)`(?!`)[^`\n]++`(?!`)")
_LINK = re.compile(r"\[[^\[\]\n]*+\]\([^()\s]++|(?:https?://|www\.)[^\s()\[\]<>]++")
_DOLLARS = re.compile(r"\$[^$\n]++\$")
_FORMULA = re.compile(r"\\[(\[]|\\begin\{")
_DASH = re.compile(r"(?<=[^\W_])--(?=[^\W_])|(?<=[ \t])--(?=[ \t])")
_QUOTED = re.compile(r'"([^"\n]++)"')
_DIVIDES = frozenset("|-: \t")


def arena_counts(text: str) -> dict[str, float]:
    """Headings, list items and bold spans by the definitions of record."""
    if "```" in text:
        text = _BLOCK.sub(_EMPTIED, text)
    ordered = len(_ORDERED.findall(text)) if "." in text else 0
    unordered = len(_UNORDERED.findall(text)) if "-" in text or "*" in text or "+" in text else 0
    bold = len(_STARS.findall(text)) if "**" in text else 0
    return {
        "header": len(_HEADER.findall(text)) if "#" in text else 0,
        "list": ordered + unordered,
        "ordered-list": ordered,
        "unordered-list": unordered,
        "bold": bold + len(_BARS.findall(text)) if "__" in text else bold,
    }


def markup_counts(text: str, whole: str) -> dict[str, float]:
    """The other counts.

    Args:
        text: the folded text without code blocks.
        whole: the folded text.
    """
    tables, rules, quoted_lines, paragraphs = _line_counts(text)
    return {
        "table": tables,
        "rule": rules,
        "code-block": whole.count("```") // 2 + ends_in_code(whole) if "```" in whole else 0,
        "inline-code": len(_CODE.findall(text)) if "`" in text else 0,
        "link": len(_LINK.findall(text)) if "](" in text or "://" in text or "www." in text else 0,
        "latex": _formulas(text),
        "em-dash": text.count("\u2014") + (len(_DASH.findall(text)) if "--" in text else 0),
        "quotation": quoted_lines + (sum(len(span.split(None, 2)) > 2 for span in _QUOTED.findall(text)) if '"' in text else 0),
        "paragraphs": paragraphs,
    }


def _formulas(text: str) -> int:
    """LaTeX formulas."""
    found = len(_FORMULA.findall(text)) if "\\" in text else 0
    if "$" in text:
        found += text.count("$$") // 2
        found += sum(any(mark in span for mark in "\\^_{") for span in _DOLLARS.findall(text.replace("$$", " ")))
    return found


def _line_counts(text: str) -> tuple[int, int, int, int]:
    """Tables, horizontal rules, quoted lines and paragraphs."""
    tables = rules = quoted = paragraphs = 0
    below_empty = True
    for line in text.split("\n"):
        held = line.strip()
        if not held:
            below_empty = True
            continue
        paragraphs += below_empty
        first = held[0]
        if first in "|-:*_":
            marks = held.replace(" ", "").replace("\t", "")
            if not marks.strip(first) and first in "-*_" and len(marks) > 2:
                rules += below_empty or first != "-"
            elif "|" in marks and "---" in marks and _DIVIDES.issuperset(marks):
                tables += 1
        quoted += first == ">"
        below_empty = False
    return tables, rules, quoted, paragraphs
