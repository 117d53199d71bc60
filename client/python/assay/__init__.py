"""Assay: reads what preference pairs teach a language model, before training, through its own sparse autoencoder.

    import assay

    pairs = [assay.Pair(assay.chat("Name a warm colour."), chosen="Orange.", rejected="Blue.")]
    with assay.Client("127.0.0.1:50151") as client:
        for result in client.score(pairs):
            print(result.unwrap().by_freq[0])

    audit = client.audit(client.upload_pairs("pairs.jsonl")).wait()      everything that a dataset would teach
    for hypothesis in client.hypotheses(audit, "finding = true"): ...

This is the thin client: it imports gRPC and protobuf, and nothing else. ``assay.data`` reads files of pairs, ``assay.summary``
adds results up; both want the extra ``assay[cli]`` for Parquet only. What is public is exported here, and only that.
"""

from assay.aio import AsyncClient
from assay.audits import (
    Audit,
    AuditOptions,
    AuditState,
    ConceptFamily,
    Correction,
    Cost,
    Dataset,
    Nuisance,
    NuisanceSummary,
    SubjectRef,
    View,
    ViewSummary,
)
from assay.calls import Timeouts
from assay.client import Client
from assay.concepts import (
    ClusterSummary,
    Examples,
    FeatureCluster,
    FromCluster,
    FromDataset,
    FromLabels,
    LabelSummary,
    NearFeature,
    ProbeMethod,
    ProbeReport,
    StoredConcept,
)
from assay.errors import (
    AssayError,
    Cancelled,
    ConnectionFailed,
    DeadlineExceeded,
    FieldViolation,
    InputError,
    InvalidRequest,
    ItemError,
    MissingExtra,
    ModelChanged,
    NotFound,
    NotReady,
    Overloaded,
    ServerFault,
    Unauthenticated,
    Unsupported,
)
from assay.flow import Flow, RetryPolicy
from assay.hypotheses import ConceptRef, Condition, Decision, DecisionMode, Effect, Evidence, Highlight, Hypothesis
from assay.model import Feature, Limits, ModelInfo
from assay.operations import AsyncOperation, Operation, OperationProgress, OperationStatus
from assay.options import CacheMode, Concept, Lane, ScoreOptions, Truncation
from assay.pairs import Message, Pair, PromptedResponse, chat
from assay.results import (
    CacheState,
    ConceptScore,
    EncodedText,
    FeatureDifference,
    FeatureRanking,
    PairResult,
    PairScore,
    PooledFeatures,
    ResponseResult,
    ResponseScore,
    Timings,
    Token,
    TokenActivations,
    TokenCounts,
)
from assay.tensors import Tensor
from assay.transport import Tls
from assay.version import __version__

__all__ = [
    "AssayError",
    "AsyncClient",
    "AsyncOperation",
    "Audit",
    "AuditOptions",
    "AuditState",
    "CacheMode",
    "CacheState",
    "Cancelled",
    "Client",
    "ClusterSummary",
    "Concept",
    "ConceptFamily",
    "ConceptRef",
    "ConceptScore",
    "Condition",
    "ConnectionFailed",
    "Correction",
    "Cost",
    "Dataset",
    "DeadlineExceeded",
    "Decision",
    "DecisionMode",
    "Effect",
    "EncodedText",
    "Evidence",
    "Examples",
    "Feature",
    "FeatureCluster",
    "FeatureDifference",
    "FeatureRanking",
    "FieldViolation",
    "Flow",
    "FromCluster",
    "FromDataset",
    "FromLabels",
    "Highlight",
    "Hypothesis",
    "InputError",
    "InvalidRequest",
    "ItemError",
    "LabelSummary",
    "Lane",
    "Limits",
    "Message",
    "MissingExtra",
    "ModelChanged",
    "ModelInfo",
    "NearFeature",
    "NotFound",
    "NotReady",
    "Nuisance",
    "NuisanceSummary",
    "Operation",
    "OperationProgress",
    "OperationStatus",
    "Overloaded",
    "Pair",
    "PairResult",
    "PairScore",
    "PooledFeatures",
    "ProbeMethod",
    "ProbeReport",
    "PromptedResponse",
    "ResponseResult",
    "ResponseScore",
    "RetryPolicy",
    "ScoreOptions",
    "ServerFault",
    "StoredConcept",
    "SubjectRef",
    "Tensor",
    "Timeouts",
    "Timings",
    "Tls",
    "Token",
    "TokenActivations",
    "TokenCounts",
    "Truncation",
    "Unauthenticated",
    "Unsupported",
    "View",
    "ViewSummary",
    "__version__",
    "chat",
]
