"""Plans: requested interventions, and what to expect of each.

    plan = client.create_plan(dataset, [Intervene("feature/17", InterventionMode.EXPLAIN_AWAY, strength=2.0)]).wait()
    plan.interventions[0].expected.shift_after        what training would shift with it
    plan.interventions[0].warnings                    what speaks against it

All families change one term of a preference loss, L = sum of -w log sigmoid(beta D + o); docs/interventions.md has the table.
What a plan gives a trainer is in `assay.intervention_results` and `assay.intervention_artifacts`; how trainers take it, in
`assay.trl`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any

from assay.audits import SubjectRef
from assay.hypotheses import ConceptRef, Decision
from assay.options import Concept
from assay.times import utc
from assay.v1 import intervention_pb2 as pb
from assay.wire import from_wire, to_wire


class InterventionMode(Enum):
    """Which way: take the concept out of the learning signal, or put more of it in. A strength has no sign."""

    EXPLAIN_AWAY = "explain_away"
    AMPLIFY = "amplify"

    @property
    def sign(self) -> float:
        """What an offset or a penalty is multiplied with: 1 to explain away, -1 to amplify (METHOD.md 4)."""
        return 1.0 if self is InterventionMode.EXPLAIN_AWAY else -1.0


class InterventionFamily(Enum):
    """What is done; each is described at ``assay.v1.InterventionFamily``."""

    REWARD_SHAPING = "reward_shaping"
    STEERING = "steering"
    INOCULATION = "inoculation"
    STEERING_VECTOR = "steering_vector"
    ABLATION = "ablation"
    SAE_CLAMP = "sae_clamp"
    EXAMPLE_FILTER = "example_filter"
    LABEL_FLIP = "label_flip"
    REWEIGHT = "reweight"
    TOKEN_FILTER = "token_filter"
    INOCULATION_ROWS = "inoculation_rows"
    ONLINE_REWARD = "online_reward"


class ScoreStatistic(Enum):
    """What a response's score is: the largest over its tokens, or the share of the concept's features that fire."""

    LARGEST = "largest"
    FIRING = "firing"


class ResponseSide(Enum):
    """Which responses of a pair."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    BOTH = "both"


class EditedSpan(Enum):
    """Which tokens' residual is changed: from the final user turn on, the response, or all but the first."""

    FINAL_TURN_ON = "final_turn_on"
    RESPONSE = "response"
    ALL = "all"


class PromptPlacement(Enum):
    """Where an inoculation prompt is put: in the system turn, or before the last user turn's text."""

    SYSTEM = "system"
    USER = "user"


class RowOrder(Enum):
    """Which pairs are taken first: those that teach the concept (s+ - s- largest), or those that teach against it."""

    TEACHING = "teaching"
    OPPOSING = "opposing"


class MaskUnit(Enum):
    """What a token filter masks at once."""

    WORD = "word"
    TOKEN = "token"


_ENUMS: dict[str, tuple[Any, Any, str]] = {
    "statistic": (ScoreStatistic, pb.ScoreStatistic, "SCORE_STATISTIC"),
    "side": (ResponseSide, pb.ResponseSide, "RESPONSE_SIDE"),
    "span": (EditedSpan, pb.EditedSpan, "EDITED_SPAN"),
    "order": (RowOrder, pb.RowOrder, "ROW_ORDER"),
    "unit": (MaskUnit, pb.MaskUnit, "MASK_UNIT"),
    "placement": (PromptPlacement, pb.PromptPlacement, "PROMPT_PLACEMENT"),
}
_OPTIONAL = ("coefficient", "share", "threshold")


