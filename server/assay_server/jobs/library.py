"""The data directory of one server put to work: operations, concepts and audits over it, started and stopped in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay_server.concepts.neighbours import Decoder
from assay_server.jobs.audits.jobs import ConceptAccess
from assay_server.jobs.concepts.build import LANES as CONCEPT_LANES
from assay_server.jobs.concepts.build import Concepts, build_concepts
from assay_server.jobs.datasets.run import ReadPairs
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.telemetry import Telemetry
from assay_server.jobs.plans.jobs import LANES as PLAN_LANES
from assay_server.jobs.plans.jobs import PlanJobs
from assay_server.jobs.plans.sources import ConceptSources, decisions_of, finder
from assay_server.jobs.plans.types import PlanOptions
from assay_server.jobs.stored_jobs import LANES, StoredAuditJobs, StoreOptions
from assay_server.labelling.endpoint import EndpointOptions
from assay_server.labelling.labels import Labels
from assay_server.scorer import Scorer, ScorerLike
from assay_server.store.clusters import StoredClusters
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir


@dataclass(frozen=True, slots=True)
class Library:
    """What one server keeps.

    Attributes:
        operations: all long work.
        concepts: concepts, clusters, labels.
        jobs: datasets, audits, decisions.
        plans: interventions; None for a scorer without a device of its own.
    """

    operations: Operations
    concepts: Concepts
    jobs: StoredAuditJobs
    plans: PlanJobs | None = None

    async def start(self) -> None:
        """Read what is there, and take up what was under way."""
        await self.concepts.start()
        if self.plans is not None:
            await self.plans.start()
        await self.jobs.start()

    async def aclose(self) -> None:
        """Stop what runs at its next safe point; before the scorer closes."""
        await self.jobs.aclose()


def build_library(
    data: DataDir,
    scorer: ScorerLike,
    labels: Labels,
    decoder: Decoder,
    options: StoreOptions,
    *,
    audits_at_once: int = 1,
    plans_at_once: int = 1,
    plan_options: PlanOptions | None = None,
    shipped: StoredClusters | None = None,
    endpoint: EndpointOptions | None = None,
    max_concept_features: int = 4096,
    read_pairs: ReadPairs | None = None,
    telemetry: Telemetry | None = None,
) -> Library:
    """Put the parts together, on the event loop that will run them.

    Args:
        data: the data directory; closed by whoever opened it.
        scorer: the one path from text to features.
        labels: what the server shows.
        decoder: the SAE's decoder rows.
        options: how the directory is kept.
        audits_at_once: audits that run at the same time; others wait in order.
        plans_at_once: plans, curves and rankings that are made at the same time.
        plan_options: what plans may cost.
        shipped: clusters that came with the SAE.
        endpoint: for labels, if the operator configured one.
        max_concept_features: features of one concept.
        read_pairs: how a file is read; None where none may be.
        telemetry: told what long work does.
    """
    lanes: Mapping[str, int] = {**LANES, **CONCEPT_LANES, **PLAN_LANES, "audits": audits_at_once, "plans": plans_at_once}
    operations = Operations(data.files, lanes, telemetry)
    concepts = build_concepts(
        data.files,
        Datasets(data.files, options.shard_pairs),
        operations,
        scorer,
        labels,
        decoder,
        shipped=shipped,
        endpoint=endpoint,
        scoring=options.scoring,
        max_features=max_concept_features,
    )
    jobs = StoredAuditJobs(
        data,
        scorer,
        operations,
        options=options,
        concepts=ConceptAccess(lambda name: concepts.stored.get(name, "concept"), lambda: concepts.clusters.in_use),
        labels=concepts.look_up,
        read_pairs=read_pairs,
    )
    plans = build_plans(data, scorer, operations, concepts, jobs, options, plan_options) if isinstance(scorer, Scorer) else None
    return Library(operations, concepts, jobs, plans)


def build_plans(
    data: DataDir,
    scorer: Scorer,
    operations: Operations,
    concepts: Concepts,
    jobs: StoredAuditJobs,
    options: StoreOptions,
    plan_options: PlanOptions | None = None,
) -> PlanJobs:
    """Plans over the same directory; before ``operations`` start."""
    find = finder(concepts.stored.get, lambda: concepts.clusters.in_use.clusters, scorer.info.d_sae)
    sources = ConceptSources(
        find=find,
        label=concepts.look_up,
        clusters=lambda: concepts.clusters.in_use.clusters,
        decision=decisions_of(jobs, find, concepts.look_up, scorer.info),
    )
    datasets = Datasets(data.files, options.shard_pairs)
    return PlanJobs(data.files, operations, scorer, datasets, sources, scoring=options.scoring, options=plan_options)
