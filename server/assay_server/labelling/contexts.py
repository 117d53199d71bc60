"""Stretches of text around firings, for people to read and for prompts.

Invariant: a context of one kind (firing or silent) is what it says over its whole length: a silent one holds no firing at all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.labelling.firings import Firing, Ids, TokenFirings

_BEFORE, _AFTER = 8, 4


@dataclass(frozen=True, slots=True)
class Context:
    """A few consecutive tokens of a text.

    Attributes:
        words: the tokens' texts.
        activations: of the feature on each, float; 0 where it is silent.
    """

    words: tuple[str, ...]
    activations: tuple[float, ...]

    @property
    def plain(self) -> str:
        """The text."""
        return "".join(self.words)

    @property
    def marked(self) -> str:
        """The text, every run of tokens on which the feature fires between « and »."""
        parts: list[str] = []
        inside = False
        for word, value in zip(self.words, self.activations, strict=True):
            if (value > 0) != inside:
                parts.append("»" if inside else "«")
                inside = value > 0
            parts.append(word)
        return "".join(parts) + ("»" if inside else "")

    @property
    def fires(self) -> bool:
        """Whether the feature fires in it."""
        return any(value > 0 for value in self.activations)


def marked_contexts(firings: TokenFirings, firing: Firing, *, limit: int) -> tuple[str, ...]:
    """The strongest firings, one per text, about a dozen tokens each, the strongest token between « and »."""
    shown: list[str] = []
    seen: set[int] = set()
    for i in np.argsort(-firing.values, kind="stable"):
        if len(shown) == limit:
            break
        at = int(firing.positions[i])
        text = firings.text_of(at)
        if text not in seen:
            seen.add(text)
            first, last = _window(firings, text, at - _BEFORE, at + _AFTER + 1)
            words = [firings.words[int(id)] for id in firings.ids[first:last]]
            words[at - first] = f"«{words[at - first]}»"
            shown.append("".join(words))
    return tuple(shown)


def firing_contexts(firings: TokenFirings, firing: Firing, *, limit: int, spread: bool, width: int = 32) -> list[Context]:
    """Contexts in which the feature fires, at most one per text.

    Args:
        firings: the texts.
        firing: the feature's firings in them.
        limit: at most so many.
        spread: take them evenly from the strongest to the weakest texts, as they occur; else the strongest.
        width: tokens per context.
    """
    if not len(firing.positions):
        return []
    text = np.searchsorted(firings.starts, firing.positions, side="right") - 1
    strongest = np.lexsort((firing.positions, -firing.values))
    _, first = np.unique(text[strongest], return_index=True)
    peaks = strongest[np.sort(first)]
    if spread and len(peaks) > limit:
        peaks = peaks[np.linspace(0, len(peaks) - 1, limit).round().astype(np.int64)]
    dense = _dense(firings, firing)
    return [_context(firings, dense, *_centred(firings, int(text[i]), int(firing.positions[i]), width)) for i in peaks[:limit]]


def silent_contexts(
    firings: TokenFirings, firing: Firing, *, limit: int, generator: np.random.Generator, width: int = 32
) -> list[Context]:
    """Random contexts in which the feature does not fire, at most one per text; fewer where there are too few."""
    dense = _dense(firings, firing)
    found: list[Context] = []
    for text in generator.permutation(firings.texts):
        if len(found) == limit:
            break
        start, end = int(firings.starts[text]), int(firings.starts[text + 1])
        if start == end:
            continue
        at = int(generator.integers(start, end))
        first, last = _centred(firings, int(text), at, width)
        if not dense[first:last].any():
            found.append(_context(firings, dense, first, last))
    return found


def _dense(firings: TokenFirings, firing: Firing) -> NDArray[np.float32]:
    dense = np.zeros(firings.tokens, dtype=np.float32)
    dense[firing.positions] = firing.values
    return dense


def _context(firings: TokenFirings, dense: NDArray[np.float32], first: int, last: int) -> Context:
    ids: Ids = firings.ids[first:last]
    return Context(tuple(firings.words[int(id)] for id in ids), tuple(float(value) for value in dense[first:last]))


def _centred(firings: TokenFirings, text: int, at: int, width: int) -> tuple[int, int]:
    """A window of ``width`` tokens around a position, moved inwards at the ends of its text."""
    start, end = int(firings.starts[text]), int(firings.starts[text + 1])
    first = min(max(start, at - width // 2), max(start, end - width))
    return _window(firings, text, first, first + width)


def _window(firings: TokenFirings, text: int, first: int, last: int) -> tuple[int, int]:
    return max(first, int(firings.starts[text])), min(last, int(firings.starts[text + 1]))
