import datetime

from assay.v1 import pair_pb2 as _pair_pb2
from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProbeMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROBE_METHOD_UNSPECIFIED: _ClassVar[ProbeMethod]
    PROBE_METHOD_DIFFERENCE_OF_MEANS: _ClassVar[ProbeMethod]
    PROBE_METHOD_LOGISTIC: _ClassVar[ProbeMethod]
    PROBE_METHOD_BRADLEY_TERRY: _ClassVar[ProbeMethod]
    PROBE_METHOD_FEATURES: _ClassVar[ProbeMethod]
PROBE_METHOD_UNSPECIFIED: ProbeMethod
PROBE_METHOD_DIFFERENCE_OF_MEANS: ProbeMethod
PROBE_METHOD_LOGISTIC: ProbeMethod
PROBE_METHOD_BRADLEY_TERRY: ProbeMethod
PROBE_METHOD_FEATURES: ProbeMethod

class CreateConceptRequest(_message.Message):
    __slots__ = ("concept_id", "display_name", "texts", "pairs", "dataset", "features", "cluster", "label_search", "direction", "method", "held_out", "random_directions", "seed", "request_id", "max_features")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    LABEL_SEARCH_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    RANDOM_DIRECTIONS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_FEATURES_FIELD_NUMBER: _ClassVar[int]
    concept_id: str
    display_name: str
    texts: ExampleTexts
    pairs: ExamplePairs
    dataset: str
    features: _pair_pb2.SparseVector
    cluster: int
    label_search: str
    direction: _pair_pb2.Tensor
    method: ProbeMethod
    held_out: float
    random_directions: int
    seed: int
    request_id: str
    max_features: int
    def __init__(self, concept_id: _Optional[str] = ..., display_name: _Optional[str] = ..., texts: _Optional[_Union[ExampleTexts, _Mapping]] = ..., pairs: _Optional[_Union[ExamplePairs, _Mapping]] = ..., dataset: _Optional[str] = ..., features: _Optional[_Union[_pair_pb2.SparseVector, _Mapping]] = ..., cluster: _Optional[int] = ..., label_search: _Optional[str] = ..., direction: _Optional[_Union[_pair_pb2.Tensor, _Mapping]] = ..., method: _Optional[_Union[ProbeMethod, str]] = ..., held_out: _Optional[float] = ..., random_directions: _Optional[int] = ..., seed: _Optional[int] = ..., request_id: _Optional[str] = ..., max_features: _Optional[int] = ...) -> None: ...

class ExampleTexts(_message.Message):
    __slots__ = ("positive", "negative")
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    positive: _containers.RepeatedCompositeFieldContainer[_pair_pb2.PromptedResponse]
    negative: _containers.RepeatedCompositeFieldContainer[_pair_pb2.PromptedResponse]
    def __init__(self, positive: _Optional[_Iterable[_Union[_pair_pb2.PromptedResponse, _Mapping]]] = ..., negative: _Optional[_Iterable[_Union[_pair_pb2.PromptedResponse, _Mapping]]] = ...) -> None: ...

class ExamplePairs(_message.Message):
    __slots__ = ("pairs",)
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.RepeatedCompositeFieldContainer[_pair_pb2.Pair]
    def __init__(self, pairs: _Optional[_Iterable[_Union[_pair_pb2.Pair, _Mapping]]] = ...) -> None: ...

