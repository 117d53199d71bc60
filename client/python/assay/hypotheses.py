"""What an audit found: hypotheses, their effects, the pairs that speak for and against them, and what was decided.

    hypothesis.concept.label, hypothesis.condition        what chosen responses express more, and where
    hypothesis.effect.estimate                            controlled where something was controlled for, else raw
    hypothesis.raw.q, hypothesis.controlled               both, side by side
    hypothesis.supporting[0].pair.chosen                  evidence (of `Client.hypothesis`, not of `hypotheses`)

A label helps people find their way and is part of no test.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from fnmatch import fnmatchcase

from assay.audits import View
from assay.pairs import Message, Pair
from assay.times import utc
from assay.v1 import audit_pb2, pair_pb2
from assay.wire import from_wire


class DecisionMode(Enum):
    """What to do about a concept: take it out of the learning signal, put more of it in, or leave it."""

    EXPLAIN_AWAY = "explain_away"
    AMPLIFY = "amplify"
    KEEP = "keep"


class LengthVerdict(Enum):
    """What controlling for nuisances (length, by default) leaves of a raw finding."""

    EXPLAINED = "explained"
    WEAKENED = "weakened"
    UNCHANGED = "unchanged"


_FAMILIES = {
    "text/*": "text descriptors",
    "word/*": "words",
    "source/*": "sources",
    "*@max": "SAE features by their maximum",
}


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect and how sure it is.

    Attributes:
        estimate: global: mean of u over pairs, in [-1, 1]; conditioned: mean inside minus mean outside; controlled: the part
            that nuisances leave.
        low: lower bound at the audit's interval level.
        high: upper bound.
        z: estimate over its standard error, clustered by prompt.
        p: two-sided.
        q: Benjamini-Hochberg over everything that the view tested.
        q_by: Benjamini-Yekutieli over the same.
        p_max_t: family-wise by max-T sign flips; None where it was not made.
        reason: why it could not be tested, in a sentence; "" otherwise. Then p and q are 1.
    """

    estimate: float
    low: float
    high: float
    z: float
    p: float
    q: float
    q_by: float
    p_max_t: float | None
    reason: str

    @classmethod
    def from_proto(cls, message: audit_pb2.Effect) -> "Effect":
        """From the wire."""
        return cls(
            message.estimate,
            message.low,
            message.high,
            message.z,
            message.p,
            message.q,
            message.q_by,
            message.p_max_t if message.HasField("p_max_t") else None,
            message.reason,
        )


