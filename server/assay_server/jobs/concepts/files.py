"""Sources, options and examples of a concept as JSON: arguments of its operation, and examples stored beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.probes import ProbeMethod
from assay_server.jobs.concepts.types import (
    FitOptions,
    FromCluster,
    FromDataset,
    FromDirection,
    FromFeatures,
    FromSearch,
    PairExamples,
    TextExamples,
)
from assay_server.store.concepts import unit
from assay_server.store.records import read_record, record_of
from assay_server.subject.types import Message, Pair, PromptedResponse


def examples_record(source: TextExamples | PairExamples) -> dict[str, Any]:
    """Examples as JSON."""
    record = record_of(source)
    for pair in record.get("pairs", ()):
        del pair["metadata"]  # fitting does not use it
    return record


def read_examples(record: Mapping[str, Any]) -> TextExamples | PairExamples:
    """The inverse of ``examples_record``."""
    if "pairs" in record:
        return PairExamples(tuple(Pair(**_with_prompt(pair)) for pair in record["pairs"]))
    return TextExamples(
        *(tuple(PromptedResponse(**_with_prompt(item)) for item in record[side]) for side in ("positive", "negative"))
    )


def source_record(source: FromDataset | FromFeatures | FromCluster | FromSearch | FromDirection) -> dict[str, Any]:
    """A source without examples as JSON. Raises InvalidItem for a direction of length 0."""
    match source:
        case FromDataset():
            return {"kind": "dataset", **record_of(source)}
        case FromFeatures():
            return {"kind": "features", **record_of(source)}
        case FromCluster():
            return {"kind": "cluster", **record_of(source)}
        case FromSearch():
            return {"kind": "label_search", **record_of(source)}
        case FromDirection():
            vector = np.ascontiguousarray(unit(source.direction, "direction.data"), "<f4")
            return {"kind": "direction", "direction": base64.b64encode(vector.tobytes()).decode()}


def read_vector(record: str) -> NDArray[np.float32]:
    """The direction of a ``FromDirection`` record."""
    return np.frombuffer(base64.b64decode(record), dtype="<f4").astype(np.float32)


def options_record(options: FitOptions) -> dict[str, Any]:
    """The options that the method reads. Requests older than ``max_features`` stay equal to new ones that do not use it."""
    record = {**asdict(options), "method": options.method.value}
    if options.method is not ProbeMethod.FEATURES:
        del record["max_features"]
    return record


def read_options(record: Mapping[str, Any]) -> FitOptions:
    """The inverse of ``options_record``."""
    return read_record(FitOptions, record)


def _with_prompt(entry: Mapping[str, Any]) -> dict[str, Any]:
    prompt = entry["prompt"]
    return {**entry, "prompt": prompt if isinstance(prompt, str) else tuple(Message(**turn) for turn in prompt)}