class Concept(_message.Message):
    __slots__ = ("name", "display_name", "feature", "features", "direction", "method", "report", "nearest", "subject_fingerprint", "create_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    NEAREST_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    feature: int
    features: _pair_pb2.SparseVector
    direction: _pair_pb2.Tensor
    method: ProbeMethod
    report: ProbeReport
    nearest: _containers.RepeatedCompositeFieldContainer[NearFeature]
    subject_fingerprint: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., feature: _Optional[int] = ..., features: _Optional[_Union[_pair_pb2.SparseVector, _Mapping]] = ..., direction: _Optional[_Union[_pair_pb2.Tensor, _Mapping]] = ..., method: _Optional[_Union[ProbeMethod, str]] = ..., report: _Optional[_Union[ProbeReport, _Mapping]] = ..., nearest: _Optional[_Iterable[_Union[NearFeature, _Mapping]]] = ..., subject_fingerprint: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ProbeReport(_message.Message):
    __slots__ = ("fitted_positive", "fitted_negative", "held_out_positive", "held_out_negative", "auroc", "auroc_low", "auroc_high", "pr_auc", "base_rate", "f1", "threshold", "random_auroc", "random_auroc_max", "pair_accuracy", "l2")
    FITTED_POSITIVE_FIELD_NUMBER: _ClassVar[int]
    FITTED_NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_POSITIVE_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    AUROC_FIELD_NUMBER: _ClassVar[int]
    AUROC_LOW_FIELD_NUMBER: _ClassVar[int]
    AUROC_HIGH_FIELD_NUMBER: _ClassVar[int]
    PR_AUC_FIELD_NUMBER: _ClassVar[int]
    BASE_RATE_FIELD_NUMBER: _ClassVar[int]
    F1_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RANDOM_AUROC_FIELD_NUMBER: _ClassVar[int]
    RANDOM_AUROC_MAX_FIELD_NUMBER: _ClassVar[int]
    PAIR_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    L2_FIELD_NUMBER: _ClassVar[int]
    fitted_positive: int
    fitted_negative: int
    held_out_positive: int
    held_out_negative: int
    auroc: float
    auroc_low: float
    auroc_high: float
    pr_auc: float
    base_rate: float
    f1: float
    threshold: float
    random_auroc: float
    random_auroc_max: float
    pair_accuracy: float
    l2: float
    def __init__(self, fitted_positive: _Optional[int] = ..., fitted_negative: _Optional[int] = ..., held_out_positive: _Optional[int] = ..., held_out_negative: _Optional[int] = ..., auroc: _Optional[float] = ..., auroc_low: _Optional[float] = ..., auroc_high: _Optional[float] = ..., pr_auc: _Optional[float] = ..., base_rate: _Optional[float] = ..., f1: _Optional[float] = ..., threshold: _Optional[float] = ..., random_auroc: _Optional[float] = ..., random_auroc_max: _Optional[float] = ..., pair_accuracy: _Optional[float] = ..., l2: _Optional[float] = ...) -> None: ...

class NearFeature(_message.Message):
    __slots__ = ("feature", "cosine", "label")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    feature: int
    cosine: float
    label: str
    def __init__(self, feature: _Optional[int] = ..., cosine: _Optional[float] = ..., label: _Optional[str] = ...) -> None: ...

class GetConceptRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetConceptResponse(_message.Message):
    __slots__ = ("concept",)
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    concept: Concept
    def __init__(self, concept: _Optional[_Union[Concept, _Mapping]] = ...) -> None: ...

class ListConceptsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListConceptsResponse(_message.Message):
    __slots__ = ("concepts", "next_page_token")
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    concepts: _containers.RepeatedCompositeFieldContainer[Concept]
    next_page_token: str
    def __init__(self, concepts: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteConceptRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteConceptResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ComputeClustersRequest(_message.Message):
    __slots__ = ("dataset", "edge_share", "min_size", "resolution", "seed", "request_id")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    EDGE_SHARE_FIELD_NUMBER: _ClassVar[int]
    MIN_SIZE_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    edge_share: float
    min_size: int
    resolution: float
    seed: int
    request_id: str
    def __init__(self, dataset: _Optional[str] = ..., edge_share: _Optional[float] = ..., min_size: _Optional[int] = ..., resolution: _Optional[float] = ..., seed: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class ClusterSummary(_message.Message):
    __slots__ = ("clusters", "features", "candidates", "edges", "samples")
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    clusters: int
    features: int
    candidates: int
    edges: int
    samples: int
    def __init__(self, clusters: _Optional[int] = ..., features: _Optional[int] = ..., candidates: _Optional[int] = ..., edges: _Optional[int] = ..., samples: _Optional[int] = ...) -> None: ...

class FeatureCluster(_message.Message):
    __slots__ = ("name", "id", "features", "label", "label_method", "cohesion", "detection_score")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LABEL_METHOD_FIELD_NUMBER: _ClassVar[int]
    COHESION_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SCORE_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: int
    features: _containers.RepeatedScalarFieldContainer[int]
    label: str
    label_method: str
    cohesion: float
    detection_score: float
    def __init__(self, name: _Optional[str] = ..., id: _Optional[int] = ..., features: _Optional[_Iterable[int]] = ..., label: _Optional[str] = ..., label_method: _Optional[str] = ..., cohesion: _Optional[float] = ..., detection_score: _Optional[float] = ...) -> None: ...

class ListClustersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListClustersResponse(_message.Message):
    __slots__ = ("clusters", "next_page_token", "total_size")
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    clusters: _containers.RepeatedCompositeFieldContainer[FeatureCluster]
    next_page_token: str
    total_size: int
    def __init__(self, clusters: _Optional[_Iterable[_Union[FeatureCluster, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class CreateLabelsRequest(_message.Message):
    __slots__ = ("features", "clusters", "dataset", "method", "request_id")
    class Method(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        METHOD_UNSPECIFIED: _ClassVar[CreateLabelsRequest.Method]
        METHOD_EVIDENCE: _ClassVar[CreateLabelsRequest.Method]
        METHOD_ENDPOINT: _ClassVar[CreateLabelsRequest.Method]
    METHOD_UNSPECIFIED: CreateLabelsRequest.Method
    METHOD_EVIDENCE: CreateLabelsRequest.Method
    METHOD_ENDPOINT: CreateLabelsRequest.Method
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedScalarFieldContainer[int]
    clusters: _containers.RepeatedScalarFieldContainer[int]
    dataset: str
    method: CreateLabelsRequest.Method
    request_id: str
    def __init__(self, features: _Optional[_Iterable[int]] = ..., clusters: _Optional[_Iterable[int]] = ..., dataset: _Optional[str] = ..., method: _Optional[_Union[CreateLabelsRequest.Method, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class LabelSummary(_message.Message):
    __slots__ = ("labelled", "failed", "median_detection_score", "endpoint_requests", "prompt_tokens", "completion_tokens")
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_DETECTION_SCORE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    labelled: int
    failed: int
    median_detection_score: float
    endpoint_requests: int
    prompt_tokens: int
    completion_tokens: int
    def __init__(self, labelled: _Optional[int] = ..., failed: _Optional[int] = ..., median_detection_score: _Optional[float] = ..., endpoint_requests: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ...) -> None: ...
