"""A real server with plans in a thread of this process: the tiny subject with its head, a real data directory, stored pairs."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_server.batching import Batcher, Planner
from assay_server.cache import LruCache
from assay_server.config import ServerConfig
from assay_server.jobs.library import StoreOptions, build_library
from assay_server.labelling.labels import Labels
from assay_server.rpc.server import AssayServer
from assay_server.scorer import Scorer
from assay_server.store.files import DataDir
from assay_server.subject.decoder import DecoderRows
from assay_server.subject.subject import Subject
from assay_server.telemetry.metrics import Metrics

from tests.server.jobs.plans.worlds import whole_subject
from tests.support.tiny_subject import FEATURES


@dataclass(frozen=True)
class PlanServer:
    """Where it listens."""

    address: str


@contextmanager
def plan_server(folder: Path, subject: Subject | None = None, **options: Any) -> Iterator[PlanServer]:
    """Serves the tiny subject, or a stored one, over a data directory kept by these options; all is stopped on leaving."""
    subject = subject or whole_subject()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="plan-server", daemon=True)
    thread.start()
    stack = AsyncExitStack()

    def do(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    async def begin() -> AssayServer:
        batcher = Batcher(subject, Planner(512))
        batcher.start()
        scorer = Scorer(subject, LruCache(64 << 20), batcher)
        stack.push_async_callback(scorer.aclose)
        labels = Labels(FEATURES)
        data = stack.enter_context(DataDir(str(folder)))
        kept = StoreOptions(**{"shard_pairs": 25, **options})
        library = build_library(data, scorer, labels, DecoderRows(subject.sae), kept)
        await library.start()
        stack.push_async_callback(library.aclose)
        server = AssayServer(ServerConfig(port=0, drain_seconds=2.0), Metrics())
        await server.start()
        await server.open(scorer, labels, library)
        stack.push_async_callback(server.drain)
        return server

    try:
        yield PlanServer(f"127.0.0.1:{do(begin()).port}")
    finally:
        do(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