@dataclass(frozen=True, slots=True)
class ConceptRef:
    """What a hypothesis is about.

    Attributes:
        name: "feature/17", "cluster/3", "response-cluster/5" or the name of a stored concept; "feature/17@max" is the feature,
            present where its largest activation reaches a threshold instead of on enough tokens.
        label: a few words; "" where none is known.
        label_method: how the label was made.
        detection_score: how well it predicts where its features fire, 0.5 being chance; None where not measured.
        features: its features, strongest first; at most 64.
        size: features that it holds.
        named: what it is called by what can be seen of it; "" where nothing is known.
        named_kind: where `named` comes from: "descriptor", "words", "label", "metadata", "tokens"; "" for nowhere.
        named_share: how much of the concept `named` covers; None where not measured.
    """

    name: str
    label: str
    label_method: str
    detection_score: float | None
    features: tuple[int, ...]
    size: int
    named: str = ""
    named_kind: str = ""
    named_share: float | None = None

    @property
    def family(self) -> str:
        """The family of tests that it is corrected in, as `FamilySummary.title` says it; it is told by the name."""
        return next((title for pattern, title in _FAMILIES.items() if fnmatchcase(self.name, pattern)), "SAE concepts")

    @classmethod
    def from_proto(cls, message: audit_pb2.ConceptRef) -> "ConceptRef":
        """From the wire."""
        return cls(
            name=message.name,
            label=message.label,
            label_method=message.label_method,
            detection_score=message.detection_score if message.HasField("detection_score") else None,
            features=tuple(message.features),
            size=message.size,
            named=message.named,
            named_kind=message.named_kind,
            named_share=message.named_share if message.HasField("named_share") else None,
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """Where a hypothesis holds.

    Attributes:
        name: "data-cluster/7", "prompt-cluster/2", "metadata/topic=cooking", or the name of a concept of the prompt.
        label: a few words; "" where none is known.
        features: the features that tell it apart, strongest first; none for metadata.
        named: as in `ConceptRef`.
        named_kind: as in `ConceptRef`.
        named_share: as in `ConceptRef`.
    """

    name: str
    label: str
    features: tuple[int, ...]
    named: str = ""
    named_kind: str = ""
    named_share: float | None = None

    @classmethod
    def from_proto(cls, message: audit_pb2.Condition) -> "Condition":
        """From the wire."""
        share = message.named_share if message.HasField("named_share") else None
        return cls(message.name, message.label, tuple(message.features), message.named, message.named_kind, share)


@dataclass(frozen=True, slots=True)
class Highlight:
    """A stretch of a text on which a concept fires: characters [start, end), and its largest activation there."""

    start: int
    end: int
    value: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """One pair that speaks for or against a hypothesis.

    Attributes:
        row: the pair's place in the dataset, from 0.
        pair: the pair.
        disparity: the concept's signed disparity u in it, in [-1, 1].
        chosen: where the concept fires in the chosen response; empty without `highlights`.
        rejected: where it fires in the rejected response.
        strength: the concept's activation difference in it, chosen minus rejected, which evidence is ordered by; None in older
            audits.
    """

    row: int
    pair: Pair
    disparity: float
    chosen: tuple[Highlight, ...]
    rejected: tuple[Highlight, ...]
    strength: float | None = None

    @classmethod
    def from_proto(cls, message: audit_pb2.Evidence) -> "Evidence":
        """From the wire."""
        sides = [tuple(Highlight(one.start, one.end, one.value) for one in side) for side in (message.chosen, message.rejected)]
        strength = message.strength if message.HasField("strength") else None
        return cls(message.row, pair_from_proto(message.pair), message.disparity, sides[0], sides[1], strength)


@dataclass(frozen=True, slots=True)
class Decision:
    """A recorded decision on a hypothesis's concept.

    Attributes:
        name: "audits/{audit}/decisions/{id}".
        hypothesis: "audits/{audit}/hypotheses/{id}".
        mode: what is wanted.
        strength: how strongly, from 0; ignored by KEEP. None where the server left it out.
        note: why.
        author: who.
        create_time: when.
    """

    name: str
    hypothesis: str
    mode: DecisionMode | None
    strength: float | None
    note: str
    author: str
    create_time: datetime | None

    @classmethod
    def from_proto(cls, message: audit_pb2.Decision) -> "Decision":
        """From the wire."""
        return cls(
            name=message.name,
            hypothesis=message.hypothesis,
            mode=from_wire(DecisionMode, audit_pb2.Decision.Mode, "MODE", message.mode),
            strength=message.strength if message.HasField("strength") else None,
            note=message.note,
            author=message.author,
            create_time=utc(message, "create_time"),
        )


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One tested statement: chosen responses express a concept more (or less), everywhere or under a condition.

    Attributes:
        name: "audits/{audit}/hypotheses/{id}"; "" for one that was only stated.
        view: how it was made.
        concept: what it is about.
        condition: where; None in the global view.
        raw: the effect as the data shows it.
        controlled: with nuisances controlled for; None where nothing was.
        finding: q at most the audit's level, and split-half consistent where the view asks it.
        cohen_d: of a conditioned hypothesis; 0 in the global view.
        consistent: whether both halves of the data show the same sign.
        delta_min: the smaller of both halves' absolute effects.
        inside: pairs inside the condition (all pairs in the global view).
        outside: pairs outside.
        prompts: independent prompts that tell chosen from rejected on it.
        rank: place in its view, from 1.
        rank_first_half: its place by the first half of the data alone.
        rank_second_half: by the second.
        rank_stable: whether both halves place it near.
        supporting: pairs that carry it most; only from `Client.hypothesis` and `test`.
        contradicting: pairs that contradict it most.
        decision: what was decided about it last; None where nothing was.
        lesson: place, from 1 in order of importance, of the lesson of its view that a finding belongs to; 0 for none.
        lesson_z: where it leads its lesson, its z (in the global view beside the lessons before it); None elsewhere.
        lesson_stability: share of resamples of the prompts in which its lesson returned; None where none was looked for.
        length_verdict: what control leaves of it, where the raw effect is a finding; None elsewhere.
        only_chosen: pairs (inside the condition, where there is one) in which the chosen response expresses it more; None in
            older audits, as for the next three.
        only_rejected: pairs in which the rejected response does.
        carried_by: share of those pairs that makes half of the effect, taken from the largest activation difference in its
            direction; None where they show no effect in that direction.
        left_without_top: share of the effect left without the 5% of pairs with the largest activation difference.
        log_odds: of a word in the global view: its log-odds in chosen minus rejected responses, in nats; None elsewhere.
        log_odds_z: that over its standard error, clustered by prompt.
    """

    name: str
    view: View | None
    concept: ConceptRef
    condition: Condition | None
    raw: Effect
    controlled: Effect | None
    finding: bool
    cohen_d: float
    consistent: bool
    delta_min: float
    inside: int
    outside: int
    prompts: int
    rank: int
    rank_first_half: int
    rank_second_half: int
    rank_stable: bool
    supporting: tuple[Evidence, ...]
    contradicting: tuple[Evidence, ...]
    decision: Decision | None
    lesson: int = 0
    lesson_z: float | None = None
    lesson_stability: float | None = None
    length_verdict: LengthVerdict | None = None
    only_chosen: int | None = None
    only_rejected: int | None = None
    carried_by: float | None = None
    left_without_top: float | None = None
    log_odds: float | None = None
    log_odds_z: float | None = None

    @property
    def id(self) -> str:
        """The last part of its name: what `assay decide` takes."""
        return self.name.rpartition("/")[2]

    @property
    def effect(self) -> Effect:
        """The effect that decides: controlled where something was controlled for, else raw."""
        return self.controlled if self.controlled is not None else self.raw

    @classmethod
    def from_proto(cls, message: audit_pb2.Hypothesis) -> "Hypothesis":
        """From the wire."""
        return cls(
            name=message.name,
            view=from_wire(View, audit_pb2.View, "VIEW", message.view),
            concept=ConceptRef.from_proto(message.concept),
            condition=Condition.from_proto(message.condition) if message.HasField("condition") else None,
            raw=Effect.from_proto(message.raw),
            controlled=Effect.from_proto(message.controlled) if message.HasField("controlled") else None,
            finding=message.finding,
            cohen_d=message.cohen_d,
            consistent=message.consistent,
            delta_min=message.delta_min,
            inside=message.inside,
            outside=message.outside,
            prompts=message.prompts,
            rank=message.rank,
            rank_first_half=message.rank_first_half,
            rank_second_half=message.rank_second_half,
            rank_stable=message.rank_stable,
            supporting=tuple(map(Evidence.from_proto, message.supporting)),
            contradicting=tuple(map(Evidence.from_proto, message.contradicting)),
            decision=Decision.from_proto(message.decision) if message.HasField("decision") else None,
            lesson=message.lesson,
            lesson_z=message.lesson_z if message.HasField("lesson_z") else None,
            lesson_stability=message.lesson_stability if message.HasField("lesson_stability") else None,
            length_verdict=from_wire(LengthVerdict, audit_pb2.LengthVerdict, "LENGTH_VERDICT", message.length_verdict),
            only_chosen=message.only_chosen if message.HasField("only_chosen") else None,
            only_rejected=message.only_rejected if message.HasField("only_rejected") else None,
            carried_by=message.carried_by if message.HasField("carried_by") else None,
            left_without_top=message.left_without_top if message.HasField("left_without_top") else None,
            log_odds=message.log_odds if message.HasField("log_odds") else None,
            log_odds_z=message.log_odds_z if message.HasField("log_odds_z") else None,
        )


def pair_from_proto(message: pair_pb2.Pair) -> Pair:
    """A pair as the server keeps it."""
    prompt: str | tuple[Message, ...] = message.text
    if message.WhichOneof("prompt") == "conversation":
        prompt = tuple(Message(one.role, one.content) for one in message.conversation.messages)
    return Pair(prompt, message.chosen, message.rejected, id=message.id, metadata=dict(message.metadata))
