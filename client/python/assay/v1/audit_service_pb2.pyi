from assay.v1 import audit_pb2 as _audit_pb2
from assay.v1 import comparison_pb2 as _comparison_pb2
from assay.v1 import scoring_pb2 as _scoring_pb2
from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UploadPairsRequest(_message.Message):
    __slots__ = ("options", "batch", "end")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    options: UploadOptions
    batch: _scoring_pb2.PairBatch
    end: UploadEnd
    def __init__(self, options: _Optional[_Union[UploadOptions, _Mapping]] = ..., batch: _Optional[_Union[_scoring_pb2.PairBatch, _Mapping]] = ..., end: _Optional[_Union[UploadEnd, _Mapping]] = ...) -> None: ...

class UploadEnd(_message.Message):
    __slots__ = ("pairs",)
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    pairs: int
    def __init__(self, pairs: _Optional[int] = ...) -> None: ...

class UploadOptions(_message.Message):
    __slots__ = ("request_id", "display_name")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    display_name: str
    def __init__(self, request_id: _Optional[str] = ..., display_name: _Optional[str] = ...) -> None: ...

class UploadPairsResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: _audit_pb2.Dataset
    def __init__(self, dataset: _Optional[_Union[_audit_pb2.Dataset, _Mapping]] = ...) -> None: ...

class GetUploadRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class GetUploadResponse(_message.Message):
    __slots__ = ("next_sequence", "pairs", "dataset")
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    next_sequence: int
    pairs: int
    dataset: _audit_pb2.Dataset
    def __init__(self, next_sequence: _Optional[int] = ..., pairs: _Optional[int] = ..., dataset: _Optional[_Union[_audit_pb2.Dataset, _Mapping]] = ...) -> None: ...

