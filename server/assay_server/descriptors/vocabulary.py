"""The descriptors: what a response is asked for that needs no model, with the definition that each keeps.

A change of a definition, of a lexicon or of the order is a new ``VERSION``; a test holds a digest of all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = "assay.descriptors/1"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One measurable property of a response's text; the concepts ``text/{id}`` and ``text/more-{id}``."""

    id: str
    noun: str  # in sentences, lower case
    unit: str  # what the amount counts
    family: str  # one word for grouping
    present_from: float  # a response shows it where its amount is at least this
    described: str  # definition and source, one sentence


_ARENA = "code blocks are emptied first (FastChat's `add_markdown_info`)"
_LEXICON = "`lexicons.json`"

DESCRIPTORS: tuple[Descriptor, ...] = (
    Descriptor("header", "headings", "headings", "formatting", 1, rf"Matches of `^#{{1,6}}\s` at line starts; {_ARENA}."),
    Descriptor(
        "list", "lists", "items", "formatting", 2, "Ordered and unordered list items together (FastChat's `add_markdown_info`)."
    ),
    Descriptor(
        "ordered-list", "numbered lists", "items", "formatting", 2, rf"Matches of `^\s*\d+\.\s` at line starts; {_ARENA}."
    ),
    Descriptor(
        "unordered-list", "bullet lists", "items", "formatting", 2, rf"Matches of `^\s*[-*+]\s` at line starts; {_ARENA}."
    ),
    Descriptor("bold", "bold text", "spans", "formatting", 1, rf"Matches of `\*\*[^*\n]+\*\*` and of `__[^_\n]+__`; {_ARENA}."),
    Descriptor(
        "table",
        "tables",
        "tables",
        "formatting",
        1,
        "Lines that separate a table's head from its body: only `|`, `-`, `:` and blanks.",
    ),
    Descriptor(
        "rule",
        "horizontal rules",
        "rules",
        "formatting",
        1,
        "Lines of at least three `-`, `*` or `_` and nothing else; of `-` only below an empty line.",
    ),
    Descriptor("code-block", "code blocks", "blocks", "formatting", 1, "Pairs of ` ``` `; one that is never closed counts."),
    Descriptor(
        "inline-code", "inline code", "spans", "formatting", 1, "Spans between two backticks on a line, outside code blocks."
    ),
    Descriptor(
        "link",
        "links",
        "links",
        "formatting",
        1,
        "Markdown links, and addresses that begin with `http://`, `https://` or `www.`.",
    ),
    Descriptor(
        "latex",
        "LaTeX formulas",
        "formulas",
        "formatting",
        1,
        r"`\(`, `\[`, `\begin{`, pairs of `$$`, and spans between two `$` on a line that hold `\`, `^`, `_` or `{`.",
    ),
    Descriptor(
        "emoji",
        "emoji",
        "emoji",
        "formatting",
        1,
        "Emoji (Unicode's Emoji_Presentation, or with U+FE0F); joined ones count once.",
    ),
    Descriptor("emoji-end", "emoji at the end", "emoji", "formatting", 1, "Emoji that nothing but blanks and marks follows."),
    Descriptor("em-dash", "em dashes", "dashes", "formatting", 1, "U+2014, and `--` between two blanks or two letters."),
    Descriptor(
        "quotation",
        "quotations",
        "quotations",
        "formatting",
        1,
        "Spans of three or more words between double quotes on a line, and lines that begin with `>`.",
    ),
    Descriptor("paragraphs", "separate paragraphs", "paragraphs", "length", 3, "Blocks of text between empty lines."),
    Descriptor("length", "a long text", "words", "length", 200, "Words outside code blocks, as n-grams read them."),
    Descriptor(
        "sentence-length", "long sentences", "words", "length", 20, "Mean words per sentence; a line end ends a sentence."
    ),
    Descriptor(
        "reading-grade",
        "demanding prose",
        "school years",
        "style",
        12,
        "0.39 words per sentence + 11.8 syllables per word - 15.59, at least 0 (Kincaid et al. 1975); syllables: runs of vowels.",
    ),
    Descriptor(
        "capitals",
        "words in capitals",
        "words",
        "style",
        2,
        "Words of four or more letters, all capital; shorter ones are mostly acronyms.",
    ),
    Descriptor(
        "exclamation", "exclamation marks", "marks", "style", 1, "Exclamation marks that end a sentence; repeated ones count."
    ),
    Descriptor("question", "questions", "questions", "style", 1, "Runs of marks with a question mark that end a sentence."),
    Descriptor(
        "closing-question",
        "a closing question",
        "yes or no",
        "style",
        1,
        "The text ends with a question mark, but for quotes, brackets and emoji.",
    ),
    Descriptor(
        "steps",
        "numbered steps",
        "steps",
        "style",
        2,
        '"Step" before a number, and sentences that begin with an ordinal such as "first", "secondly" or "finally".',
    ),
    Descriptor("refusal", "a refusal", "phrases", "stance", 1, f"A phrase of refusal in the first two sentences; {_LEXICON}."),
    Descriptor("apology", "an apology", "phrases", "stance", 1, f"Phrases of apology; {_LEXICON}."),
    Descriptor(
        "hedge",
        "hedging",
        "phrases",
        "stance",
        2,
        f"Words that hold back commitment, after the classes of Hyland (2005), *Metadiscourse*; {_LEXICON}.",
    ),
    Descriptor(
        "praise", "praise of the user", "phrases", "stance", 1, f"Praise of the user, the question or their work; {_LEXICON}."
    ),
    Descriptor(
        "agreement", "an agreeing opening", "phrases", "stance", 1, f"The text begins by agreeing or complying; {_LEXICON}."
    ),
    Descriptor("disagreement", "a disagreeing opening", "phrases", "stance", 1, f"The text begins by disagreeing; {_LEXICON}."),
    Descriptor("first-person", "the first person", "words", "stance", 2, f"Pronouns of the first person singular; {_LEXICON}."),
    Descriptor("second-person", "direct address", "words", "stance", 2, f"Pronouns of the second person; {_LEXICON}."),
    Descriptor("anecdote", "a personal anecdote", "phrases", "stance", 1, f"Phrases that open an own story; {_LEXICON}."),
    Descriptor("as-an-ai", "a mention of being an AI", "phrases", "stance", 1, f"The writer calls itself a machine; {_LEXICON}."),
    Descriptor("enthusiasm", "enthusiasm", "phrases", "stance", 1, f"Words of delight; {_LEXICON}."),
    Descriptor("warning", "warnings", "phrases", "stance", 1, f"Cautions, disclaimers, referrals to professionals; {_LEXICON}."),
    Descriptor("more-help", "an offer of more help", "phrases", "stance", 1, f"Invitations to ask on; {_LEXICON}."),
    Descriptor("british", "British spelling", "words", "language", 1, f"Spellings of Britain, not America; {_LEXICON}."),
    Descriptor("american", "American spelling", "words", "language", 1, f"Spellings of America, not Britain; {_LEXICON}."),
    Descriptor(
        "other-language",
        "another language than the prompt's",
        "yes or no",
        "language",
        1,
        "Script, or for Latin stop words, of the two texts' beginnings clearly differ; 0 where either is unclear.",
    ),
    Descriptor(
        "repetition",
        "repetition",
        "share of 3-grams",
        "style",
        0.1,
        "Share of the text's 3-grams of words within sentences that occurred earlier in it.",
    ),
    Descriptor(
        "echo",
        "echoes of the prompt",
        "share of 3-grams",
        "style",
        0.2,
        "Share of the text's 3-grams of words within sentences that occur in the prompt.",
    ),
    Descriptor(
        "truncation",
        "a cut-off ending",
        "yes or no",
        "length",
        1,
        "At least four words and no closing mark, bracket, quote or emoji, unless the last line is a list item, heading, table"
        " row or link; or an open code block.",
    ),
)

INDEX: Mapping[str, int] = MappingProxyType({one.id: column for column, one in enumerate(DESCRIPTORS)})
NOUNS: Mapping[str, str] = MappingProxyType({one.id: one.noun for one in DESCRIPTORS})
_PRESENT_FROM = tuple(one.present_from for one in DESCRIPTORS)


def by_id(identifier: str) -> Descriptor:
    """The descriptor of that id.

    Raises:
        KeyError: no descriptor has it.
    """
    return DESCRIPTORS[INDEX[identifier]]


def present(amounts: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which amounts, [..., D], suffice for the descriptor to be shown, [..., D]."""
    return amounts >= _PRESENT_FROM
