import datetime

from assay.v1 import audit_pb2 as _audit_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyMargins(_message.Message):
    __slots__ = ("margins", "of")
    MARGINS_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    margins: _containers.RepeatedScalarFieldContainer[float]
    of: str
    def __init__(self, margins: _Optional[_Iterable[float]] = ..., of: _Optional[str] = ...) -> None: ...

class RolloutComparison(_message.Message):
    __slots__ = ("dataset", "rollouts", "noise", "plan", "subject", "create_time", "dataset_pairs", "rollout_pairs", "prompts", "noise_pairs", "retained", "above_noise", "noise_floor", "control", "conclusions", "shifts", "total_shifts", "plot_svg", "seed", "draws", "tau", "interval_level", "min_telling")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DATASET_PAIRS_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_PAIRS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    NOISE_PAIRS_FIELD_NUMBER: _ClassVar[int]
    RETAINED_FIELD_NUMBER: _ClassVar[int]
    ABOVE_NOISE_FIELD_NUMBER: _ClassVar[int]
    NOISE_FLOOR_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    CONCLUSIONS_FIELD_NUMBER: _ClassVar[int]
    SHIFTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SHIFTS_FIELD_NUMBER: _ClassVar[int]
    PLOT_SVG_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    TAU_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_LEVEL_FIELD_NUMBER: _ClassVar[int]
    MIN_TELLING_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    rollouts: str
    noise: str
    plan: str
    subject: _audit_pb2.SubjectRef
    create_time: _timestamp_pb2.Timestamp
    dataset_pairs: int
    rollout_pairs: int
    prompts: int
    noise_pairs: int
    retained: Agreement
    above_noise: Agreement
    noise_floor: Agreement
    control: PositiveControl
    conclusions: _containers.RepeatedScalarFieldContainer[str]
    shifts: _containers.RepeatedCompositeFieldContainer[ConceptShift]
    total_shifts: int
    plot_svg: str
    seed: int
    draws: int
    tau: float
    interval_level: float
    min_telling: int
    def __init__(self, dataset: _Optional[str] = ..., rollouts: _Optional[str] = ..., noise: _Optional[str] = ..., plan: _Optional[str] = ..., subject: _Optional[_Union[_audit_pb2.SubjectRef, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dataset_pairs: _Optional[int] = ..., rollout_pairs: _Optional[int] = ..., prompts: _Optional[int] = ..., noise_pairs: _Optional[int] = ..., retained: _Optional[_Union[Agreement, _Mapping]] = ..., above_noise: _Optional[_Union[Agreement, _Mapping]] = ..., noise_floor: _Optional[_Union[Agreement, _Mapping]] = ..., control: _Optional[_Union[PositiveControl, _Mapping]] = ..., conclusions: _Optional[_Iterable[str]] = ..., shifts: _Optional[_Iterable[_Union[ConceptShift, _Mapping]]] = ..., total_shifts: _Optional[int] = ..., plot_svg: _Optional[str] = ..., seed: _Optional[int] = ..., draws: _Optional[int] = ..., tau: _Optional[float] = ..., interval_level: _Optional[float] = ..., min_telling: _Optional[int] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("concepts", "pearson_squared", "r_squared", "fitted_r_squared", "slope", "spearman", "same_sign", "with_gap", "gap_slope")
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    PEARSON_SQUARED_FIELD_NUMBER: _ClassVar[int]
    R_SQUARED_FIELD_NUMBER: _ClassVar[int]
    FITTED_R_SQUARED_FIELD_NUMBER: _ClassVar[int]
    SLOPE_FIELD_NUMBER: _ClassVar[int]
    SPEARMAN_FIELD_NUMBER: _ClassVar[int]
    SAME_SIGN_FIELD_NUMBER: _ClassVar[int]
    WITH_GAP_FIELD_NUMBER: _ClassVar[int]
    GAP_SLOPE_FIELD_NUMBER: _ClassVar[int]
    concepts: int
    pearson_squared: Estimate
    r_squared: Estimate
    fitted_r_squared: Estimate
    slope: Estimate
    spearman: Estimate
    same_sign: Estimate
    with_gap: Estimate
    gap_slope: Estimate
    def __init__(self, concepts: _Optional[int] = ..., pearson_squared: _Optional[_Union[Estimate, _Mapping]] = ..., r_squared: _Optional[_Union[Estimate, _Mapping]] = ..., fitted_r_squared: _Optional[_Union[Estimate, _Mapping]] = ..., slope: _Optional[_Union[Estimate, _Mapping]] = ..., spearman: _Optional[_Union[Estimate, _Mapping]] = ..., same_sign: _Optional[_Union[Estimate, _Mapping]] = ..., with_gap: _Optional[_Union[Estimate, _Mapping]] = ..., gap_slope: _Optional[_Union[Estimate, _Mapping]] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("value", "low", "high")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    value: float
    low: float
    high: float
    def __init__(self, value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class PositiveControl(_message.Message):
    __slots__ = ("pairs", "of", "margin", "accuracy", "passed")
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    pairs: int
    of: str
    margin: Estimate
    accuracy: Estimate
    passed: bool
    def __init__(self, pairs: _Optional[int] = ..., of: _Optional[str] = ..., margin: _Optional[_Union[Estimate, _Mapping]] = ..., accuracy: _Optional[_Union[Estimate, _Mapping]] = ..., passed: bool = ...) -> None: ...

class ConceptShift(_message.Message):
    __slots__ = ("concept", "predicted", "predicted_error", "observed", "noise", "noise_error", "retained", "clears_noise", "gap")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_ERROR_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    NOISE_ERROR_FIELD_NUMBER: _ClassVar[int]
    RETAINED_FIELD_NUMBER: _ClassVar[int]
    CLEARS_NOISE_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    concept: _audit_pb2.ConceptRef
    predicted: float
    predicted_error: float
    observed: Estimate
    noise: float
    noise_error: float
    retained: bool
    clears_noise: bool
    gap: float
    def __init__(self, concept: _Optional[_Union[_audit_pb2.ConceptRef, _Mapping]] = ..., predicted: _Optional[float] = ..., predicted_error: _Optional[float] = ..., observed: _Optional[_Union[Estimate, _Mapping]] = ..., noise: _Optional[float] = ..., noise_error: _Optional[float] = ..., retained: bool = ..., clears_noise: bool = ..., gap: _Optional[float] = ...) -> None: ...
