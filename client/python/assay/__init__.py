"""Assay: reads what preference pairs teach a language model, before training, through its own sparse autoencoder.

    import assay

    pairs = [assay.Pair(assay.chat("Name a warm colour."), chosen="Orange.", rejected="Blue.")]
    with assay.Client("127.0.0.1:50151") as client:
        for result in client.score(pairs):
            print(result.unwrap().by_freq[0])

This is the thin client: it imports gRPC and protobuf, and nothing else. ``assay.data`` reads files of pairs, ``assay.summary``
adds results up; both want the extra ``assay[cli]`` for Parquet only. What is public is exported here, and only that.
"""

from assay.aio import AsyncClient
from assay.calls import Timeouts
from assay.client import Client
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
from assay.model import Feature, Limits, ModelInfo
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
    "CacheMode",
    "CacheState",
    "Cancelled",
    "Client",
    "Concept",
    "ConceptScore",
    "ConnectionFailed",
    "DeadlineExceeded",
    "EncodedText",
    "Feature",
    "FeatureDifference",
    "FeatureRanking",
    "FieldViolation",
    "Flow",
    "InputError",
    "InvalidRequest",
    "ItemError",
    "Lane",
    "Limits",
    "Message",
    "MissingExtra",
    "ModelChanged",
    "ModelInfo",
    "NotFound",
    "NotReady",
    "Overloaded",
    "Pair",
    "PairResult",
    "PairScore",
    "PooledFeatures",
    "PromptedResponse",
    "ResponseResult",
    "ResponseScore",
    "RetryPolicy",
    "ScoreOptions",
    "ServerFault",
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
    "__version__",
    "chat",
]
