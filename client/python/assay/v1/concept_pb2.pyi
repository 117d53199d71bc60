from assay.v1 import pair_pb2 as _pair_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConceptSpec(_message.Message):
    __slots__ = ("name", "feature", "features", "direction", "stored")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    name: str
    feature: int
    features: _pair_pb2.SparseVector
    direction: _pair_pb2.Tensor
    stored: str
    def __init__(self, name: _Optional[str] = ..., feature: _Optional[int] = ..., features: _Optional[_Union[_pair_pb2.SparseVector, _Mapping]] = ..., direction: _Optional[_Union[_pair_pb2.Tensor, _Mapping]] = ..., stored: _Optional[str] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("name", "id", "label", "label_method", "detection_score", "top_tokens", "promoted_tokens", "firing_rate", "contexts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LABEL_METHOD_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SCORE_FIELD_NUMBER: _ClassVar[int]
    TOP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FIRING_RATE_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: int
    label: str
    label_method: str
    detection_score: float
    top_tokens: _containers.RepeatedScalarFieldContainer[str]
    promoted_tokens: _containers.RepeatedScalarFieldContainer[str]
    firing_rate: float
    contexts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., id: _Optional[int] = ..., label: _Optional[str] = ..., label_method: _Optional[str] = ..., detection_score: _Optional[float] = ..., top_tokens: _Optional[_Iterable[str]] = ..., promoted_tokens: _Optional[_Iterable[str]] = ..., firing_rate: _Optional[float] = ..., contexts: _Optional[_Iterable[str]] = ...) -> None: ...
