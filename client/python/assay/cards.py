"""What an audit found as cards: the few statements that somebody can act on, in sentences, as the report shows them.

    for card in client.cards(audit):
        print(card.title, card.sentence, card.decide)

Names in a card's texts, and its snippets, are the data's own.
"""

from dataclasses import dataclass
from enum import Enum

from assay.v1 import audit_pb2
from assay.wire import from_wire


class CardKind(Enum):
    """What a card is about."""

    LENGTH = "length"
    LESSON = "lesson"
    NOT_CAUSE = "not_cause"
    NOT_ESTABLISHED = "not_established"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A window of one response of one pair.

    Attributes:
        row: the pair's place in the dataset, from 0.
        side: "chosen" or "rejected".
        text: the window, with an ellipsis where something is cut off.
        marks: where the concept fires, characters [start, end) of `text`, ascending.
        differs: words that the other response does not have there.
    """

    row: int
    side: str
    text: str
    marks: tuple[tuple[int, int], ...]
    differs: tuple[tuple[int, int], ...]

    @classmethod
    def from_proto(cls, message: audit_pb2.Snippet) -> "Snippet":
        """From the wire."""
        side = "rejected" if message.side == audit_pb2.Snippet.SIDE_REJECTED else "chosen"
        marks, differs = (tuple((one.start, one.end) for one in spans) for spans in (message.marks, message.differs))
        return cls(message.row, side, message.text, marks, differs)


@dataclass(frozen=True, slots=True)
class Card:
    """One statement of what an audit found.

    Attributes:
        id: of the hypothesis that leads it, "global-3"; "length" and "rest" have none.
        kind: what it is about; None for one that this client does not know.
        title: in a few words.
        sentence: in full.
        exceptions: where it does not hold; "" if nothing is known.
        sureness: how sure it is.
        carried: by how many pairs it is carried; "" if that was not measured.
        members: names of what it is made of, the lead first.
        hypothesis: "audits/{audit}/hypotheses/{id}" of the lead; "" where none leads.
        concept: name of the lead's concept.
        condition: name of its condition; "" for everywhere.
        snippets: where it shows, two at most.
        decide: the command that takes it out of the learning signal; "" where there is nothing to decide.
    """

    id: str
    kind: CardKind | None
    title: str
    sentence: str
    exceptions: str
    sureness: str
    carried: str
    members: tuple[str, ...]
    hypothesis: str
    concept: str
    condition: str
    snippets: tuple[Snippet, ...]
    decide: str

    @classmethod
    def from_proto(cls, message: audit_pb2.Card) -> "Card":
        """From the wire."""
        return cls(
            id=message.id,
            kind=from_wire(CardKind, audit_pb2.Card.Kind, "KIND", message.kind),
            title=message.title,
            sentence=message.sentence,
            exceptions=message.exceptions,
            sureness=message.sureness,
            carried=message.carried,
            members=tuple(message.members),
            hypothesis=message.hypothesis,
            concept=message.concept,
            condition=message.condition,
            snippets=tuple(map(Snippet.from_proto, message.snippets)),
            decide=message.decide,
        )
