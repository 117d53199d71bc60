from assay.v1 import concept_pb2 as _concept_pb2
from assay.v1 import pair_pb2 as _pair_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Truncation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRUNCATION_UNSPECIFIED: _ClassVar[Truncation]
    TRUNCATION_PROMPT_START: _ClassVar[Truncation]
    TRUNCATION_RESPONSE_END: _ClassVar[Truncation]

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_UNSPECIFIED: _ClassVar[Lane]
    LANE_INTERACTIVE: _ClassVar[Lane]
    LANE_BULK: _ClassVar[Lane]

class CacheMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_MODE_UNSPECIFIED: _ClassVar[CacheMode]
    CACHE_MODE_BYPASS: _ClassVar[CacheMode]

class CacheState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_STATE_UNSPECIFIED: _ClassVar[CacheState]
    CACHE_STATE_HIT: _ClassVar[CacheState]
    CACHE_STATE_MISS: _ClassVar[CacheState]
    CACHE_STATE_SHARED: _ClassVar[CacheState]
    CACHE_STATE_BYPASS: _ClassVar[CacheState]
TRUNCATION_UNSPECIFIED: Truncation
TRUNCATION_PROMPT_START: Truncation
TRUNCATION_RESPONSE_END: Truncation
LANE_UNSPECIFIED: Lane
LANE_INTERACTIVE: Lane
LANE_BULK: Lane
CACHE_MODE_UNSPECIFIED: CacheMode
CACHE_MODE_BYPASS: CacheMode
CACHE_STATE_UNSPECIFIED: CacheState
CACHE_STATE_HIT: CacheState
CACHE_STATE_MISS: CacheState
CACHE_STATE_SHARED: CacheState
CACHE_STATE_BYPASS: CacheState

class ScoreOptions(_message.Message):
    __slots__ = ("top_k", "concepts", "include_features", "include_prompt", "include_mean_residual", "truncation", "lane", "cache_mode")
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FEATURES_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_MEAN_RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    CACHE_MODE_FIELD_NUMBER: _ClassVar[int]
    top_k: int
    concepts: _containers.RepeatedCompositeFieldContainer[_concept_pb2.ConceptSpec]
    include_features: bool
    include_prompt: bool
    include_mean_residual: bool
    truncation: Truncation
    lane: Lane
    cache_mode: CacheMode
    def __init__(self, top_k: _Optional[int] = ..., concepts: _Optional[_Iterable[_Union[_concept_pb2.ConceptSpec, _Mapping]]] = ..., include_features: bool = ..., include_prompt: bool = ..., include_mean_residual: bool = ..., truncation: _Optional[_Union[Truncation, str]] = ..., lane: _Optional[_Union[Lane, str]] = ..., cache_mode: _Optional[_Union[CacheMode, str]] = ...) -> None: ...

class ScorePairsRequest(_message.Message):
    __slots__ = ("pairs", "options")
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.RepeatedCompositeFieldContainer[_pair_pb2.Pair]
    options: ScoreOptions
    def __init__(self, pairs: _Optional[_Iterable[_Union[_pair_pb2.Pair, _Mapping]]] = ..., options: _Optional[_Union[ScoreOptions, _Mapping]] = ...) -> None: ...

class ScorePairsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[PairResult]
    def __init__(self, results: _Optional[_Iterable[_Union[PairResult, _Mapping]]] = ...) -> None: ...

class StreamPairsRequest(_message.Message):
    __slots__ = ("options", "batch")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    options: StreamOptions
    batch: PairBatch
    def __init__(self, options: _Optional[_Union[StreamOptions, _Mapping]] = ..., batch: _Optional[_Union[PairBatch, _Mapping]] = ...) -> None: ...

class StreamOptions(_message.Message):
    __slots__ = ("score",)
    SCORE_FIELD_NUMBER: _ClassVar[int]
    score: ScoreOptions
    def __init__(self, score: _Optional[_Union[ScoreOptions, _Mapping]] = ...) -> None: ...

class PairBatch(_message.Message):
    __slots__ = ("sequence", "pairs")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    pairs: _containers.RepeatedCompositeFieldContainer[_pair_pb2.Pair]
    def __init__(self, sequence: _Optional[int] = ..., pairs: _Optional[_Iterable[_Union[_pair_pb2.Pair, _Mapping]]] = ...) -> None: ...

class StreamPairsResponse(_message.Message):
    __slots__ = ("sequence", "results")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    results: _containers.RepeatedCompositeFieldContainer[PairResult]
    def __init__(self, sequence: _Optional[int] = ..., results: _Optional[_Iterable[_Union[PairResult, _Mapping]]] = ...) -> None: ...

