"""What an audit says of its data as a whole: the nuisance model, length, and how much is explained.

Invariant: as in `assay.audits`.
"""

from dataclasses import dataclass
from enum import Enum

from assay.v1 import audit_pb2
from assay.wire import from_wire, plain


class LengthDirection(Enum):
    """Which responses are longer: the chosen, the rejected, or neither."""

    LONGER = "longer"
    SHORTER = "shorter"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class NuisanceSummary:
    """The nuisance model, P(chosen preferred) = sigmoid(gamma . x).

    Attributes:
        names: columns of x.
        gamma: fitted log-odds a unit of each.
        accuracy: share of pairs whose preference it gets right.
        reason: why there is no fit; "" otherwise.
    """

    names: tuple[str, ...]
    gamma: tuple[float, ...]
    accuracy: float
    reason: str

    @classmethod
    def from_proto(cls, message: audit_pb2.NuisanceSummary) -> "NuisanceSummary":
        """From the wire."""
        return cls(tuple(message.names), tuple(message.gamma), message.accuracy, message.reason)


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """What the lengths of the responses alone say: lesson 0; the fields of ``assay.v1.LengthSummary``, where each is described.

    `ratio` is the median of tokens chosen over rejected; `information_left` is None where nothing was fitted.
    """

    pairs: int
    direction: LengthDirection | None
    ratio: float
    ratio_low: float
    ratio_high: float
    longer: float
    shorter: float
    accuracy: float
    auc: float
    auc_low: float
    auc_high: float
    p: float
    information_left: float | None
    reason: str

    @classmethod
    def from_proto(cls, message: audit_pb2.LengthSummary) -> "LengthSummary":
        """From the wire."""
        return cls(
            **plain(cls, message, "direction", "information_left"),
            direction=from_wire(LengthDirection, audit_pb2.LengthSummary.Direction, "DIRECTION", message.direction),
            information_left=message.information_left if message.HasField("information_left") else None,
        )


@dataclass(frozen=True, slots=True)
class ExplainedBlock:
    """One set of differences that preference was predicted from; the fields of ``assay.v1.Explained.Block``.

    `share` is that of dense, with its bounds; None where dense was not fitted or is not surely over one half itself.
    """

    name: str
    columns: int
    auc: float
    low: float
    high: float
    share: tuple[float, float, float] | None = None

    @classmethod
    def from_proto(cls, message: audit_pb2.Explained.Block) -> "ExplainedBlock":
        """From the wire."""
        share = (message.share, message.share_low, message.share_high) if message.HasField("share") else None
        return cls(**plain(cls, message, "share"), share=share)


@dataclass(frozen=True, slots=True)
class Explained:
    """How much of the preference length, style and the SAE's features explain.

    Attributes:
        blocks: held-out AUCs, one for each set of differences.
        over_style: AUC of the SAE's features over style minus that of style alone, with its bounds; None where not fitted.
        pairs: that took part.
        note: what was left out, and why; why nothing was fitted.
        over_random: AUC of the SAE's features minus that of a frozen random dictionary, with its bounds; None without
            `AuditOptions.control_pairs`.
    """

    blocks: tuple[ExplainedBlock, ...]
    over_style: tuple[float, float, float] | None
    pairs: int
    note: str
    over_random: tuple[float, float, float] | None = None

    @classmethod
    def from_proto(cls, message: audit_pb2.Explained) -> "Explained":
        """From the wire."""
        style = (message.over_style, message.over_style_low, message.over_style_high)
        random = (message.over_random, message.over_random_low, message.over_random_high)
        return cls(
            tuple(map(ExplainedBlock.from_proto, message.blocks)),
            style if message.HasField("over_style") else None,
            message.pairs,
            message.note,
            random if message.HasField("over_random") else None,
        )
