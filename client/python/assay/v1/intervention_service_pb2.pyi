from assay.v1 import intervention_pb2 as _intervention_pb2
from assay.v1 import pair_pb2 as _pair_pb2
from assay.v1 import scoring_pb2 as _scoring_pb2
from google.longrunning import operations_pb2 as _operations_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreatePlanRequest(_message.Message):
    __slots__ = ("plan_id", "display_name", "dataset", "interventions", "request_id")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    INTERVENTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    display_name: str
    dataset: str
    interventions: _containers.RepeatedCompositeFieldContainer[_intervention_pb2.InterventionSpec]
    request_id: str
    def __init__(self, plan_id: _Optional[str] = ..., display_name: _Optional[str] = ..., dataset: _Optional[str] = ..., interventions: _Optional[_Iterable[_Union[_intervention_pb2.InterventionSpec, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetPlanRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetPlanResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: _intervention_pb2.Plan
    def __init__(self, plan: _Optional[_Union[_intervention_pb2.Plan, _Mapping]] = ...) -> None: ...

class ListPlansRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "dataset")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    dataset: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., dataset: _Optional[str] = ...) -> None: ...

class ListPlansResponse(_message.Message):
    __slots__ = ("plans", "next_page_token")
    PLANS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plans: _containers.RepeatedCompositeFieldContainer[_intervention_pb2.Plan]
    next_page_token: str
    def __init__(self, plans: _Optional[_Iterable[_Union[_intervention_pb2.Plan, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeletePlanRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeletePlanResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PlanTarget(_message.Message):
    __slots__ = ("model_fingerprint", "tokenizer_fingerprint", "dataset_fingerprint")
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    model_fingerprint: str
    tokenizer_fingerprint: str
    dataset_fingerprint: str
    def __init__(self, model_fingerprint: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., dataset_fingerprint: _Optional[str] = ...) -> None: ...

class StreamOffsetsRequest(_message.Message):
    __slots__ = ("options", "batch")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    options: OffsetOptions
    batch: _scoring_pb2.PairBatch
    def __init__(self, options: _Optional[_Union[OffsetOptions, _Mapping]] = ..., batch: _Optional[_Union[_scoring_pb2.PairBatch, _Mapping]] = ...) -> None: ...

class OffsetOptions(_message.Message):
    __slots__ = ("plan", "beta", "target", "dataset_pairs_only", "truncation", "lane")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DATASET_PAIRS_ONLY_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    plan: str
    beta: float
    target: PlanTarget
    dataset_pairs_only: bool
    truncation: _scoring_pb2.Truncation
    lane: _scoring_pb2.Lane
    def __init__(self, plan: _Optional[str] = ..., beta: _Optional[float] = ..., target: _Optional[_Union[PlanTarget, _Mapping]] = ..., dataset_pairs_only: bool = ..., truncation: _Optional[_Union[_scoring_pb2.Truncation, str]] = ..., lane: _Optional[_Union[_scoring_pb2.Lane, str]] = ...) -> None: ...

class StreamOffsetsResponse(_message.Message):
    __slots__ = ("sequence", "results")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    results: _containers.RepeatedCompositeFieldContainer[OffsetResult]
    def __init__(self, sequence: _Optional[int] = ..., results: _Optional[_Iterable[_Union[OffsetResult, _Mapping]]] = ...) -> None: ...

class OffsetResult(_message.Message):
    __slots__ = ("id", "offset", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    offset: PairOffset
    error: _status_pb2.Status
    def __init__(self, id: _Optional[str] = ..., offset: _Optional[_Union[PairOffset, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class PairOffset(_message.Message):
    __slots__ = ("chosen", "rejected", "offset", "shift", "parts", "stored")
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    chosen: float
    rejected: float
    offset: float
    shift: ReferenceShift
    parts: _containers.RepeatedCompositeFieldContainer[OffsetPart]
    stored: bool
    def __init__(self, chosen: _Optional[float] = ..., rejected: _Optional[float] = ..., offset: _Optional[float] = ..., shift: _Optional[_Union[ReferenceShift, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[OffsetPart, _Mapping]]] = ..., stored: bool = ...) -> None: ...

class ReferenceShift(_message.Message):
    __slots__ = ("ref_chosen_logps", "ref_rejected_logps")
    REF_CHOSEN_LOGPS_FIELD_NUMBER: _ClassVar[int]
    REF_REJECTED_LOGPS_FIELD_NUMBER: _ClassVar[int]
    ref_chosen_logps: float
    ref_rejected_logps: float
    def __init__(self, ref_chosen_logps: _Optional[float] = ..., ref_rejected_logps: _Optional[float] = ...) -> None: ...

class OffsetPart(_message.Message):
    __slots__ = ("intervention", "chosen", "rejected", "chosen_raw", "rejected_raw", "z")
    INTERVENTION_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_RAW_FIELD_NUMBER: _ClassVar[int]
    REJECTED_RAW_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    intervention: str
    chosen: float
    rejected: float
    chosen_raw: float
    rejected_raw: float
    z: _intervention_pb2.ZScore
    def __init__(self, intervention: _Optional[str] = ..., chosen: _Optional[float] = ..., rejected: _Optional[float] = ..., chosen_raw: _Optional[float] = ..., rejected_raw: _Optional[float] = ..., z: _Optional[_Union[_intervention_pb2.ZScore, _Mapping]] = ...) -> None: ...

class GetInterventionRequest(_message.Message):
    __slots__ = ("name", "target")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    name: str
    target: PlanTarget
    def __init__(self, name: _Optional[str] = ..., target: _Optional[_Union[PlanTarget, _Mapping]] = ...) -> None: ...

class GetInterventionResponse(_message.Message):
    __slots__ = ("intervention", "artifact")
    INTERVENTION_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    intervention: _intervention_pb2.Intervention
    artifact: _intervention_pb2.InterventionArtifact
    def __init__(self, intervention: _Optional[_Union[_intervention_pb2.Intervention, _Mapping]] = ..., artifact: _Optional[_Union[_intervention_pb2.InterventionArtifact, _Mapping]] = ...) -> None: ...

class MeasureInterventionRequest(_message.Message):
    __slots__ = ("name", "coefficients", "generated_tokens", "perplexity_limit", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENTS_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    coefficients: _containers.RepeatedScalarFieldContainer[float]
    generated_tokens: int
    perplexity_limit: float
    request_id: str
    def __init__(self, name: _Optional[str] = ..., coefficients: _Optional[_Iterable[float]] = ..., generated_tokens: _Optional[int] = ..., perplexity_limit: _Optional[float] = ..., request_id: _Optional[str] = ...) -> None: ...

class StreamDataPlanRequest(_message.Message):
    __slots__ = ("plan", "target", "start_row")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    START_ROW_FIELD_NUMBER: _ClassVar[int]
    plan: str
    target: PlanTarget
    start_row: int
    def __init__(self, plan: _Optional[str] = ..., target: _Optional[_Union[PlanTarget, _Mapping]] = ..., start_row: _Optional[int] = ...) -> None: ...

class StreamDataPlanResponse(_message.Message):
    __slots__ = ("head", "rows")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    head: DataPlanHead
    rows: _containers.RepeatedCompositeFieldContainer[DataPlanRow]
    def __init__(self, head: _Optional[_Union[DataPlanHead, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[DataPlanRow, _Mapping]]] = ...) -> None: ...

class DataPlanHead(_message.Message):
    __slots__ = ("plan", "dataset_fingerprint", "tokenizer_fingerprint", "texts")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DATASET_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    plan: str
    dataset_fingerprint: str
    tokenizer_fingerprint: str
    texts: _containers.RepeatedCompositeFieldContainer[InoculationText]
    def __init__(self, plan: _Optional[str] = ..., dataset_fingerprint: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., texts: _Optional[_Iterable[_Union[InoculationText, _Mapping]]] = ...) -> None: ...

class InoculationText(_message.Message):
    __slots__ = ("text", "placement")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    text: str
    placement: _intervention_pb2.PromptPlacement
    def __init__(self, text: _Optional[str] = ..., placement: _Optional[_Union[_intervention_pb2.PromptPlacement, str]] = ...) -> None: ...

class DataPlanRow(_message.Message):
    __slots__ = ("row", "id", "weight", "flip", "offset", "offset_chosen", "offset_rejected", "chosen_mask", "rejected_mask", "texts", "steered_by", "differences", "error")
    ROW_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    OFFSET_CHOSEN_FIELD_NUMBER: _ClassVar[int]
    OFFSET_REJECTED_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_MASK_FIELD_NUMBER: _ClassVar[int]
    REJECTED_MASK_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    STEERED_BY_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    row: int
    id: str
    weight: float
    flip: bool
    offset: float
    offset_chosen: float
    offset_rejected: float
    chosen_mask: TokenMask
    rejected_mask: TokenMask
    texts: _containers.RepeatedScalarFieldContainer[int]
    steered_by: _containers.RepeatedScalarFieldContainer[str]
    differences: _containers.RepeatedScalarFieldContainer[float]
    error: _status_pb2.Status
    def __init__(self, row: _Optional[int] = ..., id: _Optional[str] = ..., weight: _Optional[float] = ..., flip: bool = ..., offset: _Optional[float] = ..., offset_chosen: _Optional[float] = ..., offset_rejected: _Optional[float] = ..., chosen_mask: _Optional[_Union[TokenMask, _Mapping]] = ..., rejected_mask: _Optional[_Union[TokenMask, _Mapping]] = ..., texts: _Optional[_Iterable[int]] = ..., steered_by: _Optional[_Iterable[str]] = ..., differences: _Optional[_Iterable[float]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class TokenMask(_message.Message):
    __slots__ = ("tokens", "starts", "ends", "of")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    starts: _containers.RepeatedScalarFieldContainer[int]
    ends: _containers.RepeatedScalarFieldContainer[int]
    of: int
    def __init__(self, tokens: _Optional[_Iterable[int]] = ..., starts: _Optional[_Iterable[int]] = ..., ends: _Optional[_Iterable[int]] = ..., of: _Optional[int] = ...) -> None: ...

class ExportDataPlanRequest(_message.Message):
    __slots__ = ("plan", "target")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    plan: str
    target: PlanTarget
    def __init__(self, plan: _Optional[str] = ..., target: _Optional[_Union[PlanTarget, _Mapping]] = ...) -> None: ...

class ExportDataPlanResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class RankInoculationPromptsRequest(_message.Message):
    __slots__ = ("dataset", "concept", "prompts", "description", "rows", "placement", "request_id")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    concept: str
    prompts: _containers.RepeatedScalarFieldContainer[str]
    description: str
    rows: int
    placement: _intervention_pb2.PromptPlacement
    request_id: str
    def __init__(self, dataset: _Optional[str] = ..., concept: _Optional[str] = ..., prompts: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ..., rows: _Optional[int] = ..., placement: _Optional[_Union[_intervention_pb2.PromptPlacement, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PromptRanking(_message.Message):
    __slots__ = ("prompts", "rows")
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedCompositeFieldContainer[RankedPrompt]
    rows: int
    def __init__(self, prompts: _Optional[_Iterable[_Union[RankedPrompt, _Mapping]]] = ..., rows: _Optional[int] = ...) -> None: ...

class RankedPrompt(_message.Message):
    __slots__ = ("text", "mean", "error", "correlation")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    text: str
    mean: float
    error: float
    correlation: float
    def __init__(self, text: _Optional[str] = ..., mean: _Optional[float] = ..., error: _Optional[float] = ..., correlation: _Optional[float] = ...) -> None: ...

class ScoreRewardsRequest(_message.Message):
    __slots__ = ("plan", "responses", "rewards", "target", "truncation")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    REWARDS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    plan: str
    responses: _containers.RepeatedCompositeFieldContainer[_pair_pb2.PromptedResponse]
    rewards: _containers.RepeatedScalarFieldContainer[float]
    target: PlanTarget
    truncation: _scoring_pb2.Truncation
    def __init__(self, plan: _Optional[str] = ..., responses: _Optional[_Iterable[_Union[_pair_pb2.PromptedResponse, _Mapping]]] = ..., rewards: _Optional[_Iterable[float]] = ..., target: _Optional[_Union[PlanTarget, _Mapping]] = ..., truncation: _Optional[_Union[_scoring_pb2.Truncation, str]] = ...) -> None: ...

class ScoreRewardsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RewardResult]
    def __init__(self, results: _Optional[_Iterable[_Union[RewardResult, _Mapping]]] = ...) -> None: ...

class RewardResult(_message.Message):
    __slots__ = ("id", "reward", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    reward: ShapedReward
    error: _status_pb2.Status
    def __init__(self, id: _Optional[str] = ..., reward: _Optional[_Union[ShapedReward, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ShapedReward(_message.Message):
    __slots__ = ("reward", "penalty", "scores", "z")
    REWARD_FIELD_NUMBER: _ClassVar[int]
    PENALTY_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    reward: float
    penalty: float
    scores: _containers.RepeatedScalarFieldContainer[float]
    z: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, reward: _Optional[float] = ..., penalty: _Optional[float] = ..., scores: _Optional[_Iterable[float]] = ..., z: _Optional[_Iterable[float]] = ...) -> None: ...
