"""What a concept is asked to be made of, and how that is kept: as arguments of an operation, and as examples beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.probes import ProbeMethod
from assay_server.errors import InvalidItem
from assay_server.store.concepts import unit
from assay_server.subject.types import Message, Pair, Prompt, PromptedResponse

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
    """A stored dataset, taken as such pairs."""

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
    """A direction of the residual stream, float32 [d_in], of any length but 0."""

    direction: NDArray[np.float32]


ConceptSource = TextExamples | PairExamples | FromDataset | FromFeatures | FromCluster | FromSearch | FromDirection


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What examples become, and how it is measured; see ``assay.v1.CreateConceptRequest``."""

    method: ProbeMethod = ProbeMethod.DIFFERENCE_OF_MEANS
    held_out: float = 0.3
    random_directions: int = 64
    seed: int = 0
    max_features: int = 3


@dataclass(frozen=True, slots=True, eq=False)
class ConceptRequest:
    """A concept that is asked for; ``concept_id`` "" takes one from the display name."""

    display_name: str
    source: ConceptSource
    concept_id: str = ""
    options: FitOptions = FitOptions()
    request_id: str = ""


def check_examples(source: TextExamples | PairExamples, options: FitOptions) -> None:
    """Refuses too few examples, and a method that they do not fit.

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
    """Refuses fewer than ``MIN_EXAMPLES``; ``why`` says where others went."""
    if count < MIN_EXAMPLES:
        raise InvalidItem(
            f"There are {count} {what} and {MIN_EXAMPLES} are needed, to fit on one part and report on the other: "
            f"give at least {MIN_EXAMPLES - count} more.{why}",
            reason="TOO_FEW_EXAMPLES",
            field=field,
            details={"examples": count, "needed": MIN_EXAMPLES},
        )


def examples_record(source: TextExamples | PairExamples) -> dict[str, Any]:
    """Examples as JSON."""
    if isinstance(source, PairExamples):
        return {"pairs": [_pair_record(pair) for pair in source.pairs]}
    return {
        side: [_response_record(item) for item in items]
        for side, items in (("positive", source.positive), ("negative", source.negative))
    }


def read_examples(record: Mapping[str, Any]) -> TextExamples | PairExamples:
    """The examples of a record."""
    if "pairs" in record:
        return PairExamples(tuple(_pair(entry) for entry in record["pairs"]))
    return TextExamples(*(tuple(_response(entry) for entry in record[side]) for side in ("positive", "negative")))


def source_record(source: FromDataset | FromFeatures | FromCluster | FromSearch | FromDirection) -> dict[str, Any]:
    """Any other source as JSON. Raises InvalidItem for a direction without a length."""
    match source:
        case FromDataset(dataset):
            return {"kind": "dataset", "dataset": dataset}
        case FromFeatures():
            ids, weights = [int(id) for id in source.features], [float(weight) for weight in source.weights]
            return {"kind": "features", "features": ids, "weights": weights}
        case FromCluster(cluster):
            return {"kind": "cluster", "cluster": cluster}
        case FromSearch(text):
            return {"kind": "label_search", "text": text}
        case FromDirection():
            return {"kind": "direction", "direction": vector_record(unit(source.direction, "direction.data"))}


def vector_record(vector: NDArray[np.float32]) -> str:
    """A vector as text, to the bit."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def read_vector(record: str) -> NDArray[np.float32]:
    """The vector of a record."""
    return np.frombuffer(base64.b64decode(record), dtype="<f4").astype(np.float32)


def _pair_record(pair: Pair) -> dict[str, Any]:
    return {"id": pair.id, "prompt": _prompt_record(pair.prompt), "chosen": pair.chosen, "rejected": pair.rejected}


def _response_record(item: PromptedResponse) -> dict[str, Any]:
    return {"id": item.id, "prompt": _prompt_record(item.prompt), "response": item.response}


def _prompt_record(prompt: Prompt) -> str | list[dict[str, str]]:
    if isinstance(prompt, str):
        return prompt
    return [{"role": message.role, "content": message.content} for message in prompt]


def _pair(entry: Mapping[str, Any]) -> Pair:
    return Pair(_prompt(entry["prompt"]), entry["chosen"], entry["rejected"], entry["id"])


def _response(entry: Mapping[str, Any]) -> PromptedResponse:
    return PromptedResponse(_prompt(entry["prompt"]), entry["response"], entry["id"])


def _prompt(record: str | Sequence[Mapping[str, str]]) -> Prompt:
    if isinstance(record, str):
        return record
    return tuple(Message(turn["role"], turn["content"]) for turn in record)
