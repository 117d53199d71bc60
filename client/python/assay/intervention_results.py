"""What a plan gives a trainer: offsets, what it does to each pair, rewards; and what a plan is held to.

    for result in client.offsets(plan, pairs, beta=0.1):
        result.unwrap().offset                             o of -log sigmoid(beta D + o)
        result.unwrap().shift.ref_chosen_logps             the same as a shift of the reference: -o+/beta

Invariant: a result holds plain values and tuples, never a protobuf message.
"""

from dataclasses import dataclass

from assay.errors import ItemError
from assay.interventions import PromptPlacement, ZScore
from assay.results import item_error
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service
from assay.wire import from_wire


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """What a plan is about to be applied to; each that is set must be the plan's, or the server refuses with both fingerprints.

    Attributes:
        model_fingerprint: of the model that is trained, as `ModelInfo.model_fingerprint`.
        tokenizer_fingerprint: of its tokenizer; `assay.trl.tokenizer_fingerprint` computes it.
        dataset_fingerprint: of the pairs; `assay.intervention_fingerprints.dataset_fingerprint` computes it.
    """

    model_fingerprint: str = ""
    tokenizer_fingerprint: str = ""
    dataset_fingerprint: str = ""

    def to_proto(self) -> service.PlanTarget:
        """The wire form."""
        return service.PlanTarget(
            model_fingerprint=self.model_fingerprint,
            tokenizer_fingerprint=self.tokenizer_fingerprint,
            dataset_fingerprint=self.dataset_fingerprint,
        )


ANYTHING = PlanTarget()


@dataclass(frozen=True, slots=True)
class ReferenceShift:
    """What to add to the reference's log-probabilities, in nats: -o+/beta and -o-/beta."""

    ref_chosen_logps: float
    ref_rejected_logps: float


@dataclass(frozen=True, slots=True)
class OffsetPart:
    """One family's part of an offset: o+ and o-, and the scores (or A, in nats) that they were made from; z None for A."""

    intervention: str
    chosen: float
    rejected: float
    chosen_raw: float
    rejected_raw: float
    z: ZScore | None


@dataclass(frozen=True, slots=True)
class PairOffset:
    """What goes inside the sigmoid of one pair: -log sigmoid(beta D + offset).

    Attributes:
        chosen: o+, modes and strengths included, over all offset families of the plan.
        rejected: o-.
        offset: o+ - o-; positive: the plan already explains this preference.
        shift: the same as a shift of the reference; None where no beta was given.
        parts: one for each offset family.
        stored: whether no forward pass was needed.
    """

    chosen: float
    rejected: float
    offset: float
    shift: ReferenceShift | None = None
    parts: tuple[OffsetPart, ...] = ()
    stored: bool = False

    @classmethod
    def from_proto(cls, message: service.PairOffset) -> "PairOffset":
        """From the wire."""
        shift = None
        if message.HasField("shift"):
            shift = ReferenceShift(message.shift.ref_chosen_logps, message.shift.ref_rejected_logps)
        parts = tuple(
            OffsetPart(
                one.intervention,
                one.chosen,
                one.rejected,
                one.chosen_raw,
                one.rejected_raw,
                ZScore.from_proto(one.z) if one.HasField("z") else None,
            )
            for one in message.parts
        )
        return cls(message.chosen, message.rejected, message.offset, shift, parts, message.stored)


@dataclass(frozen=True, slots=True)
class OffsetResult:
    """One pair's outcome: exactly one of `offset` and `error` is set. index and id as in `PairResult`."""

    index: int
    id: str
    offset: PairOffset | None
    error: ItemError | None

    @property
    def ok(self) -> bool:
        """Whether the pair has an offset."""
        return self.error is None

    def unwrap(self) -> PairOffset:
        """The offset; raises the pair's error where it has none."""
        if self.offset is None:
            raise _exception(self.error)
        return self.offset


def offset_result(index: int, message: service.OffsetResult) -> OffsetResult:
    """From the wire. A result with neither offset nor error is an error of the contract, told in its place."""
    match message.WhichOneof("outcome"):
        case "offset":
            return OffsetResult(index, message.id, PairOffset.from_proto(message.offset), None)
        case "error":
            return OffsetResult(index, message.id, None, item_error(message.error))
        case _:
            return OffsetResult(index, message.id, None, _broken())


