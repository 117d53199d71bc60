"""The nouns of interventions: modes, families and their knobs, as ``assay.v1.Intervention*`` says. Plain data.

Invariant: a strength is never negative. Which way an intervention pushes is its mode's business alone, and ``Mode.sign`` is the
only place where a mode becomes a sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """Which way an intervention pushes."""

    EXPLAIN_AWAY = "explain_away"
    AMPLIFY = "amplify"

    @property
    def sign(self) -> float:
        """What an offset or a penalty is multiplied with: METHOD.md §4 writes its rows for EXPLAIN_AWAY, and AMPLIFY negates."""
        return 1.0 if self is Mode.EXPLAIN_AWAY else -1.0


class Family(StrEnum):
    """What is done; see ``assay.v1.InterventionFamily``."""

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


OFFSETS = frozenset({Family.REWARD_SHAPING, Family.STEERING, Family.INOCULATION})
WEIGHING = frozenset({Family.REWARD_SHAPING, Family.REWEIGHT, Family.EXAMPLE_FILTER, Family.LABEL_FLIP})
PICKING = frozenset({Family.EXAMPLE_FILTER, Family.LABEL_FLIP, Family.STEERING_VECTOR, Family.INOCULATION_ROWS})
REWARDING = frozenset({Family.REWARD_SHAPING, Family.ONLINE_REWARD})
WHOLE_MODEL = frozenset({Family.STEERING, Family.INOCULATION})  # their offsets are differences of log-probabilities
PROMPTED = frozenset({Family.INOCULATION, Family.INOCULATION_ROWS})
STEERED = frozenset({Family.STEERING, Family.STEERING_VECTOR})
BLOCK_ONLY = frozenset({Family.ABLATION, Family.TOKEN_FILTER})


class Statistic(StrEnum):
    """What a response's score s is; see ``assay.v1.ScoreStatistic``."""

    LARGEST = "largest"
    FIRING = "firing"


class Side(StrEnum):
    """Which responses of a pair."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    BOTH = "both"


class EditedSpan(StrEnum):
    """Which tokens' residual is changed."""

    FINAL_TURN_ON = "final_turn_on"
    RESPONSE = "response"
    ALL = "all"


class Placement(StrEnum):
    """Where an inoculation prompt is put."""

    AUTO = "auto"
    SYSTEM = "system"
    USER = "user"


class RowOrder(StrEnum):
    """Which pairs are taken first: largest s+ − s−, or largest s− − s+."""

    TEACHING = "teaching"
    OPPOSING = "opposing"


class MaskUnit(StrEnum):
    """What a token filter masks at once."""

    WORD = "word"
    TOKEN = "token"


@dataclass(frozen=True, slots=True)
class Parameters:
    """Knobs of one intervention; 0, "" or None where the family does not read one or it is measured later."""

    statistic: Statistic = Statistic.LARGEST
    coefficient: float | None = None
    side: Side = Side.BOTH
    span: EditedSpan = EditedSpan.FINAL_TURN_ON
    share: float | None = None
    order: RowOrder | None = None
    threshold: float | None = None
    unit: MaskUnit = MaskUnit.WORD
    prompt: str = ""
    placement: Placement = Placement.AUTO
    rank: int = 0


_EDITING = frozenset({Family.STEERING_VECTOR, Family.ABLATION, Family.SAE_CLAMP})
READ_BY: Mapping[str, frozenset[Family]] = {
    "coefficient": STEERED,
    "share": PICKING,
    "order": PICKING,
    "threshold": frozenset({Family.TOKEN_FILTER}),
    "unit": frozenset({Family.TOKEN_FILTER}),
    "prompt": PROMPTED,
    "placement": PROMPTED,
    "rank": frozenset({Family.ABLATION}),
    "side": _EDITING | {Family.TOKEN_FILTER},
    "span": _EDITING | {Family.STEERING},
    "statistic": PICKING | {Family.REWARD_SHAPING, Family.REWEIGHT, Family.ONLINE_REWARD},
}
"""Which families read a parameter; set for another family it is a mistake, and is refused. Plans show no others either."""


DEFAULT_SHARES = {
    Family.EXAMPLE_FILTER: 0.05,
    Family.LABEL_FLIP: 0.05,
    Family.STEERING_VECTOR: 0.1,
    Family.INOCULATION_ROWS: 0.1,
}
MAX_STRENGTH = 1e6
PUBLISHED_STRENGTH = (0.5, 5.0)
PUBLISHED_SHARES = {
    Family.EXAMPLE_FILTER: (0.01, 0.05),
    Family.LABEL_FLIP: (0.01, 0.05),
    Family.STEERING_VECTOR: (0.01, 0.1),
    Family.INOCULATION_ROWS: (0.01, 0.1),
}
