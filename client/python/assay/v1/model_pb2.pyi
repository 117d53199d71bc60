from assay.v1 import concept_pb2 as _concept_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "model_id", "model_fingerprint", "model_architecture", "tokenizer_fingerprint", "template_fingerprint", "hook", "hook_module", "blocks_run", "blocks_total", "d_in", "d_sae", "sae_architecture", "sae_id", "sae_fingerprint", "dtype", "device", "context_tokens", "explained_variance", "mean_l0", "calibration_tokens", "overrides", "limits", "server_version", "labelled_features", "whole_model_fingerprint")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    HOOK_FIELD_NUMBER: _ClassVar[int]
    HOOK_MODULE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_RUN_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    D_IN_FIELD_NUMBER: _ClassVar[int]
    D_SAE_FIELD_NUMBER: _ClassVar[int]
    SAE_ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    SAE_ID_FIELD_NUMBER: _ClassVar[int]
    SAE_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_L0_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELLED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    WHOLE_MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_id: str
    model_fingerprint: str
    model_architecture: str
    tokenizer_fingerprint: str
    template_fingerprint: str
    hook: str
    hook_module: str
    blocks_run: int
    blocks_total: int
    d_in: int
    d_sae: int
    sae_architecture: str
    sae_id: str
    sae_fingerprint: str
    dtype: str
    device: str
    context_tokens: int
    explained_variance: float
    mean_l0: float
    calibration_tokens: int
    overrides: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    server_version: str
    labelled_features: int
    whole_model_fingerprint: str
    def __init__(self, name: _Optional[str] = ..., model_id: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., model_architecture: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., template_fingerprint: _Optional[str] = ..., hook: _Optional[str] = ..., hook_module: _Optional[str] = ..., blocks_run: _Optional[int] = ..., blocks_total: _Optional[int] = ..., d_in: _Optional[int] = ..., d_sae: _Optional[int] = ..., sae_architecture: _Optional[str] = ..., sae_id: _Optional[str] = ..., sae_fingerprint: _Optional[str] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., context_tokens: _Optional[int] = ..., explained_variance: _Optional[float] = ..., mean_l0: _Optional[float] = ..., calibration_tokens: _Optional[int] = ..., overrides: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., server_version: _Optional[str] = ..., labelled_features: _Optional[int] = ..., whole_model_fingerprint: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_pairs_per_request", "max_pairs_per_message", "max_message_bytes", "max_text_bytes", "max_sequence_tokens", "max_top_k", "max_concepts", "max_concept_features", "max_tokens_in_flight", "max_streams", "batch_tokens", "max_features_per_request")
    MAX_PAIRS_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    MAX_PAIRS_PER_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQUENCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOP_K_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCEPT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    BATCH_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_FEATURES_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    max_pairs_per_request: int
    max_pairs_per_message: int
    max_message_bytes: int
    max_text_bytes: int
    max_sequence_tokens: int
    max_top_k: int
    max_concepts: int
    max_concept_features: int
    max_tokens_in_flight: int
    max_streams: int
    batch_tokens: int
    max_features_per_request: int
    def __init__(self, max_pairs_per_request: _Optional[int] = ..., max_pairs_per_message: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_text_bytes: _Optional[int] = ..., max_sequence_tokens: _Optional[int] = ..., max_top_k: _Optional[int] = ..., max_concepts: _Optional[int] = ..., max_concept_features: _Optional[int] = ..., max_tokens_in_flight: _Optional[int] = ..., max_streams: _Optional[int] = ..., batch_tokens: _Optional[int] = ..., max_features_per_request: _Optional[int] = ...) -> None: ...

class BatchGetFeaturesRequest(_message.Message):
    __slots__ = ("parent", "ids")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    parent: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, parent: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ...) -> None: ...

class BatchGetFeaturesResponse(_message.Message):
    __slots__ = ("features",)
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedCompositeFieldContainer[_concept_pb2.Feature]
    def __init__(self, features: _Optional[_Iterable[_Union[_concept_pb2.Feature, _Mapping]]] = ...) -> None: ...

class ListFeaturesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class ListFeaturesResponse(_message.Message):
    __slots__ = ("features", "next_page_token", "total_size")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedCompositeFieldContainer[_concept_pb2.Feature]
    next_page_token: str
    total_size: int
    def __init__(self, features: _Optional[_Iterable[_Union[_concept_pb2.Feature, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...
