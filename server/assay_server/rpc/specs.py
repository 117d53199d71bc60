"""The concepts that a request scores, checked against the SAE's width and the limits.

Invariants as in ``pairs``: finite numbers, existing features, unique names, refusals that name the path and both
numbers. Names of concepts are the caller's texts and are not quoted in errors.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from assay.v1 import concept_pb2, model_pb2, pair_pb2
from numpy.typing import NDArray

from assay_server.errors import InvalidItem
from assay_server.rpc.fields import kept, out_of_bounds
from assay_server.scorer.ranking import WeightedFeatures
from assay_server.store.concepts import StoredConcept
from assay_server.subject.types import Directions

MAX_NAME_BYTES = 128

FindStored = Callable[[str, str], StoredConcept]
"""From a resource name and its path in the request to the stored concept of the loaded subject.

Raises NotFound, SubjectMismatch, DataLoss."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What requests are checked against: the limits in force, the subject's widths, and its stored concepts, if any are kept."""

    limits: model_pb2.Limits
    d_in: int
    d_sae: int
    stored: FindStored | None = None


@dataclass(frozen=True, slots=True)
class Concept:
    """A concept to score: weighted features, or row ``direction`` of the call's directions."""

    name: str
    weighted: WeightedFeatures | None = None
    direction: int = -1


def read_concepts(
    specs: Sequence[concept_pb2.ConceptSpec], bounds: Bounds, path: str
) -> tuple[tuple[Concept, ...], Directions | None]:
    """Checks and translates concepts; their directions come stacked, float32 [n, d_in], None where there are none."""
    if len(specs) > bounds.limits.max_concepts:
        raise out_of_bounds("concepts", len(specs), bounds.limits.max_concepts, "max_concepts", path)
    concepts: list[Concept] = []
    vectors: list[NDArray[np.float32]] = []
    names: set[str] = set()
    for position, spec in enumerate(specs):
        here = f"{path}[{position}]"
        _check_name(spec.name, names, f"{here}.name")
        kind = spec.WhichOneof("kind")
        if kind == "feature":
            if spec.feature >= bounds.d_sae:
                raise unknown_feature(spec.feature, bounds, f"{here}.feature")
            concepts.append(Concept(spec.name, weighted=_alone(spec.feature)))
        elif kind == "features":
            concepts.append(Concept(spec.name, weighted=read_weights(spec.features, bounds, f"{here}.features")))
        elif kind == "direction":
            concepts.append(Concept(spec.name, direction=len(vectors)))
            vectors.append(read_vector(spec.direction, bounds.d_in, f"{here}.direction"))
        elif kind == "stored":
            known = kept(bounds.stored, f"{here}.stored")(spec.stored, f"{here}.stored")
            if known.direction is None:
                concepts.append(Concept(spec.name, weighted=WeightedFeatures(known.features, known.weights)))
            else:
                concepts.append(Concept(spec.name, direction=len(vectors)))
                vectors.append(known.direction)
        else:
            raise InvalidItem(
                f"Concept {position} says nothing to score; set feature, features, direction or stored.",
                reason="MISSING_CONCEPT_KIND",
                field=here,
            )
    return tuple(concepts), _stack(vectors)


def unknown_feature(id: int, bounds: Bounds, path: str) -> InvalidItem:
    """The refusal of a feature id that the SAE does not have."""
    return InvalidItem(
        f"Feature {id} does not exist; the loaded SAE has features 0 to {bounds.d_sae - 1}.",
        reason="UNKNOWN_FEATURE",
        field=path,
        details={"feature": id, "d_sae": bounds.d_sae},
    )


def _alone(feature: int) -> WeightedFeatures:
    return WeightedFeatures(np.array([feature], dtype=np.int64), np.ones(1, dtype=np.float32))


def _check_name(name: str, names: set[str], path: str) -> None:
    size = len(name.encode())
    if not 1 <= size <= MAX_NAME_BYTES:
        raise InvalidItem(
            f"The concept's name takes {size} bytes; give 1 to {MAX_NAME_BYTES}.",
            reason="INVALID_NAME",
            field=path,
            details={"name_bytes": size, "max_name_bytes": MAX_NAME_BYTES},
        )
    if name in names:
        raise InvalidItem("An earlier concept has the same name; names are unique.", reason="DUPLICATE_NAME", field=path)
    names.add(name)