@dataclass(frozen=True, slots=True)
class InterventionParameters:
    """Knobs of one intervention; None, "" or 0 leaves one to the family, and a plan says what was used.

    Attributes:
        statistic: what a response's score is (largest).
        coefficient: what a unit direction is multiplied with, over 0; measured where it is not given. STEERING, STEERING_VECTOR.
        side: which responses (both). STEERING_VECTOR, ABLATION, SAE_CLAMP, TOKEN_FILTER.
        span: which tokens (from the final user turn on). STEERING, STEERING_VECTOR, ABLATION, SAE_CLAMP.
        share: of the usable pairs that is taken (0.05; 0.1 for STEERING_VECTOR and INOCULATION_ROWS).
        order: which pairs come first (what the mode is against).
        threshold: score from which a token is masked. TOKEN_FILTER.
        unit: what is masked at once (word). TOKEN_FILTER.
        prompt: the text that asks for the concept. INOCULATION, INOCULATION_ROWS.
        placement: where it is put (system turn where the template has one).
        rank: directions of an ablation's basis (0: all that are independent).
    """

    statistic: ScoreStatistic | None = None
    coefficient: float | None = None
    side: ResponseSide | None = None
    span: EditedSpan | None = None
    share: float | None = None
    order: RowOrder | None = None
    threshold: float | None = None
    unit: MaskUnit | None = None
    prompt: str = ""
    placement: PromptPlacement | None = None
    rank: int = 0

    def to_proto(self) -> pb.InterventionParameters:
        """The wire form."""
        chosen: dict[str, Any] = {name: to_wire(wire, prefix, getattr(self, name)) for name, (_, wire, prefix) in _ENUMS.items()}
        numbers: dict[str, Any] = {name: getattr(self, name) for name in _OPTIONAL}
        return pb.InterventionParameters(prompt=self.prompt, rank=self.rank, **chosen, **numbers)

    @classmethod
    def from_proto(cls, message: pb.InterventionParameters) -> "InterventionParameters":
        """From the wire."""
        chosen = {name: from_wire(kind, wire, prefix, getattr(message, name)) for name, (kind, wire, prefix) in _ENUMS.items()}
        numbers: dict[str, Any] = {name: getattr(message, name) if message.HasField(name) else None for name in _OPTIONAL}
        return cls(prompt=message.prompt, rank=message.rank, **chosen, **numbers)


DEFAULT_PARAMETERS = InterventionParameters()


@dataclass(frozen=True, slots=True)
class Intervene:
    """What to put into a plan.

    Attributes:
        about: a decision (or its name), which gives mode and strength; a concept that the server knows by name
            ("concepts/{id}", "feature/17", "cluster/3"); or a `Concept` given here.
        mode: which way; by default the decision's.
        strength: lambda, at least 0; by default the decision's, else 1. Published: 0.5 to 5.
        family: what is done.
        parameters: its knobs.
    """

    about: Decision | Concept | str
    mode: InterventionMode | None = None
    strength: float | None = None
    family: InterventionFamily = InterventionFamily.REWARD_SHAPING
    parameters: InterventionParameters = DEFAULT_PARAMETERS

    def to_proto(self) -> pb.InterventionSpec:
        """The wire form."""
        spec = pb.InterventionSpec(strength=self.strength, parameters=self.parameters.to_proto())
        spec.mode = to_wire(pb.InterventionMode, "INTERVENTION_MODE", self.mode)
        spec.family = to_wire(pb.InterventionFamily, "INTERVENTION_FAMILY", self.family)
        match self.about:
            case Decision():
                spec.decision = self.about.name
            case Concept():
                spec.spec.CopyFrom(self.about.to_proto())
            case str() if "/decisions/" in self.about:
                spec.decision = self.about
            case str():
                spec.concept = self.about
        return spec


@dataclass(frozen=True, slots=True)
class ZScore:
    """How a score is standardised over all responses of the usable pairs: mean, population deviation, and how many."""

    mean: float
    deviation: float
    responses: int

    def of(self, score: float) -> float:
        """z of a score; 0 where the scores did not vary."""
        return (score - self.mean) / self.deviation if self.deviation > 0 else 0.0

    @classmethod
    def from_proto(cls, message: pb.ZScore) -> "ZScore":
        """From the wire."""
        return cls(message.mean, message.deviation, message.responses)


@dataclass(frozen=True, slots=True)
class ExpectedEffect:
    """What an intervention should do on its own; the fields of ``assay.v1.ExpectedEffect``. None: not known before training."""

    telling_pairs: int
    shift_before: float
    shift_after: float | None
    mean_offset: float | None
    rows: int

    @classmethod
    def from_proto(cls, message: pb.ExpectedEffect) -> "ExpectedEffect":
        """From the wire."""
        after, offset = _optional(message, "shift_after"), _optional(message, "mean_offset")
        return cls(message.telling_pairs, message.shift_before, after, offset, message.rows)


@dataclass(frozen=True, slots=True)
class SideEffect:
    """Another concept that moves along: its correlation with the target, and its shift before and after."""

    concept: ConceptRef
    correlation: float
    shift_before: float
    shift_after: float | None

    @classmethod
    def from_proto(cls, message: pb.SideEffect) -> "SideEffect":
        """From the wire."""
        concept = ConceptRef.from_proto(message.concept)
        return cls(concept, message.correlation, message.shift_before, _optional(message, "shift_after"))


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """A reason to think twice: its code, as in ``assay.v1.PlanWarning.Code`` without "CODE_", and a sentence with the numbers."""

    code: str
    text: str

    @classmethod
    def from_proto(cls, message: pb.PlanWarning) -> "PlanWarning":
        """From the wire."""
        known = pb.PlanWarning.Code.values()
        code = pb.PlanWarning.Code.Name(message.code).removeprefix("CODE_") if message.code in known else "UNSPECIFIED"
        return cls(code, message.text)


