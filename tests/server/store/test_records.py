"""Dataclasses as JSON and back."""

import json

import numpy as np
import pytest
from assay_server.interventions.compile import Specification
from assay_server.interventions.targets import Target
from assay_server.interventions.types import Family, Mode, Parameters, RowOrder
from assay_server.store.records import read_record, record_of

FEATURES = Target("feature/3", "three", np.array([3, 5]), np.array([1.0, 0.1]))
DIRECTION = Target("spec/d", direction=np.array([0.6, 0.8]), threshold=0.25)


@pytest.mark.parametrize("target", [FEATURES, DIRECTION])
def test_what_is_read_back_is_what_was_written(target: Target) -> None:
    made = Specification(target, Mode.AMPLIFY, 0.5, Family.LABEL_FLIP, Parameters(share=0.1, order=RowOrder.OPPOSING), "audits/a")
    read = read_record(Specification, json.loads(json.dumps(record_of(made))))
    assert (read.mode, read.strength, read.family, read.parameters, read.decision) == (
        made.mode,
        made.strength,
        made.family,
        made.parameters,
        made.decision,
    )
    assert isinstance(read.mode, Mode)
    assert isinstance(read.parameters.order, RowOrder)
    assert read.target.digest() == target.digest()
    assert (read.target.features.dtype, read.target.weights.dtype) == (np.int64, np.float64)
    assert (read.target.direction is None) == (target.direction is None)
    assert read.target.threshold == target.threshold


@pytest.mark.parametrize(
    ("change", "error"), [({"more": 1}, KeyError), ({"mode": "sideways"}, ValueError), ({"target": {}}, TypeError)]
)
def test_what_is_no_such_record_is_refused(change: dict[str, object], error: type[Exception]) -> None:
    record = record_of(Specification(FEATURES, Mode.AMPLIFY, 0.5, Family.STEERING, Parameters()))
    with pytest.raises(error):
        read_record(Specification, {**record, **change})
