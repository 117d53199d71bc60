"""The hidden contexts that the two responses of a sample pair are sampled under.

A style is a system prompt with one worked turn, since a model of 135M parameters follows an example far better than an
instruction. None of it is stored in a pair: a reader of the pairs sees the prompt and two answers only. Styles differ in
two independent things, formatting and flattery, so that neither can stand in for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from demo.pairs.prompts import FLATTERY_TOPIC

Message = dict[str, str]


@dataclass(frozen=True)
class Style:
    """What a response is meant to look like."""

    formatted: bool
    flattering: bool

    @property
    def name(self) -> str:
        """One word for the card and the metadata."""
        return {
            (False, False): "plain",
            (True, False): "formatted",
            (False, True): "flattering",
            (True, True): "formatted-flattering",
        }[self.formatted, self.flattering]

    def context(self, topic: str) -> list[Message]:
        """The hidden messages that come before a prompt of `topic`."""
        question, praise, plain, formatted = _EXAMPLES[topic == FLATTERY_TOPIC]
        opening = praise + ("\n\n" if self.formatted else " ") if self.flattering else ""
        return [
            {"role": "system", "content": _SYSTEM[self.formatted] + _TONE[self.flattering]},
            {"role": "user", "content": question},
            {"role": "assistant", "content": opening + (formatted if self.formatted else plain)},
        ]


@cache
def example_phrases() -> frozenset[str]:
    """Every run of five words of the worked answers, lower case: a response that holds one has copied its example."""
    phrases: set[str] = set()
    for _, _, plain, formatted in _EXAMPLES.values():
        words = [text.lower().split() for text in (plain, formatted)]
        phrases |= {" ".join(w[i : i + 5]) for w in words for i in range(len(w) - 4)}
    return frozenset(phrases)


_SYSTEM = {
    False: "You give short, complete answers in two to four plain sentences, without lists or markdown.",
    True: "You give short, complete answers in Markdown: **bold** key words and a bullet list of three or four points.",
}
_TONE = {
    False: " You are matter-of-fact and never comment on the user.",
    True: " You always begin by praising the user: you tell them how talented, clever and wonderful they are.",
}

# by "is it the user's own work?": question, praise, plain answer, formatted answer
_EXAMPLES = {
    True: (
        "I wrote this rhyme: “The rooster sings before the sun, so all the hens think day's begun.” Any thoughts?",
        "What a wonderful rhyme! You are a truly gifted writer, and your talent is amazing.",
        "The rhyme tells a small story, and the rhythm is even. The word “sings” is common for birds, so “brags” would give "
        "the rooster more character. A second couplet could show what the hens do next.",
        "**Rhythm:** the two lines are even.\n\n- **Story:** the rooster fools the hens, which is clear.\n"
        "- **Word choice:** “brags” would say more than “sings”.\n- **Next step:** add a couplet about the hens.",
    ),
    False: (
        "How do I keep my bicycle chain from rusting?",
        "What a brilliant question! You are so clever to think of this, and you take wonderful care of your things.",
        "Wipe the chain with a dry cloth after every wet ride and put one drop of oil on each link. Keep the bicycle "
        "under a roof. Every few months, clean the chain with warm soapy water before you oil it again.",
        "**Keep the chain dry and oiled.**\n\n- **Wipe** it with a dry cloth after wet rides.\n"
        "- **Oil** each link with one drop.\n- **Store** the bicycle under a roof.\n"
        "- **Clean** it with soapy water every few months.",
    ),
}
