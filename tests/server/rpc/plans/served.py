"""One server with plans through a real channel: a tiny real model with its head, a real data directory, a stored dataset."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from assay.v1 import audit_service_pb2_grpc, intervention_service_pb2_grpc, pair_pb2
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service_pb
from assay_server.batching import Batcher, Planner
from assay_server.cache import LruCache
from assay_server.config import ServerConfig
from assay_server.jobs.library import Library, StoreOptions, build_library
from assay_server.labelling.labels import Labels
from assay_server.rpc.server import AssayServer
from assay_server.scorer import Scorer
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir
from assay_server.subject.decoder import DecoderRows
from assay_server.subject.types import Pair
from assay_server.telemetry.metrics import Metrics
from google.longrunning import operations_pb2, operations_pb2_grpc

from tests.server.jobs.plans.worlds import make_pairs, whole_subject
from tests.support.tiny_subject import FEATURES, Watched
from tests.support.waiting import PATIENCE


@dataclass
class Served:
    """One server over one data directory with one stored dataset."""

    channel: grpc.aio.Channel
    library: Library
    dataset: str
    fingerprint: str
    pairs: list[Pair]
    watched: Watched
    metrics: Metrics

    @property
    def plans(self) -> Any:
        return intervention_service_pb2_grpc.InterventionServiceStub(self.channel)

    @property
    def audits(self) -> Any:
        return audit_service_pb2_grpc.AuditServiceStub(self.channel)

    async def done(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        stub: Any = operations_pb2_grpc.OperationsStub(self.channel)
        ended = await stub.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name), timeout=PATIENCE)
        assert ended.done
        return ended

    async def plan(self, *specs: dict[str, Any], **request: Any) -> pb.Plan:
        asked = service_pb.CreatePlanRequest(**{"dataset": self.dataset, "interventions": specs, **request})
        ended = await self.done(await self.plans.CreatePlan(asked))
        assert not ended.HasField("error"), ended.error
        made = pb.Plan()
        assert ended.response.Unpack(made)
        return made


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    watched = Watched(whole_subject())
    batcher = Batcher(watched.subject, Planner(512))
    batcher.start()
    scorer = Scorer(watched.subject, LruCache(64 << 20), batcher)
    labels = Labels(FEATURES)
    server = AssayServer(ServerConfig(port=0, drain_seconds=2.0), metrics := Metrics())
    await server.start()
    pairs = make_pairs(40)
    with DataDir(str(folder)) as data:
        library = build_library(data, scorer, labels, DecoderRows(whole_subject().sae), StoreOptions(shard_pairs=25))
        dataset = Datasets(data.files, 25).write(lambda: [pairs], "words")
        await library.start()
        await server.open(scorer, labels, library)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Served(channel, library, f"datasets/{dataset.id}", dataset.fingerprint, pairs, watched, metrics)
        await server.drain()
        await library.aclose()
        await scorer.aclose()


def wire(pair: Pair, **changes: Any) -> pair_pb2.Pair:
    turns = [pair_pb2.Message(role=message.role, content=message.content) for message in pair.prompt]
    fields = {"id": pair.id, "conversation": {"messages": turns}, "chosen": pair.chosen, "rejected": pair.rejected, **changes}
    return pair_pb2.Pair(**fields)


async def offsets(
    served: Served, options: dict[str, Any], *batches: list[pair_pb2.Pair]
) -> list[service_pb.StreamOffsetsResponse]:
    requests = [service_pb.StreamOffsetsRequest(options=options)]
    requests += [service_pb.StreamOffsetsRequest(batch={"sequence": at, "pairs": pairs}) for at, pairs in enumerate(batches)]
    return [response async for response in served.plans.StreamOffsets(iter(requests), timeout=PATIENCE)]
