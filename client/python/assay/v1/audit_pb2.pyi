import datetime

from assay.v1 import pair_pb2 as _pair_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class View(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIEW_UNSPECIFIED: _ClassVar[View]
    VIEW_GLOBAL: _ClassVar[View]
    VIEW_FEATURE_CONDITIONED: _ClassVar[View]
    VIEW_PROMPT_CONDITIONED: _ClassVar[View]
    VIEW_STATED: _ClassVar[View]

class Correction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CORRECTION_UNSPECIFIED: _ClassVar[Correction]
    CORRECTION_BENJAMINI_HOCHBERG: _ClassVar[Correction]
    CORRECTION_BENJAMINI_YEKUTIELI: _ClassVar[Correction]

class Nuisance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NUISANCE_UNSPECIFIED: _ClassVar[Nuisance]
    NUISANCE_LENGTH: _ClassVar[Nuisance]
    NUISANCE_FORMAT: _ClassVar[Nuisance]
    NUISANCE_PROVENANCE: _ClassVar[Nuisance]

class ConceptFamily(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONCEPT_FAMILY_UNSPECIFIED: _ClassVar[ConceptFamily]
    CONCEPT_FAMILY_FEATURES: _ClassVar[ConceptFamily]
    CONCEPT_FAMILY_CLUSTERS: _ClassVar[ConceptFamily]
    CONCEPT_FAMILY_DESCRIPTORS: _ClassVar[ConceptFamily]
    CONCEPT_FAMILY_WORDS: _ClassVar[ConceptFamily]

class LengthVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LENGTH_VERDICT_UNSPECIFIED: _ClassVar[LengthVerdict]
    LENGTH_VERDICT_EXPLAINED: _ClassVar[LengthVerdict]
    LENGTH_VERDICT_WEAKENED: _ClassVar[LengthVerdict]
    LENGTH_VERDICT_UNCHANGED: _ClassVar[LengthVerdict]
VIEW_UNSPECIFIED: View
VIEW_GLOBAL: View
VIEW_FEATURE_CONDITIONED: View
VIEW_PROMPT_CONDITIONED: View
VIEW_STATED: View
CORRECTION_UNSPECIFIED: Correction
CORRECTION_BENJAMINI_HOCHBERG: Correction
CORRECTION_BENJAMINI_YEKUTIELI: Correction
NUISANCE_UNSPECIFIED: Nuisance
NUISANCE_LENGTH: Nuisance
NUISANCE_FORMAT: Nuisance
NUISANCE_PROVENANCE: Nuisance
CONCEPT_FAMILY_UNSPECIFIED: ConceptFamily
CONCEPT_FAMILY_FEATURES: ConceptFamily
CONCEPT_FAMILY_CLUSTERS: ConceptFamily
CONCEPT_FAMILY_DESCRIPTORS: ConceptFamily
CONCEPT_FAMILY_WORDS: ConceptFamily
LENGTH_VERDICT_UNSPECIFIED: LengthVerdict
LENGTH_VERDICT_EXPLAINED: LengthVerdict
LENGTH_VERDICT_WEAKENED: LengthVerdict
LENGTH_VERDICT_UNCHANGED: LengthVerdict

class Dataset(_message.Message):
    __slots__ = ("name", "display_name", "fingerprint", "pairs", "unusable_pairs", "prompts", "metadata_keys", "create_time", "scored")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    UNUSABLE_PAIRS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    METADATA_KEYS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SCORED_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    fingerprint: str
    pairs: int
    unusable_pairs: int
    prompts: int
    metadata_keys: _containers.RepeatedScalarFieldContainer[str]
    create_time: _timestamp_pb2.Timestamp
    scored: bool
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., fingerprint: _Optional[str] = ..., pairs: _Optional[int] = ..., unusable_pairs: _Optional[int] = ..., prompts: _Optional[int] = ..., metadata_keys: _Optional[_Iterable[str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., scored: bool = ...) -> None: ...

class AuditOptions(_message.Message):
    __slots__ = ("views", "families", "concepts", "tau", "q_level", "interval_level", "correction", "nuisances", "max_t_flips", "data_clusters", "silent_percentile", "min_features", "min_inside", "min_firings", "prompt_clusters", "response_clusters", "top_share", "metadata_keys", "seed", "keep", "evidence", "local", "control_pairs")
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    FAMILIES_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    TAU_FIELD_NUMBER: _ClassVar[int]
    Q_LEVEL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_LEVEL_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    NUISANCES_FIELD_NUMBER: _ClassVar[int]
    MAX_T_FLIPS_FIELD_NUMBER: _ClassVar[int]
    DATA_CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    SILENT_PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    MIN_FEATURES_FIELD_NUMBER: _ClassVar[int]
    MIN_INSIDE_FIELD_NUMBER: _ClassVar[int]
    MIN_FIRINGS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    TOP_SHARE_FIELD_NUMBER: _ClassVar[int]
    METADATA_KEYS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    CONTROL_PAIRS_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedScalarFieldContainer[View]
    families: _containers.RepeatedScalarFieldContainer[ConceptFamily]
    concepts: _containers.RepeatedScalarFieldContainer[str]
    tau: float
    q_level: float
    interval_level: float
    correction: Correction
    nuisances: _containers.RepeatedScalarFieldContainer[Nuisance]
    max_t_flips: int
    data_clusters: int
    silent_percentile: float
    min_features: int
    min_inside: int
    min_firings: int
    prompt_clusters: int
    response_clusters: int
    top_share: float
    metadata_keys: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    keep: int
    evidence: int
    local: bool
    control_pairs: int
    def __init__(self, views: _Optional[_Iterable[_Union[View, str]]] = ..., families: _Optional[_Iterable[_Union[ConceptFamily, str]]] = ..., concepts: _Optional[_Iterable[str]] = ..., tau: _Optional[float] = ..., q_level: _Optional[float] = ..., interval_level: _Optional[float] = ..., correction: _Optional[_Union[Correction, str]] = ..., nuisances: _Optional[_Iterable[_Union[Nuisance, str]]] = ..., max_t_flips: _Optional[int] = ..., data_clusters: _Optional[int] = ..., silent_percentile: _Optional[float] = ..., min_features: _Optional[int] = ..., min_inside: _Optional[int] = ..., min_firings: _Optional[int] = ..., prompt_clusters: _Optional[int] = ..., response_clusters: _Optional[int] = ..., top_share: _Optional[float] = ..., metadata_keys: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., keep: _Optional[int] = ..., evidence: _Optional[int] = ..., local: bool = ..., control_pairs: _Optional[int] = ...) -> None: ...

class Audit(_message.Message):
    __slots__ = ("name", "dataset", "display_name", "state", "options", "subject", "views", "nuisance", "cost", "create_time", "end_time", "error", "result_fingerprint", "length", "explained")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Audit.State]
        STATE_RUNNING: _ClassVar[Audit.State]
        STATE_DONE: _ClassVar[Audit.State]
        STATE_FAILED: _ClassVar[Audit.State]
        STATE_CANCELLED: _ClassVar[Audit.State]
    STATE_UNSPECIFIED: Audit.State
    STATE_RUNNING: Audit.State
    STATE_DONE: Audit.State
    STATE_FAILED: Audit.State
    STATE_CANCELLED: Audit.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    NUISANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESULT_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    name: str
    dataset: str
    display_name: str
    state: Audit.State
    options: AuditOptions
    subject: SubjectRef
    views: _containers.RepeatedCompositeFieldContainer[ViewSummary]
    nuisance: NuisanceSummary
    cost: Cost
    create_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    error: str
    result_fingerprint: str
    length: LengthSummary
    explained: Explained
    def __init__(self, name: _Optional[str] = ..., dataset: _Optional[str] = ..., display_name: _Optional[str] = ..., state: _Optional[_Union[Audit.State, str]] = ..., options: _Optional[_Union[AuditOptions, _Mapping]] = ..., subject: _Optional[_Union[SubjectRef, _Mapping]] = ..., views: _Optional[_Iterable[_Union[ViewSummary, _Mapping]]] = ..., nuisance: _Optional[_Union[NuisanceSummary, _Mapping]] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[str] = ..., result_fingerprint: _Optional[str] = ..., length: _Optional[_Union[LengthSummary, _Mapping]] = ..., explained: _Optional[_Union[Explained, _Mapping]] = ...) -> None: ...

class SubjectRef(_message.Message):
    __slots__ = ("model_id", "model_fingerprint", "sae_id", "sae_fingerprint", "tokenizer_fingerprint", "template_fingerprint", "hook", "dtype")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SAE_ID_FIELD_NUMBER: _ClassVar[int]
    SAE_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    HOOK_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    model_fingerprint: str
    sae_id: str
    sae_fingerprint: str
    tokenizer_fingerprint: str
    template_fingerprint: str
    hook: str
    dtype: str
    def __init__(self, model_id: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., sae_id: _Optional[str] = ..., sae_fingerprint: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., template_fingerprint: _Optional[str] = ..., hook: _Optional[str] = ..., dtype: _Optional[str] = ...) -> None: ...

class ViewSummary(_message.Message):
    __slots__ = ("view", "tests", "findings_raw", "findings_controlled", "kept", "conditions", "reason", "note", "lessons", "explained", "weakened", "unchanged", "families")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    TESTS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_RAW_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_CONTROLLED_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    LESSONS_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    WEAKENED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    FAMILIES_FIELD_NUMBER: _ClassVar[int]
    view: View
    tests: int
    findings_raw: int
    findings_controlled: int
    kept: int
    conditions: int
    reason: str
    note: str
    lessons: int
    explained: int
    weakened: int
    unchanged: int
    families: _containers.RepeatedCompositeFieldContainer[FamilySummary]
    def __init__(self, view: _Optional[_Union[View, str]] = ..., tests: _Optional[int] = ..., findings_raw: _Optional[int] = ..., findings_controlled: _Optional[int] = ..., kept: _Optional[int] = ..., conditions: _Optional[int] = ..., reason: _Optional[str] = ..., note: _Optional[str] = ..., lessons: _Optional[int] = ..., explained: _Optional[int] = ..., weakened: _Optional[int] = ..., unchanged: _Optional[int] = ..., families: _Optional[_Iterable[_Union[FamilySummary, _Mapping]]] = ...) -> None: ...

class FamilySummary(_message.Message):
    __slots__ = ("title", "given", "tests", "findings_raw", "findings_controlled")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    TESTS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_RAW_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_CONTROLLED_FIELD_NUMBER: _ClassVar[int]
    title: str
    given: bool
    tests: int
    findings_raw: int
    findings_controlled: int
    def __init__(self, title: _Optional[str] = ..., given: bool = ..., tests: _Optional[int] = ..., findings_raw: _Optional[int] = ..., findings_controlled: _Optional[int] = ...) -> None: ...

class NuisanceSummary(_message.Message):
    __slots__ = ("names", "gamma", "accuracy", "reason")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    gamma: _containers.RepeatedScalarFieldContainer[float]
    accuracy: float
    reason: str
    def __init__(self, names: _Optional[_Iterable[str]] = ..., gamma: _Optional[_Iterable[float]] = ..., accuracy: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class LengthSummary(_message.Message):
    __slots__ = ("pairs", "direction", "ratio", "ratio_low", "ratio_high", "longer", "shorter", "accuracy", "auc", "auc_low", "auc_high", "p", "information_left", "reason")
    class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DIRECTION_UNSPECIFIED: _ClassVar[LengthSummary.Direction]
        DIRECTION_LONGER: _ClassVar[LengthSummary.Direction]
        DIRECTION_SHORTER: _ClassVar[LengthSummary.Direction]
        DIRECTION_NEITHER: _ClassVar[LengthSummary.Direction]
    DIRECTION_UNSPECIFIED: LengthSummary.Direction
    DIRECTION_LONGER: LengthSummary.Direction
    DIRECTION_SHORTER: LengthSummary.Direction
    DIRECTION_NEITHER: LengthSummary.Direction
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    RATIO_FIELD_NUMBER: _ClassVar[int]
    RATIO_LOW_FIELD_NUMBER: _ClassVar[int]
    RATIO_HIGH_FIELD_NUMBER: _ClassVar[int]
    LONGER_FIELD_NUMBER: _ClassVar[int]
    SHORTER_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    AUC_FIELD_NUMBER: _ClassVar[int]
    AUC_LOW_FIELD_NUMBER: _ClassVar[int]
    AUC_HIGH_FIELD_NUMBER: _ClassVar[int]
    P_FIELD_NUMBER: _ClassVar[int]
    INFORMATION_LEFT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    pairs: int
    direction: LengthSummary.Direction
    ratio: float
    ratio_low: float
    ratio_high: float
    longer: float
    shorter: float
    accuracy: float
    auc: float
    auc_low: float
    auc_high: float
    p: float
    information_left: float
    reason: str
    def __init__(self, pairs: _Optional[int] = ..., direction: _Optional[_Union[LengthSummary.Direction, str]] = ..., ratio: _Optional[float] = ..., ratio_low: _Optional[float] = ..., ratio_high: _Optional[float] = ..., longer: _Optional[float] = ..., shorter: _Optional[float] = ..., accuracy: _Optional[float] = ..., auc: _Optional[float] = ..., auc_low: _Optional[float] = ..., auc_high: _Optional[float] = ..., p: _Optional[float] = ..., information_left: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Explained(_message.Message):
    __slots__ = ("blocks", "over_style", "over_style_low", "over_style_high", "pairs", "note", "over_random", "over_random_low", "over_random_high")
    class Block(_message.Message):
        __slots__ = ("name", "columns", "auc", "low", "high", "share", "share_low", "share_high")
        NAME_FIELD_NUMBER: _ClassVar[int]
        COLUMNS_FIELD_NUMBER: _ClassVar[int]
        AUC_FIELD_NUMBER: _ClassVar[int]
        LOW_FIELD_NUMBER: _ClassVar[int]
        HIGH_FIELD_NUMBER: _ClassVar[int]
        SHARE_FIELD_NUMBER: _ClassVar[int]
        SHARE_LOW_FIELD_NUMBER: _ClassVar[int]
        SHARE_HIGH_FIELD_NUMBER: _ClassVar[int]
        name: str
        columns: int
        auc: float
        low: float
        high: float
        share: float
        share_low: float
        share_high: float
        def __init__(self, name: _Optional[str] = ..., columns: _Optional[int] = ..., auc: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., share: _Optional[float] = ..., share_low: _Optional[float] = ..., share_high: _Optional[float] = ...) -> None: ...
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    OVER_STYLE_FIELD_NUMBER: _ClassVar[int]
    OVER_STYLE_LOW_FIELD_NUMBER: _ClassVar[int]
    OVER_STYLE_HIGH_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    OVER_RANDOM_FIELD_NUMBER: _ClassVar[int]
    OVER_RANDOM_LOW_FIELD_NUMBER: _ClassVar[int]
    OVER_RANDOM_HIGH_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Explained.Block]
    over_style: float
    over_style_low: float
    over_style_high: float
    pairs: int
    note: str
    over_random: float
    over_random_low: float
    over_random_high: float
    def __init__(self, blocks: _Optional[_Iterable[_Union[Explained.Block, _Mapping]]] = ..., over_style: _Optional[float] = ..., over_style_low: _Optional[float] = ..., over_style_high: _Optional[float] = ..., pairs: _Optional[int] = ..., note: _Optional[str] = ..., over_random: _Optional[float] = ..., over_random_low: _Optional[float] = ..., over_random_high: _Optional[float] = ...) -> None: ...

class Cost(_message.Message):
    __slots__ = ("tokens_read", "tokens_shared", "cache_hits", "pairs_scored", "scoring_seconds", "testing_seconds", "device")
    TOKENS_READ_FIELD_NUMBER: _ClassVar[int]
    TOKENS_SHARED_FIELD_NUMBER: _ClassVar[int]
    CACHE_HITS_FIELD_NUMBER: _ClassVar[int]
    PAIRS_SCORED_FIELD_NUMBER: _ClassVar[int]
    SCORING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TESTING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    tokens_read: int
    tokens_shared: int
    cache_hits: int
    pairs_scored: int
    scoring_seconds: float
    testing_seconds: float
    device: str
    def __init__(self, tokens_read: _Optional[int] = ..., tokens_shared: _Optional[int] = ..., cache_hits: _Optional[int] = ..., pairs_scored: _Optional[int] = ..., scoring_seconds: _Optional[float] = ..., testing_seconds: _Optional[float] = ..., device: _Optional[str] = ...) -> None: ...

class ConceptRef(_message.Message):
    __slots__ = ("name", "label", "label_method", "detection_score", "features", "size", "named", "named_kind", "named_share")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LABEL_METHOD_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SCORE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    NAMED_KIND_FIELD_NUMBER: _ClassVar[int]
    NAMED_SHARE_FIELD_NUMBER: _ClassVar[int]
    name: str
    label: str
    label_method: str
    detection_score: float
    features: _containers.RepeatedScalarFieldContainer[int]
    size: int
    named: str
    named_kind: str
    named_share: float
    def __init__(self, name: _Optional[str] = ..., label: _Optional[str] = ..., label_method: _Optional[str] = ..., detection_score: _Optional[float] = ..., features: _Optional[_Iterable[int]] = ..., size: _Optional[int] = ..., named: _Optional[str] = ..., named_kind: _Optional[str] = ..., named_share: _Optional[float] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("name", "label", "features", "named", "named_kind", "named_share")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    NAMED_KIND_FIELD_NUMBER: _ClassVar[int]
    NAMED_SHARE_FIELD_NUMBER: _ClassVar[int]
    name: str
    label: str
    features: _containers.RepeatedScalarFieldContainer[int]
    named: str
    named_kind: str
    named_share: float
    def __init__(self, name: _Optional[str] = ..., label: _Optional[str] = ..., features: _Optional[_Iterable[int]] = ..., named: _Optional[str] = ..., named_kind: _Optional[str] = ..., named_share: _Optional[float] = ...) -> None: ...

class Effect(_message.Message):
    __slots__ = ("estimate", "low", "high", "z", "p", "q", "q_by", "p_max_t", "reason")
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    P_FIELD_NUMBER: _ClassVar[int]
    Q_FIELD_NUMBER: _ClassVar[int]
    Q_BY_FIELD_NUMBER: _ClassVar[int]
    P_MAX_T_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    estimate: float
    low: float
    high: float
    z: float
    p: float
    q: float
    q_by: float
    p_max_t: float
    reason: str
    def __init__(self, estimate: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., z: _Optional[float] = ..., p: _Optional[float] = ..., q: _Optional[float] = ..., q_by: _Optional[float] = ..., p_max_t: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Hypothesis(_message.Message):
    __slots__ = ("name", "view", "concept", "condition", "raw", "controlled", "finding", "cohen_d", "consistent", "delta_min", "inside", "outside", "prompts", "rank", "rank_first_half", "rank_second_half", "rank_stable", "supporting", "contradicting", "decision", "lesson", "lesson_z", "lesson_stability", "length_verdict", "only_chosen", "only_rejected", "carried_by", "left_without_top", "log_odds", "log_odds_z")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    CONTROLLED_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    COHEN_D_FIELD_NUMBER: _ClassVar[int]
    CONSISTENT_FIELD_NUMBER: _ClassVar[int]
    DELTA_MIN_FIELD_NUMBER: _ClassVar[int]
    INSIDE_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    RANK_FIRST_HALF_FIELD_NUMBER: _ClassVar[int]
    RANK_SECOND_HALF_FIELD_NUMBER: _ClassVar[int]
    RANK_STABLE_FIELD_NUMBER: _ClassVar[int]
    SUPPORTING_FIELD_NUMBER: _ClassVar[int]
    CONTRADICTING_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    LESSON_FIELD_NUMBER: _ClassVar[int]
    LESSON_Z_FIELD_NUMBER: _ClassVar[int]
    LESSON_STABILITY_FIELD_NUMBER: _ClassVar[int]
    LENGTH_VERDICT_FIELD_NUMBER: _ClassVar[int]
    ONLY_CHOSEN_FIELD_NUMBER: _ClassVar[int]
    ONLY_REJECTED_FIELD_NUMBER: _ClassVar[int]
    CARRIED_BY_FIELD_NUMBER: _ClassVar[int]
    LEFT_WITHOUT_TOP_FIELD_NUMBER: _ClassVar[int]
    LOG_ODDS_FIELD_NUMBER: _ClassVar[int]
    LOG_ODDS_Z_FIELD_NUMBER: _ClassVar[int]
    name: str
    view: View
    concept: ConceptRef
    condition: Condition
    raw: Effect
    controlled: Effect
    finding: bool
    cohen_d: float
    consistent: bool
    delta_min: float
    inside: int
    outside: int
    prompts: int
    rank: int
    rank_first_half: int
    rank_second_half: int
    rank_stable: bool
    supporting: _containers.RepeatedCompositeFieldContainer[Evidence]
    contradicting: _containers.RepeatedCompositeFieldContainer[Evidence]
    decision: Decision
    lesson: int
    lesson_z: float
    lesson_stability: float
    length_verdict: LengthVerdict
    only_chosen: int
    only_rejected: int
    carried_by: float
    left_without_top: float
    log_odds: float
    log_odds_z: float
    def __init__(self, name: _Optional[str] = ..., view: _Optional[_Union[View, str]] = ..., concept: _Optional[_Union[ConceptRef, _Mapping]] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ..., raw: _Optional[_Union[Effect, _Mapping]] = ..., controlled: _Optional[_Union[Effect, _Mapping]] = ..., finding: bool = ..., cohen_d: _Optional[float] = ..., consistent: bool = ..., delta_min: _Optional[float] = ..., inside: _Optional[int] = ..., outside: _Optional[int] = ..., prompts: _Optional[int] = ..., rank: _Optional[int] = ..., rank_first_half: _Optional[int] = ..., rank_second_half: _Optional[int] = ..., rank_stable: bool = ..., supporting: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., contradicting: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., lesson: _Optional[int] = ..., lesson_z: _Optional[float] = ..., lesson_stability: _Optional[float] = ..., length_verdict: _Optional[_Union[LengthVerdict, str]] = ..., only_chosen: _Optional[int] = ..., only_rejected: _Optional[int] = ..., carried_by: _Optional[float] = ..., left_without_top: _Optional[float] = ..., log_odds: _Optional[float] = ..., log_odds_z: _Optional[float] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("row", "pair", "disparity", "chosen", "rejected", "strength")
    ROW_FIELD_NUMBER: _ClassVar[int]
    PAIR_FIELD_NUMBER: _ClassVar[int]
    DISPARITY_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    row: int
    pair: _pair_pb2.Pair
    disparity: float
    chosen: _containers.RepeatedCompositeFieldContainer[Highlight]
    rejected: _containers.RepeatedCompositeFieldContainer[Highlight]
    strength: float
    def __init__(self, row: _Optional[int] = ..., pair: _Optional[_Union[_pair_pb2.Pair, _Mapping]] = ..., disparity: _Optional[float] = ..., chosen: _Optional[_Iterable[_Union[Highlight, _Mapping]]] = ..., rejected: _Optional[_Iterable[_Union[Highlight, _Mapping]]] = ..., strength: _Optional[float] = ...) -> None: ...

class Highlight(_message.Message):
    __slots__ = ("start", "end", "value")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    value: float
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...

class Card(_message.Message):
    __slots__ = ("id", "kind", "title", "sentence", "exceptions", "sureness", "carried", "members", "hypothesis", "concept", "condition", "snippets", "decide")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Card.Kind]
        KIND_LENGTH: _ClassVar[Card.Kind]
        KIND_LESSON: _ClassVar[Card.Kind]
        KIND_NOT_CAUSE: _ClassVar[Card.Kind]
        KIND_NOT_ESTABLISHED: _ClassVar[Card.Kind]
        KIND_REST: _ClassVar[Card.Kind]
    KIND_UNSPECIFIED: Card.Kind
    KIND_LENGTH: Card.Kind
    KIND_LESSON: Card.Kind
    KIND_NOT_CAUSE: Card.Kind
    KIND_NOT_ESTABLISHED: Card.Kind
    KIND_REST: Card.Kind
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    EXCEPTIONS_FIELD_NUMBER: _ClassVar[int]
    SURENESS_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    HYPOTHESIS_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    SNIPPETS_FIELD_NUMBER: _ClassVar[int]
    DECIDE_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: Card.Kind
    title: str
    sentence: str
    exceptions: str
    sureness: str
    carried: str
    members: _containers.RepeatedScalarFieldContainer[str]
    hypothesis: str
    concept: str
    condition: str
    snippets: _containers.RepeatedCompositeFieldContainer[Snippet]
    decide: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[Card.Kind, str]] = ..., title: _Optional[str] = ..., sentence: _Optional[str] = ..., exceptions: _Optional[str] = ..., sureness: _Optional[str] = ..., carried: _Optional[str] = ..., members: _Optional[_Iterable[str]] = ..., hypothesis: _Optional[str] = ..., concept: _Optional[str] = ..., condition: _Optional[str] = ..., snippets: _Optional[_Iterable[_Union[Snippet, _Mapping]]] = ..., decide: _Optional[str] = ...) -> None: ...

class Snippet(_message.Message):
    __slots__ = ("row", "side", "text", "marks", "differs")
    class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SIDE_UNSPECIFIED: _ClassVar[Snippet.Side]
        SIDE_CHOSEN: _ClassVar[Snippet.Side]
        SIDE_REJECTED: _ClassVar[Snippet.Side]
    SIDE_UNSPECIFIED: Snippet.Side
    SIDE_CHOSEN: Snippet.Side
    SIDE_REJECTED: Snippet.Side
    class Stretch(_message.Message):
        __slots__ = ("start", "end")
        START_FIELD_NUMBER: _ClassVar[int]
        END_FIELD_NUMBER: _ClassVar[int]
        start: int
        end: int
        def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...
    ROW_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FIELD_NUMBER: _ClassVar[int]
    row: int
    side: Snippet.Side
    text: str
    marks: _containers.RepeatedCompositeFieldContainer[Snippet.Stretch]
    differs: _containers.RepeatedCompositeFieldContainer[Snippet.Stretch]
    def __init__(self, row: _Optional[int] = ..., side: _Optional[_Union[Snippet.Side, str]] = ..., text: _Optional[str] = ..., marks: _Optional[_Iterable[_Union[Snippet.Stretch, _Mapping]]] = ..., differs: _Optional[_Iterable[_Union[Snippet.Stretch, _Mapping]]] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("name", "hypothesis", "mode", "strength", "note", "author", "create_time")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[Decision.Mode]
        MODE_EXPLAIN_AWAY: _ClassVar[Decision.Mode]
        MODE_AMPLIFY: _ClassVar[Decision.Mode]
        MODE_KEEP: _ClassVar[Decision.Mode]
    MODE_UNSPECIFIED: Decision.Mode
    MODE_EXPLAIN_AWAY: Decision.Mode
    MODE_AMPLIFY: Decision.Mode
    MODE_KEEP: Decision.Mode
    NAME_FIELD_NUMBER: _ClassVar[int]
    HYPOTHESIS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    hypothesis: str
    mode: Decision.Mode
    strength: float
    note: str
    author: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., hypothesis: _Optional[str] = ..., mode: _Optional[_Union[Decision.Mode, str]] = ..., strength: _Optional[float] = ..., note: _Optional[str] = ..., author: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