class ImportPairsRequest(_message.Message):
    __slots__ = ("uri", "display_name", "request_id")
    URI_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    uri: str
    display_name: str
    request_id: str
    def __init__(self, uri: _Optional[str] = ..., display_name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetDatasetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetDatasetResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: _audit_pb2.Dataset
    def __init__(self, dataset: _Optional[_Union[_audit_pb2.Dataset, _Mapping]] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets", "next_page_token")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[_audit_pb2.Dataset]
    next_page_token: str
    def __init__(self, datasets: _Optional[_Iterable[_Union[_audit_pb2.Dataset, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteDatasetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteDatasetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateAuditRequest(_message.Message):
    __slots__ = ("dataset", "display_name", "options", "request_id")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    display_name: str
    options: _audit_pb2.AuditOptions
    request_id: str
    def __init__(self, dataset: _Optional[str] = ..., display_name: _Optional[str] = ..., options: _Optional[_Union[_audit_pb2.AuditOptions, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetAuditRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetAuditResponse(_message.Message):
    __slots__ = ("audit",)
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    audit: _audit_pb2.Audit
    def __init__(self, audit: _Optional[_Union[_audit_pb2.Audit, _Mapping]] = ...) -> None: ...

class ListAuditsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "dataset")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    dataset: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., dataset: _Optional[str] = ...) -> None: ...

class ListAuditsResponse(_message.Message):
    __slots__ = ("audits", "next_page_token")
    AUDITS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    audits: _containers.RepeatedCompositeFieldContainer[_audit_pb2.Audit]
    next_page_token: str
    def __init__(self, audits: _Optional[_Iterable[_Union[_audit_pb2.Audit, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteAuditRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteAuditResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TestHypothesisRequest(_message.Message):
    __slots__ = ("dataset", "concept", "prompt_concept", "audit_condition", "metadata", "options", "request_id")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_CONCEPT_FIELD_NUMBER: _ClassVar[int]
    AUDIT_CONDITION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    concept: str
    prompt_concept: str
    audit_condition: str
    metadata: MetadataCondition
    options: _audit_pb2.AuditOptions
    request_id: str
    def __init__(self, dataset: _Optional[str] = ..., concept: _Optional[str] = ..., prompt_concept: _Optional[str] = ..., audit_condition: _Optional[str] = ..., metadata: _Optional[_Union[MetadataCondition, _Mapping]] = ..., options: _Optional[_Union[_audit_pb2.AuditOptions, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class MetadataCondition(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class ListHypothesesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter", "order_by")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: str
    order_by: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ..., order_by: _Optional[str] = ...) -> None: ...

class ListHypothesesResponse(_message.Message):
    __slots__ = ("hypotheses", "next_page_token", "total_size")
    HYPOTHESES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    hypotheses: _containers.RepeatedCompositeFieldContainer[_audit_pb2.Hypothesis]
    next_page_token: str
    total_size: int
    def __init__(self, hypotheses: _Optional[_Iterable[_Union[_audit_pb2.Hypothesis, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class ListCardsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListCardsResponse(_message.Message):
    __slots__ = ("cards",)
    CARDS_FIELD_NUMBER: _ClassVar[int]
    cards: _containers.RepeatedCompositeFieldContainer[_audit_pb2.Card]
    def __init__(self, cards: _Optional[_Iterable[_Union[_audit_pb2.Card, _Mapping]]] = ...) -> None: ...

class GetHypothesisRequest(_message.Message):
    __slots__ = ("name", "highlights")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HIGHLIGHTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    highlights: bool
    def __init__(self, name: _Optional[str] = ..., highlights: bool = ...) -> None: ...

class GetHypothesisResponse(_message.Message):
    __slots__ = ("hypothesis",)
    HYPOTHESIS_FIELD_NUMBER: _ClassVar[int]
    hypothesis: _audit_pb2.Hypothesis
    def __init__(self, hypothesis: _Optional[_Union[_audit_pb2.Hypothesis, _Mapping]] = ...) -> None: ...

class ExportAuditRequest(_message.Message):
    __slots__ = ("name", "format")
    class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FORMAT_UNSPECIFIED: _ClassVar[ExportAuditRequest.Format]
        FORMAT_HTML: _ClassVar[ExportAuditRequest.Format]
        FORMAT_PARQUET: _ClassVar[ExportAuditRequest.Format]
    FORMAT_UNSPECIFIED: ExportAuditRequest.Format
    FORMAT_HTML: ExportAuditRequest.Format
    FORMAT_PARQUET: ExportAuditRequest.Format
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    name: str
    format: ExportAuditRequest.Format
    def __init__(self, name: _Optional[str] = ..., format: _Optional[_Union[ExportAuditRequest.Format, str]] = ...) -> None: ...

class ExportAuditResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class RecordDecisionRequest(_message.Message):
    __slots__ = ("decision", "request_id")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    decision: _audit_pb2.Decision
    request_id: str
    def __init__(self, decision: _Optional[_Union[_audit_pb2.Decision, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RecordDecisionResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: _audit_pb2.Decision
    def __init__(self, decision: _Optional[_Union[_audit_pb2.Decision, _Mapping]] = ...) -> None: ...

class ListDecisionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDecisionsResponse(_message.Message):
    __slots__ = ("decisions", "next_page_token")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[_audit_pb2.Decision]
    next_page_token: str
    def __init__(self, decisions: _Optional[_Iterable[_Union[_audit_pb2.Decision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CompareRolloutsRequest(_message.Message):
    __slots__ = ("dataset", "rollouts", "noise", "plan", "concepts", "families", "margins", "tau", "interval_level", "min_telling", "draws", "seed", "keep", "request_id")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    FAMILIES_FIELD_NUMBER: _ClassVar[int]
    MARGINS_FIELD_NUMBER: _ClassVar[int]
    TAU_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_LEVEL_FIELD_NUMBER: _ClassVar[int]
    MIN_TELLING_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    rollouts: str
    noise: str
    plan: str
    concepts: _containers.RepeatedScalarFieldContainer[str]
    families: _containers.RepeatedScalarFieldContainer[_audit_pb2.ConceptFamily]
    margins: _comparison_pb2.PolicyMargins
    tau: float
    interval_level: float
    min_telling: int
    draws: int
    seed: int
    keep: int
    request_id: str
    def __init__(self, dataset: _Optional[str] = ..., rollouts: _Optional[str] = ..., noise: _Optional[str] = ..., plan: _Optional[str] = ..., concepts: _Optional[_Iterable[str]] = ..., families: _Optional[_Iterable[_Union[_audit_pb2.ConceptFamily, str]]] = ..., margins: _Optional[_Union[_comparison_pb2.PolicyMargins, _Mapping]] = ..., tau: _Optional[float] = ..., interval_level: _Optional[float] = ..., min_telling: _Optional[int] = ..., draws: _Optional[int] = ..., seed: _Optional[int] = ..., keep: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...
