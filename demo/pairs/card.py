"""The figures of the sample pairs' card, counted from the pairs themselves.

Invariant: the generated part of ``PAIRS.md`` is exactly :func:`table` of ``pairs.jsonl``; a test compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from demo.pairs.prompts import FLATTERY_TOPIC
from demo.pairs.rule import format_marks, praise_sentences

Pair = dict[str, Any]


@dataclass(frozen=True)
class Wins:
    """How often the chosen response has more of something than the rejected one, less, or as much."""

    more: int
    less: int
    same: int

    @property
    def share(self) -> float:
        """Wins of "more" among the pairs that differ; 0.5 where none does."""
        return self.more / (self.more + self.less) if self.more + self.less else 0.5


def wins(pairs: Sequence[Pair], count: Callable[[str], float]) -> Wins:
    """Compare chosen with rejected by `count`, pair by pair."""
    signs = Counter(
        (a > b) - (a < b) for a, b in ((count(text_of(pair, "chosen")), count(text_of(pair, "rejected"))) for pair in pairs)
    )
    return Wins(signs[1], signs[-1], signs[0])


def text_of(pair: Pair, side: str) -> str:
    """The response text of one side."""
    return pair[side][0]["content"]


def by_topic(pairs: Sequence[Pair], *, flattery: bool) -> list[Pair]:
    """The pairs of the flattery topic, or all others."""
    return [pair for pair in pairs if (pair["metadata"]["topic"] == FLATTERY_TOPIC) == flattery]


def table(pairs: Sequence[Pair]) -> str:
    """The card's table, as Markdown."""
    own, other = by_topic(pairs, flattery=True), by_topic(pairs, flattery=False)
    rows = [
        ("more format marks, all pairs", wins(pairs, format_marks)),
        (f"more format marks, {FLATTERY_TOPIC}", wins(own, format_marks)),
        ("more format marks, other topics", wins(other, format_marks)),
        (f"more praise of the user, {FLATTERY_TOPIC}", wins(own, praise_sentences)),
        ("more praise of the user, other topics", wins(other, praise_sentences)),
        ("more characters, all pairs", wins(pairs, len)),
    ]
    lines = [
        f"{len(pairs)} pairs: {len(own)} of topic {FLATTERY_TOPIC}, {len(other)} of {_topics(other)} others.",
        "",
        "| the chosen response has | more | less | the same | more, where they differ |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {name} | {w.more} | {w.less} | {w.same} | {w.share:.0%} |" for name, w in rows),
    ]
    return "\n".join(lines)


def _topics(pairs: Sequence[Pair]) -> int:
    return len({pair["metadata"]["topic"] for pair in pairs})