@dataclass(frozen=True, slots=True)
class TokenMask:
    """Masked tokens of one response as the subject's tokenizer cuts it: parallel tuples, ascending.

    Attributes:
        tokens: place of each among the response's tokens, from 0.
        starts: offset of its first character in the response, in code points.
        ends: offset past its last.
        of: tokens of the response.
    """

    tokens: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    of: int

    @classmethod
    def from_proto(cls, message: service.TokenMask) -> "TokenMask":
        """From the wire."""
        return cls(tuple(message.tokens), tuple(message.starts), tuple(message.ends), message.of)


@dataclass(frozen=True, slots=True)
class InoculationText:
    """A prompt to train under, and where it goes."""

    text: str
    placement: PromptPlacement

    @classmethod
    def from_proto(cls, message: service.InoculationText) -> "InoculationText":
        """From the wire."""
        placement = from_wire(PromptPlacement, pb.PromptPlacement, "PROMPT_PLACEMENT", message.placement)
        return cls(message.text, placement or PromptPlacement.USER)


@dataclass(frozen=True, slots=True)
class DataPlanRow:
    """What a plan does to one pair; the fields of ``assay.v1.DataPlanRow``, where each is described."""

    row: int
    id: str
    weight: float = 1.0
    flip: bool = False
    offset: float = 0.0
    offset_chosen: float = 0.0
    offset_rejected: float = 0.0
    chosen_mask: TokenMask | None = None
    rejected_mask: TokenMask | None = None
    texts: tuple[int, ...] = ()
    steered_by: tuple[str, ...] = ()
    differences: tuple[float, ...] = ()
    error: ItemError | None = None

    @classmethod
    def from_proto(cls, message: service.DataPlanRow) -> "DataPlanRow":
        """From the wire."""
        return cls(
            row=message.row,
            id=message.id,
            weight=message.weight,
            flip=message.flip,
            offset=message.offset,
            offset_chosen=message.offset_chosen,
            offset_rejected=message.offset_rejected,
            chosen_mask=TokenMask.from_proto(message.chosen_mask) if message.HasField("chosen_mask") else None,
            rejected_mask=TokenMask.from_proto(message.rejected_mask) if message.HasField("rejected_mask") else None,
            texts=tuple(message.texts),
            steered_by=tuple(message.steered_by),
            differences=tuple(message.differences),
            error=ItemError.from_proto(message.error) if message.HasField("error") else None,
        )


@dataclass(frozen=True, slots=True)
class RankedPrompt:
    """A candidate: mean over the pairs of A(y+) - A(y-) in nats, its standard error, and its correlation with s+ - s-."""

    text: str
    mean: float
    error: float
    correlation: float


@dataclass(frozen=True, slots=True)
class PromptRanking:
    """Inoculation prompts by how much of the preference each explains, the largest mean first; and on how many pairs."""

    prompts: tuple[RankedPrompt, ...]
    rows: int

    @classmethod
    def from_proto(cls, message: service.PromptRanking) -> "PromptRanking":
        """From the wire."""
        prompts = (RankedPrompt(one.text, one.mean, one.error, one.correlation) for one in message.prompts)
        return cls(tuple(prompts), message.rows)


@dataclass(frozen=True, slots=True)
class ShapedReward:
    """r' = r - penalty; s and z(s) of each ONLINE_REWARD and REWARD_SHAPING intervention, in the plan's order."""

    reward: float
    penalty: float
    scores: tuple[float, ...]
    z: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RewardResult:
    """One response's outcome: exactly one of `reward` and `error` is set. index and id as in `PairResult`."""

    index: int
    id: str
    reward: ShapedReward | None
    error: ItemError | None

    @property
    def ok(self) -> bool:
        """Whether the response has a reward."""
        return self.error is None

    def unwrap(self) -> ShapedReward:
        """The reward; raises the response's error where it has none."""
        if self.reward is None:
            raise _exception(self.error)
        return self.reward


def reward_result(index: int, message: service.RewardResult) -> RewardResult:
    """From the wire, as `offset_result`."""
    match message.WhichOneof("outcome"):
        case "reward":
            one = message.reward
            reward = ShapedReward(one.reward, one.penalty, tuple(one.scores), tuple(one.z))
            return RewardResult(index, message.id, reward, None)
        case "error":
            return RewardResult(index, message.id, None, item_error(message.error))
        case _:
            return RewardResult(index, message.id, None, _broken())


def _broken() -> ItemError:
    return ItemError("INTERNAL", "PROTOCOL", "the server sent neither a result nor an error for this item")


def _exception(error: ItemError | None) -> Exception:
    return (error or _broken()).exception()
