"""What counts as naming each edit. Written down, and committed, before any result was seen.

A descriptor counts whether the response shows it or has more of it. A word counts where its phrase holds one of the listed
phrases, whole words only. What merely goes along with an edit does not count: an apology does not name a refusal, a list does
not name numbered steps, a question does not name a closing one, and length names nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from assay_server.descriptors import NOUNS
from assay_server.descriptors.words import words


@dataclass(frozen=True)
class Expected:
    """Descriptors by id, and phrases, that name an edit."""

    descriptors: tuple[str, ...]
    phrases: tuple[str, ...] = ()

    def names(self, concept: str) -> bool:
        """Whether a concept's name ("text/bold", "text/more-bold", "word/many thanks") names the edit."""
        kind, _, id = concept.partition("/")
        if kind == "text":
            return id.removeprefix("more-") in self.descriptors
        return kind == "word" and self._holds(id)

    def said(self, text: str) -> bool:
        """Whether a title or a name in words says the edit: a descriptor's noun, or one of the phrases."""
        whole = " ".join(words(text))
        nouns = (" ".join(words(NOUNS[id])) for id in self.descriptors)
        return any(_within(noun, whole) for noun in nouns) or self._holds(text)

    def _holds(self, text: str) -> bool:
        whole = " ".join(words(text))
        return any(_within(" ".join(words(phrase)), whole) for phrase in self.phrases)


EXPECTED: dict[str, Expected] = {
    "bold": Expected(("bold",)),
    "bullet list": Expected(("unordered-list", "list")),
    "emoji": Expected(("emoji",), ("😊", "🎉", "👍")),
    "flattery": Expected(
        ("praise",),
        ("brilliant", "sharp mind", "thoughtful", "clever", "insight", "impressive", "admire", "intelligent"),
    ),
    "hedging": Expected(
        ("hedge",),
        ("perhaps", "maybe", "possible", "not entirely sure", "could be wrong", "might be", "seems possible"),
    ),
    "refusal opening": Expected(
        ("refusal",), ("can't help", "cannot assist", "not able to", "help with that", "assist with this", "this request")
    ),
    "capitals": Expected(("capitals",)),
    "closing question": Expected(
        ("closing-question",), ("make sense", "do you think", "would you like", "that sound", "tried so far", "start with")
    ),
    "anecdote": Expected(
        ("anecdote",),
        ("when i was", "my neighbor", "i remember", "friend of mine", "my grandmother", "took me", "my first", "one summer"),
    ),
    "numbered steps": Expected(("ordered-list", "steps"), ("step",)),
    "code fence": Expected(("code-block",)),
    "British spelling": Expected(
        ("british",), ("realise", "colour", "flavour", "organise", "neighbour", "favourite", "recognise", "behaviour")
    ),
    "agreement opener": Expected(
        ("agreement",), ("yes", "absolutely", "completely agree", "i agree", "you're right", "of course", "sure thing")
    ),
    "apology": Expected(("apology",), ("sorry", "apologies", "forgive me", "feel bad")),
    "em dash": Expected(("em-dash",)),
    "emoji at the end": Expected(("emoji-end", "emoji"), ("😊", "🎉", "👍", "🌟", "🙌")),
}


def _within(phrase: str, text: str) -> bool:
    return f" {phrase} " in f" {text} "