@dataclass(frozen=True, slots=True)
class DosePoint:
    """One coefficient of a curve: the concept's mean score with its standard error, and perplexity."""

    coefficient: float
    concept_score: float
    concept_score_error: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """How concept and fluency answer to a coefficient: ``assay.v1.DoseResponse``. low and high are None where none works."""

    points: tuple[DosePoint, ...]
    low: float | None
    high: float | None
    recommended: float
    perplexity_limit: float
    residual_norm: float
    perplexity_tokens: int
    generated_tokens: int

    @classmethod
    def from_proto(cls, message: pb.DoseResponse) -> "DoseResponse":
        """From the wire."""
        points = (DosePoint(*(getattr(one, field.name) for field in fields(DosePoint))) for one in message.points)
        plain = (field.name for field in fields(cls) if field.name not in ("points", "low", "high"))
        return cls(
            points=tuple(points),
            low=_optional(message, "low"),
            high=_optional(message, "high"),
            **{name: getattr(message, name) for name in plain},
        )


@dataclass(frozen=True, slots=True)
class Intervention:
    """One compiled intervention; the fields of ``assay.v1.Intervention``, where each is described."""

    name: str
    concept: ConceptRef
    mode: InterventionMode
    strength: float
    family: InterventionFamily
    parameters: InterventionParameters
    decision: str
    z: ZScore
    expected: ExpectedEffect
    side_effects: tuple[SideEffect, ...]
    warnings: tuple[PlanWarning, ...]
    dose_response: DoseResponse | None

    @classmethod
    def from_proto(cls, message: pb.Intervention) -> "Intervention":
        """From the wire; ValueError where mode or family is none that this client knows."""
        return cls(
            name=message.name,
            concept=ConceptRef.from_proto(message.concept),
            mode=_known(InterventionMode, pb.InterventionMode, "INTERVENTION_MODE", message.mode),
            strength=message.strength,
            family=_known(InterventionFamily, pb.InterventionFamily, "INTERVENTION_FAMILY", message.family),
            parameters=InterventionParameters.from_proto(message.parameters),
            decision=message.decision,
            z=ZScore.from_proto(message.z),
            expected=ExpectedEffect.from_proto(message.expected),
            side_effects=tuple(map(SideEffect.from_proto, message.side_effects)),
            warnings=tuple(map(PlanWarning.from_proto, message.warnings)),
            dose_response=DoseResponse.from_proto(message.dose_response) if message.HasField("dose_response") else None,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Interventions compiled for one subject and one dataset; the fields of ``assay.v1.Plan``, where each is described."""

    name: str
    display_name: str
    create_time: datetime | None
    dataset: str
    dataset_fingerprint: str
    subject: SubjectRef
    whole_model_fingerprint: str
    interventions: tuple[Intervention, ...]
    pairs: int
    unusable_pairs: int
    fingerprint: str

    @classmethod
    def from_proto(cls, message: pb.Plan) -> "Plan":
        """From the wire."""
        special = ("create_time", "subject", "interventions")
        return cls(
            create_time=utc(message, "create_time"),
            subject=SubjectRef.from_proto(message.subject),
            interventions=tuple(map(Intervention.from_proto, message.interventions)),
            **{field.name: getattr(message, field.name) for field in fields(cls) if field.name not in special},
        )

    def of_family(self, *families: InterventionFamily) -> tuple[Intervention, ...]:
        """Its interventions of these families, in order."""
        return tuple(one for one in self.interventions if one.family in families)


def decided(decisions: Sequence[Decision], family: InterventionFamily = InterventionFamily.REWARD_SHAPING) -> list[Intervene]:
    """One intervention for the last decision on each hypothesis, but for KEEP; decisions come oldest first."""
    last = {decision.hypothesis: decision for decision in decisions}
    wanted = {one.name for one in InterventionMode}
    return [Intervene(one, family=family) for one in last.values() if one.mode is not None and one.mode.name in wanted]


def _optional(message: Any, field: str) -> float | None:
    return getattr(message, field) if message.HasField(field) else None


def _known(kind: Any, wire: Any, prefix: str, number: int) -> Any:
    member = from_wire(kind, wire, prefix, number)
    if member is None:
        raise ValueError(f"{kind.__name__} {number} is none that this client knows; update it")
    return member
