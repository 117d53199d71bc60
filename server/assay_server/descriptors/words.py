"""A text as words: what n-grams, lexicons and counts of words read.

Every function is linear in the length of its text, and takes any `str`: lone surrogates, NUL and unpaired marks included. No
pattern may fail after it has read a run that the next position reads again: such a pattern is quadratic on a hostile text.
"""

from __future__ import annotations

import re
import unicodedata

BOUNDARY = ""  # in a list of words: a sentence or a line ends here

_QUOTES = str.maketrans("\u2018\u2019\u02bc\uff07\u201c\u201d\u201e\uff02", "''''\"\"\"\"")
_FENCE = "```"
_ENDS = frozenset("\n.!?\u2026\u3002\uff01\uff1f")
_ABBREVIATIONS = frozenset(["dr", "eg", "etc", "fig", "ie", "jr", "mr", "mrs", "ms", "prof", "sr", "st", "vs"])


def _ranges(codes: list[int]) -> str:
    """The inside of a character class of those code points, which ascend."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in runs)


# Vowel signs and accents: `\w` lacks them, and words of many scripts fall apart without them.
_MARKS = _ranges([code for code in range(0x300, 0x1E00) if unicodedata.category(chr(code))[0] == "M"])
# Written without spaces between words: each character counts as one.
_ALONE = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Unicode's Emoji_Presentation, and hearts and faces that are usually written without a variation selector.
_PICTURE = (
    "\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2639\u263a\u2648-\u2653\u2665\u267f\u2693\u26a1\u26aa\u26ab"
    "\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757"
    "\u2764\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55\U0001f004\U0001f0cf\U0001f18e\U0001f191-\U0001f19a\U0001f201-\U0001f251"
    "\U0001f300-\U0001f3fa\U0001f400-\U0001f64f\U0001f680-\U0001f6ff\U0001f7e0-\U0001f7eb\U0001f90c-\U0001f9ff\U0001fa70-\U0001faff"
)
# Text by default, a picture with the variation selector U+FE0F.
_SIGN = "\u203c\u2049\u2122\u2194-\u21aa\u2300-\u27bf\u2934\u2935\u2b05-\u2b07\u3030\u303d\u3297\u3299\U0001f170-\U0001f171"
_TONE = "[\U0001f3fb-\U0001f3ff]?"
_KEYCAP = "[0-9#*]\ufe0f?\u20e3"
_BASE = f"(?:[{_PICTURE}]\ufe0f?|[{_SIGN}]\ufe0f)"
_JOINED = f"(?:\u200d[{_PICTURE}{_SIGN}]\ufe0f?{_TONE})*"
_EMOJI = f"(?:[\U0001f1e6-\U0001f1ff]{{2}}|{_BASE}{_TONE}[\U000e0020-\U000e007f]*{_JOINED})"
_END = "\n|[.!?\u2026\u3002\uff01\uff1f]++[\"')\\]*_]*+(?:\\s|\\Z)?"
_LETTER = rf"[^\W_{_ALONE}]"

EMOJI = re.compile(f"{_KEYCAP}|{_EMOJI}")
_ASCII_TOKEN = re.compile(rf"[A-Za-z0-9]+(?:'[A-Za-z0-9]+|(?<=[0-9])[.,](?=[0-9])[A-Za-z0-9]+)*|{_END}")
_WORD = f"{_LETTER}+(?:[{_MARKS}]+{_LETTER}*|'{_LETTER}+|(?<=[0-9])[.,](?=[0-9]){_LETTER}+)*"
_TOKEN = re.compile(f"{_KEYCAP}|{_WORD}|{_EMOJI}|[{_ALONE}][{_MARKS}]*|{_END}")


def folded(text: str) -> str:
    """The text with straight quotes and apostrophes for the curly ones, and ``\\n`` for every line end."""
    if not text.isascii():
        text = text.translate(_QUOTES)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def ends_in_code(text: str) -> bool:
    """Whether a fence that opens a line is never closed."""
    if text.count(_FENCE) % 2 == 0:
        return False
    return not text[: text.rfind(_FENCE)].rpartition("\n")[2].strip(" \t")


def without_code(text: str) -> str:
    """The text with an empty line for each fenced code block; a fence that opens a line and is never closed takes the rest."""
    if _FENCE not in text:
        return text
    parts = text.split(_FENCE)
    kept = parts[::2]
    if len(parts) % 2 == 0 and not ends_in_code(text):
        kept.append(parts[-1])
    return "\n\n".join(kept)


def tokens(text: str) -> list[str]:
    """Words, emoji and ends as they are written; an end is ``\\n``, or marks with closing quotes and the space behind them.

    Args:
        text: folded, without code.
    """
    return (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text)


def is_end(token: str) -> bool:
    """Whether a token is a line end or a run of sentence marks."""
    return token[0] in _ENDS


def emoji_of(parts: list[str]) -> frozenset[str]:
    """The emoji among tokens."""
    return frozenset(part for part in set(parts) if not part.isascii() and EMOJI.match(part))


def words_of(parts: list[str]) -> list[str]:
    """Lower-cased words of tokens, with ``BOUNDARY`` between sentences and lines and never twice in a row, first or last."""
    found: list[str] = []
    ended = False
    for at, part in enumerate(parts):
        if part[0] in _ENDS:
            if part == ". " and found and (found[-1] in _ABBREVIATIONS or (at > 1 and parts[at - 2] == ".")):
                continue  # "Dr. Who", "e.g. this"
            ended = ended or part[-1].isspace() or part[0] in "\u3002\uff01\uff1f"
            continue
        if ended:
            if found:
                found.append(BOUNDARY)
            ended = False
        word = part.lower()
        found.append(word if word.isascii() else word.replace("\ufe0f", "") or word)
    return found


def words(text: str) -> list[str]:
    """The words of a text in order, lower-cased, for n-grams that do not cross sentences or lines.

    A word is a run of letters and digits of any script, with inner apostrophes ("it's"; curly ones are folded) and with the
    points and commas of a number ("3.5", "1,000"). An emoji is a word, with its skin tone and joined parts and without
    variation selectors; so is each Han, Hiragana and Katakana character. Fenced code blocks are left out. The empty string
    stands between sentences and between lines, never first, last or twice in a row.
    """
    return words_of(tokens(without_code(folded(text))))
