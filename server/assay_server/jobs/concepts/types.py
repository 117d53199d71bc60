"""What a concept is made of, and how examples are fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.probes import ProbeMethod
from assay_server.errors import InvalidItem
from assay_server.subject.types import Pair, PromptedResponse

MIN_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class TextExamples:
    """Responses that show a concept, and responses that do not."""

    positive: tuple[PromptedResponse, ...]
    negative: tuple[PromptedResponse, ...]


@dataclass(frozen=True, slots=True)
class PairExamples:
    """Pairs whose chosen response shows a concept and whose rejected one does not."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class FromDataset:
    """A stored dataset, whose pairs are used like ``PairExamples``."""

    dataset: str


@dataclass(frozen=True, slots=True, eq=False)
class FromFeatures:
    """Features with weights: ids int64 [n], strictly ascending, and float32 [n]."""

    features: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FromCluster:
    """A feature cluster in use."""

    cluster: int


@dataclass(frozen=True, slots=True)
class FromSearch:
    """All features whose label or tokens hold a text."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class FromDirection:
    """A direction of the residual stream, float32 [d_in], of any length except 0."""

    direction: NDArray[np.float32]


ConceptSource = TextExamples | PairExamples | FromDataset | FromFeatures | FromCluster | FromSearch | FromDirection


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How a concept is fitted and measured; see ``assay.v1.CreateConceptRequest``."""

    method: ProbeMethod = ProbeMethod.DIFFERENCE_OF_MEANS
    held_out: float = 0.3
    random_directions: int = 64
    seed: int = 0
    max_features: int = 3


@dataclass(frozen=True, slots=True, eq=False)
class ConceptRequest:
    """A request for a concept; with ``concept_id`` "" the id is derived from the display name."""

    display_name: str
    source: ConceptSource
    concept_id: str = ""
    options: FitOptions = FitOptions()
    request_id: str = ""


def check_examples(source: TextExamples | PairExamples, options: FitOptions) -> None:
    """Refuses too few examples, and a method that cannot use them.

    Raises:
        InvalidItem: TOO_FEW_EXAMPLES, with both numbers; or PAIRS_NEEDED.
    """
    if isinstance(source, PairExamples):
        check_enough(len(source.pairs), "pairs", "pairs.pairs")
        return
    if options.method is ProbeMethod.BRADLEY_TERRY:
        raise InvalidItem(
            "PROBE_METHOD_BRADLEY_TERRY compares the sides of pairs, and texts are no pairs: give pairs or a dataset, or ask for "
            "PROBE_METHOD_LOGISTIC.",
            reason="PAIRS_NEEDED",
            field="method",
            details={"pairs": 0},
        )
    check_enough(len(source.positive), "positive texts", "texts.positive")
    check_enough(len(source.negative), "negative texts", "texts.negative")


def check_enough(count: int, what: str, field: str, *, why: str = "") -> None:
    """Refuses fewer than ``MIN_EXAMPLES``; ``why`` explains which others were dropped."""
    if count < MIN_EXAMPLES:
        raise InvalidItem(
            f"There are {count} {what} and {MIN_EXAMPLES} are needed, to fit on one part and report on the other: "
            f"give at least {MIN_EXAMPLES - count} more.{why}",
            reason="TOO_FEW_EXAMPLES",
            field=field,
            details={"examples": count, "needed": MIN_EXAMPLES},
        )
