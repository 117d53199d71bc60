"""Batches for the device: two lanes of queued work, and the one thread that owns the accelerator."""

from assay_server.batching.batcher import Batcher
from assay_server.batching.observer import EngineObserver, NullEngineObserver
from assay_server.batching.planner import Planner
from assay_server.batching.work import CallRequest, Lane, Read, Work

__all__ = [
    "Batcher",
    "CallRequest",
    "EngineObserver",
    "Lane",
    "NullEngineObserver",
    "Planner",
    "Read",
    "Work",
]
