import datetime

from assay.v1 import audit_pb2 as _audit_pb2
from assay.v1 import concept_pb2 as _concept_pb2
from assay.v1 import pair_pb2 as _pair_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InterventionMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERVENTION_MODE_UNSPECIFIED: _ClassVar[InterventionMode]
    INTERVENTION_MODE_EXPLAIN_AWAY: _ClassVar[InterventionMode]
    INTERVENTION_MODE_AMPLIFY: _ClassVar[InterventionMode]

class InterventionFamily(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERVENTION_FAMILY_UNSPECIFIED: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_REWARD_SHAPING: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_STEERING: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_INOCULATION: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_STEERING_VECTOR: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_ABLATION: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_SAE_CLAMP: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_EXAMPLE_FILTER: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_LABEL_FLIP: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_REWEIGHT: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_TOKEN_FILTER: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_INOCULATION_ROWS: _ClassVar[InterventionFamily]
    INTERVENTION_FAMILY_ONLINE_REWARD: _ClassVar[InterventionFamily]

class ScoreStatistic(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCORE_STATISTIC_UNSPECIFIED: _ClassVar[ScoreStatistic]
    SCORE_STATISTIC_LARGEST: _ClassVar[ScoreStatistic]
    SCORE_STATISTIC_FIRING: _ClassVar[ScoreStatistic]

class ResponseSide(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESPONSE_SIDE_UNSPECIFIED: _ClassVar[ResponseSide]
    RESPONSE_SIDE_CHOSEN: _ClassVar[ResponseSide]
    RESPONSE_SIDE_REJECTED: _ClassVar[ResponseSide]
    RESPONSE_SIDE_BOTH: _ClassVar[ResponseSide]

class EditedSpan(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EDITED_SPAN_UNSPECIFIED: _ClassVar[EditedSpan]
    EDITED_SPAN_FINAL_TURN_ON: _ClassVar[EditedSpan]
    EDITED_SPAN_RESPONSE: _ClassVar[EditedSpan]
    EDITED_SPAN_ALL: _ClassVar[EditedSpan]

class PromptPlacement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROMPT_PLACEMENT_UNSPECIFIED: _ClassVar[PromptPlacement]
    PROMPT_PLACEMENT_SYSTEM: _ClassVar[PromptPlacement]
    PROMPT_PLACEMENT_USER: _ClassVar[PromptPlacement]

class RowOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_ORDER_UNSPECIFIED: _ClassVar[RowOrder]
    ROW_ORDER_TEACHING: _ClassVar[RowOrder]
    ROW_ORDER_OPPOSING: _ClassVar[RowOrder]

class MaskUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_UNIT_UNSPECIFIED: _ClassVar[MaskUnit]
    MASK_UNIT_WORD: _ClassVar[MaskUnit]
    MASK_UNIT_TOKEN: _ClassVar[MaskUnit]
INTERVENTION_MODE_UNSPECIFIED: InterventionMode
INTERVENTION_MODE_EXPLAIN_AWAY: InterventionMode
INTERVENTION_MODE_AMPLIFY: InterventionMode
INTERVENTION_FAMILY_UNSPECIFIED: InterventionFamily
INTERVENTION_FAMILY_REWARD_SHAPING: InterventionFamily
INTERVENTION_FAMILY_STEERING: InterventionFamily
INTERVENTION_FAMILY_INOCULATION: InterventionFamily
INTERVENTION_FAMILY_STEERING_VECTOR: InterventionFamily
INTERVENTION_FAMILY_ABLATION: InterventionFamily
INTERVENTION_FAMILY_SAE_CLAMP: InterventionFamily
INTERVENTION_FAMILY_EXAMPLE_FILTER: InterventionFamily
INTERVENTION_FAMILY_LABEL_FLIP: InterventionFamily
INTERVENTION_FAMILY_REWEIGHT: InterventionFamily
INTERVENTION_FAMILY_TOKEN_FILTER: InterventionFamily
INTERVENTION_FAMILY_INOCULATION_ROWS: InterventionFamily
INTERVENTION_FAMILY_ONLINE_REWARD: InterventionFamily
SCORE_STATISTIC_UNSPECIFIED: ScoreStatistic
SCORE_STATISTIC_LARGEST: ScoreStatistic
SCORE_STATISTIC_FIRING: ScoreStatistic
RESPONSE_SIDE_UNSPECIFIED: ResponseSide
RESPONSE_SIDE_CHOSEN: ResponseSide
RESPONSE_SIDE_REJECTED: ResponseSide
RESPONSE_SIDE_BOTH: ResponseSide
EDITED_SPAN_UNSPECIFIED: EditedSpan
EDITED_SPAN_FINAL_TURN_ON: EditedSpan
EDITED_SPAN_RESPONSE: EditedSpan
EDITED_SPAN_ALL: EditedSpan
PROMPT_PLACEMENT_UNSPECIFIED: PromptPlacement
PROMPT_PLACEMENT_SYSTEM: PromptPlacement
PROMPT_PLACEMENT_USER: PromptPlacement
ROW_ORDER_UNSPECIFIED: RowOrder
ROW_ORDER_TEACHING: RowOrder
ROW_ORDER_OPPOSING: RowOrder
MASK_UNIT_UNSPECIFIED: MaskUnit
MASK_UNIT_WORD: MaskUnit
MASK_UNIT_TOKEN: MaskUnit

class InterventionParameters(_message.Message):
    __slots__ = ("statistic", "coefficient", "side", "span", "share", "order", "threshold", "unit", "prompt", "placement", "rank")
    STATISTIC_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    statistic: ScoreStatistic
    coefficient: float
    side: ResponseSide
    span: EditedSpan
    share: float
    order: RowOrder
    threshold: float
    unit: MaskUnit
    prompt: str
    placement: PromptPlacement
    rank: int
    def __init__(self, statistic: _Optional[_Union[ScoreStatistic, str]] = ..., coefficient: _Optional[float] = ..., side: _Optional[_Union[ResponseSide, str]] = ..., span: _Optional[_Union[EditedSpan, str]] = ..., share: _Optional[float] = ..., order: _Optional[_Union[RowOrder, str]] = ..., threshold: _Optional[float] = ..., unit: _Optional[_Union[MaskUnit, str]] = ..., prompt: _Optional[str] = ..., placement: _Optional[_Union[PromptPlacement, str]] = ..., rank: _Optional[int] = ...) -> None: ...

class InterventionSpec(_message.Message):
    __slots__ = ("decision", "concept", "spec", "mode", "strength", "family", "parameters")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    decision: str
    concept: str
    spec: _concept_pb2.ConceptSpec
    mode: InterventionMode
    strength: float
    family: InterventionFamily
    parameters: InterventionParameters
    def __init__(self, decision: _Optional[str] = ..., concept: _Optional[str] = ..., spec: _Optional[_Union[_concept_pb2.ConceptSpec, _Mapping]] = ..., mode: _Optional[_Union[InterventionMode, str]] = ..., strength: _Optional[float] = ..., family: _Optional[_Union[InterventionFamily, str]] = ..., parameters: _Optional[_Union[InterventionParameters, _Mapping]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("name", "display_name", "create_time", "dataset", "dataset_fingerprint", "subject", "whole_model_fingerprint", "interventions", "pairs", "unusable_pairs", "fingerprint")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DATASET_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    WHOLE_MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    INTERVENTIONS_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    UNUSABLE_PAIRS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    create_time: _timestamp_pb2.Timestamp
    dataset: str
    dataset_fingerprint: str
    subject: _audit_pb2.SubjectRef
    whole_model_fingerprint: str
    interventions: _containers.RepeatedCompositeFieldContainer[Intervention]
    pairs: int
    unusable_pairs: int
    fingerprint: str
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dataset: _Optional[str] = ..., dataset_fingerprint: _Optional[str] = ..., subject: _Optional[_Union[_audit_pb2.SubjectRef, _Mapping]] = ..., whole_model_fingerprint: _Optional[str] = ..., interventions: _Optional[_Iterable[_Union[Intervention, _Mapping]]] = ..., pairs: _Optional[int] = ..., unusable_pairs: _Optional[int] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class Intervention(_message.Message):
    __slots__ = ("name", "concept", "mode", "strength", "family", "parameters", "decision", "z", "expected", "side_effects", "warnings", "dose_response")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    SIDE_EFFECTS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    DOSE_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    name: str
    concept: _audit_pb2.ConceptRef
    mode: InterventionMode
    strength: float
    family: InterventionFamily
    parameters: InterventionParameters
    decision: str
    z: ZScore
    expected: ExpectedEffect
    side_effects: _containers.RepeatedCompositeFieldContainer[SideEffect]
    warnings: _containers.RepeatedCompositeFieldContainer[PlanWarning]
    dose_response: DoseResponse
    def __init__(self, name: _Optional[str] = ..., concept: _Optional[_Union[_audit_pb2.ConceptRef, _Mapping]] = ..., mode: _Optional[_Union[InterventionMode, str]] = ..., strength: _Optional[float] = ..., family: _Optional[_Union[InterventionFamily, str]] = ..., parameters: _Optional[_Union[InterventionParameters, _Mapping]] = ..., decision: _Optional[str] = ..., z: _Optional[_Union[ZScore, _Mapping]] = ..., expected: _Optional[_Union[ExpectedEffect, _Mapping]] = ..., side_effects: _Optional[_Iterable[_Union[SideEffect, _Mapping]]] = ..., warnings: _Optional[_Iterable[_Union[PlanWarning, _Mapping]]] = ..., dose_response: _Optional[_Union[DoseResponse, _Mapping]] = ...) -> None: ...

class ZScore(_message.Message):
    __slots__ = ("mean", "deviation", "responses")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    DEVIATION_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    mean: float
    deviation: float
    responses: int
    def __init__(self, mean: _Optional[float] = ..., deviation: _Optional[float] = ..., responses: _Optional[int] = ...) -> None: ...

class ExpectedEffect(_message.Message):
    __slots__ = ("telling_pairs", "shift_before", "shift_after", "mean_offset", "rows")
    TELLING_PAIRS_FIELD_NUMBER: _ClassVar[int]
    SHIFT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SHIFT_AFTER_FIELD_NUMBER: _ClassVar[int]
    MEAN_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    telling_pairs: int
    shift_before: float
    shift_after: float
    mean_offset: float
    rows: int
    def __init__(self, telling_pairs: _Optional[int] = ..., shift_before: _Optional[float] = ..., shift_after: _Optional[float] = ..., mean_offset: _Optional[float] = ..., rows: _Optional[int] = ...) -> None: ...

class SideEffect(_message.Message):
    __slots__ = ("concept", "correlation", "shift_before", "shift_after")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    SHIFT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SHIFT_AFTER_FIELD_NUMBER: _ClassVar[int]
    concept: _audit_pb2.ConceptRef
    correlation: float
    shift_before: float
    shift_after: float
    def __init__(self, concept: _Optional[_Union[_audit_pb2.ConceptRef, _Mapping]] = ..., correlation: _Optional[float] = ..., shift_before: _Optional[float] = ..., shift_after: _Optional[float] = ...) -> None: ...

class PlanWarning(_message.Message):
    __slots__ = ("code", "text")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CODE_UNSPECIFIED: _ClassVar[PlanWarning.Code]
        CODE_TOO_FEW_ROWS: _ClassVar[PlanWarning.Code]
        CODE_NO_VARIATION: _ClassVar[PlanWarning.Code]
        CODE_OUTSIDE_PUBLISHED_RANGE: _ClassVar[PlanWarning.Code]
        CODE_CANNOT_AMPLIFY: _ClassVar[PlanWarning.Code]
        CODE_MOVES_ALONG: _ClassVar[PlanWarning.Code]
        CODE_SATURATED: _ClassVar[PlanWarning.Code]
        CODE_NO_USEFUL_RANGE: _ClassVar[PlanWarning.Code]
        CODE_AGAINST_THE_DATA: _ClassVar[PlanWarning.Code]
        CODE_STAND_IN: _ClassVar[PlanWarning.Code]
    CODE_UNSPECIFIED: PlanWarning.Code
    CODE_TOO_FEW_ROWS: PlanWarning.Code
    CODE_NO_VARIATION: PlanWarning.Code
    CODE_OUTSIDE_PUBLISHED_RANGE: PlanWarning.Code
    CODE_CANNOT_AMPLIFY: PlanWarning.Code
    CODE_MOVES_ALONG: PlanWarning.Code
    CODE_SATURATED: PlanWarning.Code
    CODE_NO_USEFUL_RANGE: PlanWarning.Code
    CODE_AGAINST_THE_DATA: PlanWarning.Code
    CODE_STAND_IN: PlanWarning.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: PlanWarning.Code
    text: str
    def __init__(self, code: _Optional[_Union[PlanWarning.Code, str]] = ..., text: _Optional[str] = ...) -> None: ...

class DoseResponse(_message.Message):
    __slots__ = ("points", "low", "high", "recommended", "perplexity_limit", "residual_norm", "perplexity_tokens", "generated_tokens")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDED_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_NORM_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[DosePoint]
    low: float
    high: float
    recommended: float
    perplexity_limit: float
    residual_norm: float
    perplexity_tokens: int
    generated_tokens: int
    def __init__(self, points: _Optional[_Iterable[_Union[DosePoint, _Mapping]]] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., recommended: _Optional[float] = ..., perplexity_limit: _Optional[float] = ..., residual_norm: _Optional[float] = ..., perplexity_tokens: _Optional[int] = ..., generated_tokens: _Optional[int] = ...) -> None: ...

class DosePoint(_message.Message):
    __slots__ = ("coefficient", "concept_score", "concept_score_error", "perplexity")
    COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_SCORE_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_SCORE_ERROR_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
    coefficient: float
    concept_score: float
    concept_score_error: float
    perplexity: float
    def __init__(self, coefficient: _Optional[float] = ..., concept_score: _Optional[float] = ..., concept_score_error: _Optional[float] = ..., perplexity: _Optional[float] = ...) -> None: ...

class InterventionArtifact(_message.Message):
    __slots__ = ("steering", "ablation", "clamp", "hook", "hook_module", "dtype", "side", "span")
    STEERING_FIELD_NUMBER: _ClassVar[int]
    ABLATION_FIELD_NUMBER: _ClassVar[int]
    CLAMP_FIELD_NUMBER: _ClassVar[int]
    HOOK_FIELD_NUMBER: _ClassVar[int]
    HOOK_MODULE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    steering: SteeringVector
    ablation: AblationBasis
    clamp: SaeClamp
    hook: str
    hook_module: str
    dtype: str
    side: ResponseSide
    span: EditedSpan
    def __init__(self, steering: _Optional[_Union[SteeringVector, _Mapping]] = ..., ablation: _Optional[_Union[AblationBasis, _Mapping]] = ..., clamp: _Optional[_Union[SaeClamp, _Mapping]] = ..., hook: _Optional[str] = ..., hook_module: _Optional[str] = ..., dtype: _Optional[str] = ..., side: _Optional[_Union[ResponseSide, str]] = ..., span: _Optional[_Union[EditedSpan, str]] = ...) -> None: ...

class SteeringVector(_message.Message):
    __slots__ = ("vector", "coefficient", "norm")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    vector: _pair_pb2.Tensor
    coefficient: float
    norm: float
    def __init__(self, vector: _Optional[_Union[_pair_pb2.Tensor, _Mapping]] = ..., coefficient: _Optional[float] = ..., norm: _Optional[float] = ...) -> None: ...

class AblationBasis(_message.Message):
    __slots__ = ("basis", "mean", "strength")
    BASIS_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    basis: _pair_pb2.Tensor
    mean: _pair_pb2.Tensor
    strength: float
    def __init__(self, basis: _Optional[_Union[_pair_pb2.Tensor, _Mapping]] = ..., mean: _Optional[_Union[_pair_pb2.Tensor, _Mapping]] = ..., strength: _Optional[float] = ...) -> None: ...

class SaeClamp(_message.Message):
    __slots__ = ("sae_id", "sae_fingerprint", "features", "values", "decoder")
    SAE_ID_FIELD_NUMBER: _ClassVar[int]
    SAE_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    sae_id: str
    sae_fingerprint: str
    features: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    decoder: _pair_pb2.Tensor
    def __init__(self, sae_id: _Optional[str] = ..., sae_fingerprint: _Optional[str] = ..., features: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ..., decoder: _Optional[_Union[_pair_pb2.Tensor, _Mapping]] = ...) -> None: ...
