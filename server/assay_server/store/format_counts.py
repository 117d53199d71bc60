"""What a response looks like: counts of its Markdown, which effects may be controlled for (METHOD.md §3.5)."""

import re

import numpy as np
from numpy.typing import NDArray

FORMATS = ("bold", "list_items", "headings", "code_fences")
_PATTERNS = (
    re.compile(r"\*\*(?=\S)[^*\n]+?(?<=\S)\*\*|__(?=\S)[^_\n]+?(?<=\S)__"),
    re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE),
    re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE),
    re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE),
)


def format_counts(text: str) -> NDArray[np.int32]:
    """Bold spans, list items, headings and fence lines of a text, [formats] in the order of ``FORMATS``."""
    return np.array([sum(1 for _ in pattern.finditer(text)) for pattern in _PATTERNS], np.int32)
