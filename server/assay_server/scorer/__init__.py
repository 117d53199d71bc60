"""The one path from a pair to its features; see ``scorer``."""

from assay_server.scorer.scorer import Scorer, build_scorer, default_batch_tokens
from assay_server.scorer.types import CacheState, Item, Lane, Scored, ScoreOptions, ScorerLike, Timings

__all__ = [
    "CacheState",
    "Item",
    "Lane",
    "ScoreOptions",
    "Scored",
    "Scorer",
    "ScorerLike",
    "Timings",
    "build_scorer",
    "default_batch_tokens",
]