class PairResult(_message.Message):
    __slots__ = ("id", "score", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    score: PairScore
    error: _status_pb2.Status
    def __init__(self, id: _Optional[str] = ..., score: _Optional[_Union[PairScore, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class PairScore(_message.Message):
    __slots__ = ("tokens", "by_max", "by_freq", "concepts", "chosen_features", "rejected_features", "prompt_features", "timings")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    BY_MAX_FIELD_NUMBER: _ClassVar[int]
    BY_FREQ_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FEATURES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    tokens: TokenCounts
    by_max: FeatureRanking
    by_freq: FeatureRanking
    concepts: _containers.RepeatedCompositeFieldContainer[ConceptScore]
    chosen_features: PooledFeatures
    rejected_features: PooledFeatures
    prompt_features: PooledFeatures
    timings: Timings
    def __init__(self, tokens: _Optional[_Union[TokenCounts, _Mapping]] = ..., by_max: _Optional[_Union[FeatureRanking, _Mapping]] = ..., by_freq: _Optional[_Union[FeatureRanking, _Mapping]] = ..., concepts: _Optional[_Iterable[_Union[ConceptScore, _Mapping]]] = ..., chosen_features: _Optional[_Union[PooledFeatures, _Mapping]] = ..., rejected_features: _Optional[_Union[PooledFeatures, _Mapping]] = ..., prompt_features: _Optional[_Union[PooledFeatures, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class TokenCounts(_message.Message):
    __slots__ = ("prompt", "chosen", "rejected", "read", "shared", "truncated")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    prompt: int
    chosen: int
    rejected: int
    read: int
    shared: int
    truncated: int
    def __init__(self, prompt: _Optional[int] = ..., chosen: _Optional[int] = ..., rejected: _Optional[int] = ..., read: _Optional[int] = ..., shared: _Optional[int] = ..., truncated: _Optional[int] = ...) -> None: ...

class FeatureRanking(_message.Message):
    __slots__ = ("features", "chosen", "rejected")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedScalarFieldContainer[int]
    chosen: _containers.RepeatedScalarFieldContainer[float]
    rejected: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, features: _Optional[_Iterable[int]] = ..., chosen: _Optional[_Iterable[float]] = ..., rejected: _Optional[_Iterable[float]] = ...) -> None: ...

class PooledFeatures(_message.Message):
    __slots__ = ("indices", "max", "freq", "mean_residual")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    FREQ_FIELD_NUMBER: _ClassVar[int]
    MEAN_RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    max: _containers.RepeatedScalarFieldContainer[float]
    freq: _containers.RepeatedScalarFieldContainer[float]
    mean_residual: _pair_pb2.Tensor
    def __init__(self, indices: _Optional[_Iterable[int]] = ..., max: _Optional[_Iterable[float]] = ..., freq: _Optional[_Iterable[float]] = ..., mean_residual: _Optional[_Union[_pair_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ConceptScore(_message.Message):
    __slots__ = ("name", "chosen", "rejected")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    chosen: float
    rejected: float
    def __init__(self, name: _Optional[str] = ..., chosen: _Optional[float] = ..., rejected: _Optional[float] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("tokenize_seconds", "queue_seconds", "forward_seconds", "cache_seconds", "cache_state")
    TOKENIZE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CACHE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CACHE_STATE_FIELD_NUMBER: _ClassVar[int]
    tokenize_seconds: float
    queue_seconds: float
    forward_seconds: float
    cache_seconds: float
    cache_state: CacheState
    def __init__(self, tokenize_seconds: _Optional[float] = ..., queue_seconds: _Optional[float] = ..., forward_seconds: _Optional[float] = ..., cache_seconds: _Optional[float] = ..., cache_state: _Optional[_Union[CacheState, str]] = ...) -> None: ...

class ScoreResponsesRequest(_message.Message):
    __slots__ = ("responses", "options")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[_pair_pb2.PromptedResponse]
    options: ScoreOptions
    def __init__(self, responses: _Optional[_Iterable[_Union[_pair_pb2.PromptedResponse, _Mapping]]] = ..., options: _Optional[_Union[ScoreOptions, _Mapping]] = ...) -> None: ...

class ScoreResponsesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ResponseResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ResponseResult, _Mapping]]] = ...) -> None: ...

class ResponseResult(_message.Message):
    __slots__ = ("id", "score", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    score: ResponseScore
    error: _status_pb2.Status
    def __init__(self, id: _Optional[str] = ..., score: _Optional[_Union[ResponseScore, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ResponseScore(_message.Message):
    __slots__ = ("tokens", "by_max", "by_freq", "concepts", "features", "prompt_features", "timings")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    BY_MAX_FIELD_NUMBER: _ClassVar[int]
    BY_FREQ_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    tokens: TokenCounts
    by_max: FeatureRanking
    by_freq: FeatureRanking
    concepts: _containers.RepeatedCompositeFieldContainer[ConceptScore]
    features: PooledFeatures
    prompt_features: PooledFeatures
    timings: Timings
    def __init__(self, tokens: _Optional[_Union[TokenCounts, _Mapping]] = ..., by_max: _Optional[_Union[FeatureRanking, _Mapping]] = ..., by_freq: _Optional[_Union[FeatureRanking, _Mapping]] = ..., concepts: _Optional[_Iterable[_Union[ConceptScore, _Mapping]]] = ..., features: _Optional[_Union[PooledFeatures, _Mapping]] = ..., prompt_features: _Optional[_Union[PooledFeatures, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class EncodeTokensRequest(_message.Message):
    __slots__ = ("conversation", "text", "features", "truncation")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    conversation: _pair_pb2.Conversation
    text: str
    features: _containers.RepeatedScalarFieldContainer[int]
    truncation: Truncation
    def __init__(self, conversation: _Optional[_Union[_pair_pb2.Conversation, _Mapping]] = ..., text: _Optional[str] = ..., features: _Optional[_Iterable[int]] = ..., truncation: _Optional[_Union[Truncation, str]] = ...) -> None: ...

class EncodeTokensResponse(_message.Message):
    __slots__ = ("tokens", "activations", "timings")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    activations: _containers.RepeatedCompositeFieldContainer[TokenActivations]
    timings: Timings
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ..., activations: _Optional[_Iterable[_Union[TokenActivations, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("id", "text", "message", "start", "end")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    id: int
    text: str
    message: int
    start: int
    end: int
    def __init__(self, id: _Optional[int] = ..., text: _Optional[str] = ..., message: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class TokenActivations(_message.Message):
    __slots__ = ("feature", "tokens", "values")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    feature: int
    tokens: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, feature: _Optional[int] = ..., tokens: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...
