"""Whether two texts are clearly written in different languages.

By script where the scripts differ; between languages of the Latin script by lists of frequent words. Conservative: a text too
short or too mixed to tell has no language, and nothing differs from it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import chain

_HEAD = 4_000  # characters that are read
_LETTERS = 12  # fewer are too few to tell a script
_DENSE_LETTERS = 4  # the same where a letter is a word or a syllable
_SHARE = 0.7  # of the letters in one script
_STOPS = 4  # words that tell a language
_STOP_SHARE = 0.15  # of all words

# First code points of blocks in ascending order; "" is no script that counts.
_BLOCKS: tuple[tuple[int, str], ...] = (
    (0x41, "latin"), (0x250, ""), (0x370, "greek"), (0x400, "cyrillic"), (0x530, "armenian"), (0x590, "hebrew"),
    (0x600, "arabic"), (0x700, ""), (0x900, "devanagari"), (0x980, "bengali"), (0xA00, "gurmukhi"), (0xA80, "gujarati"),
    (0xB00, ""), (0xB80, "tamil"), (0xC00, "telugu"), (0xC80, "kannada"), (0xD00, "malayalam"), (0xD80, ""), (0xE00, "thai"),
    (0xE80, ""), (0x10A0, "georgian"), (0x1100, "hangul"), (0x1200, ""), (0x1E00, "latin"), (0x1F00, "greek"), (0x2000, ""),
    (0x3040, "kana"), (0x3100, ""), (0x3400, "han"), (0xA000, ""), (0xAC00, "hangul"), (0xD7B0, ""), (0xF900, "han"),
    (0xFB00, ""), (0x20000, "han"), (0x30000, ""),
)  # fmt: skip
_FIRSTS = [first for first, _ in _BLOCKS]
_DENSE = frozenset({"han", "kana", "hangul"})

_FREQUENT = {
    "english": "the and is of to that you it with for this are was have what how not be my your from can they would about",
    "french": "le les des une et est dans qui que pas pour sur vous avec ce cette je il elle sont mais nous ne au aux du votre",
    "german": "der die das und ist nicht ein eine mit ich auf zu den von für wie sie auch es dem im sich wird oder aber",
    "spanish": "el los las una y es por con para pero del más lo su muy está qué cómo se al como mi tu esta este son hay",
    "italian": "il che di è per sono della non gli nel questo anche più una con si da dei le come ho mi ma alla delle",
    "portuguese": "o não uma os do em você são é mais como ao isso um para com da que se mas por muito eu meu seu na no",
    "dutch": "het een van ik niet dat zijn op te voor je maar ook deze met er wat aan de en bij naar kan heb",
}
_WORDS = 800  # that are read
_LANGUAGES: dict[str, list[str]] = {}
for _language, _listed in _FREQUENT.items():
    for _word in _listed.split():
        _LANGUAGES.setdefault(_word, []).append(_language)


def language_of(text: str, words: Sequence[str]) -> str | None:
    """The script, or for Latin the language, of a text; none where it is not clear. Latin text of no listed language is none too.

    Args:
        text: without code.
        words: its words, lower-cased.
    """
    head = text[:_HEAD]
    script = "latin" if head.isascii() else _script(head)
    if script != "latin":
        return script
    return _latin(words[:_WORDS])


def _script(text: str) -> str | None:
    """The script of most letters. Japanese is written in two: kana tell it."""
    counted: Counter[str] = Counter()
    for letter, times in Counter(text).items():
        if letter.isalpha():
            counted[_BLOCKS[max(bisect_right(_FIRSTS, ord(letter)) - 1, 0)][1]] += times
    letters = counted.total()
    if counted["kana"] > 0.1 * (counted["kana"] + counted["han"]):
        counted["kana"] += counted.pop("han", 0)
    if not letters:
        return None
    script, most = counted.most_common(1)[0]
    enough = _DENSE_LETTERS if script in _DENSE else _LETTERS
    return script if script and most >= max(enough, _SHARE * letters) else None


def _latin(words: Sequence[str]) -> str | None:
    """The language whose frequent words stand out."""
    listed = _LANGUAGES.get
    counted = Counter(chain.from_iterable([languages for word in words if (languages := listed(word))]))
    if not counted:
        return None
    language = max(counted, key=counted.__getitem__)
    most = counted.pop(language)
    second = max(counted.values(), default=0)
    return language if most >= max(_STOPS, _STOP_SHARE * len(words), 1.5 * second) else None