def read_weights(vector: pair_pb2.SparseVector, bounds: Bounds, path: str) -> WeightedFeatures:
    """Checks and translates features with weights."""
    count, values, most = len(vector.indices), len(vector.values), bounds.limits.max_concept_features
    if count != values:
        raise InvalidItem(
            f"{count} indices stand beside {values} values; give one value for each index.",
            reason="LENGTH_MISMATCH",
            field=path,
            details={"indices": count, "values": values},
        )
    if count == 0:
        raise InvalidItem("The concept names no feature; give at least one.", reason="EMPTY_CONCEPT", field=path)
    if count > most:
        raise out_of_bounds("features", count, most, "max_concept_features", path)
    indices = np.array(vector.indices, dtype=np.int64)
    ascending = np.diff(indices) > 0
    if not ascending.all():
        position = int(np.argmin(ascending)) + 1
        before, after = int(indices[position - 1]), int(indices[position])
        raise InvalidItem(
            f"Index {position} is {after} after {before}; indices ascend, each named once.",
            reason="UNSORTED_INDICES",
            field=f"{path}.indices[{position}]",
            details={"index": after, "before": before},
        )
    if indices[-1] >= bounds.d_sae:
        raise unknown_feature(int(indices[-1]), bounds, f"{path}.indices[{count - 1}]")
    weights = np.array(vector.values, dtype=np.float32)
    _check_finite(weights, f"{path}.values")
    return WeightedFeatures(indices, weights)


def read_vector(tensor: pair_pb2.Tensor, d_in: int, path: str) -> NDArray[np.float32]:
    """Checks and translates a direction, float32 [d_in]."""
    if tensor.dtype not in _ELEMENT_BYTES:
        raise InvalidItem(
            f"dtype is {tensor.dtype}; give DTYPE_FLOAT32, DTYPE_FLOAT16 or DTYPE_BFLOAT16.",
            reason="INVALID_DTYPE",
            field=f"{path}.dtype",
            details={"dtype": tensor.dtype},
        )
    if list(tensor.shape) != [d_in]:
        shape = list(tensor.shape[:8])
        raise InvalidItem(
            f"The direction has shape {shape}; the residual stream at the hook is {d_in} wide, so give shape [{d_in}].",
            reason="SHAPE_MISMATCH",
            field=f"{path}.shape",
            details={"shape": shape, "d_in": d_in},
        )
    needed = d_in * _ELEMENT_BYTES[tensor.dtype]
    if len(tensor.data) != needed:
        raise InvalidItem(
            f"data holds {len(tensor.data)} bytes; shape and dtype say {needed}.",
            reason="DATA_LENGTH_MISMATCH",
            field=f"{path}.data",
            details={"bytes": len(tensor.data), "needed": needed},
        )
    vector = _decode(tensor)
    _check_finite(vector, f"{path}.data")
    return vector


_ELEMENT_BYTES = {
    pair_pb2.Tensor.DTYPE_FLOAT32: 4,
    pair_pb2.Tensor.DTYPE_FLOAT16: 2,
    pair_pb2.Tensor.DTYPE_BFLOAT16: 2,
}


def _decode(tensor: pair_pb2.Tensor) -> NDArray[np.float32]:
    if tensor.dtype == pair_pb2.Tensor.DTYPE_FLOAT32:
        return np.frombuffer(tensor.data, dtype="<f4").astype(np.float32)
    if tensor.dtype == pair_pb2.Tensor.DTYPE_FLOAT16:
        return np.frombuffer(tensor.data, dtype="<f2").astype(np.float32)
    return (np.frombuffer(tensor.data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)


def _check_finite(values: NDArray[np.float32], path: str) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        position = int(np.argmin(finite))
        raise InvalidItem(
            f"Element {position} is {values[position]}; every number must be finite.",
            reason="NOT_FINITE",
            field=f"{path}[{position}]",
            details={"position": position, "value": values[position]},
        )


def _stack(vectors: list[NDArray[np.float32]]) -> Directions | None:
    if not vectors:
        return None
    stacked = np.stack(vectors)
    shape = np.array(stacked.shape, dtype="<i8").tobytes()
    return Directions(stacked, hashlib.sha256(shape + stacked.astype("<f4").tobytes()).digest())
