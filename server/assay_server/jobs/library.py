"""Everything that one server keeps in its data directory, put together; started and stopped in order.

Invariants, for all rooms:
- Names are resource names ("datasets/…", "audits/…", "audits/…/hypotheses/…", "operations/…"); instants are UNIX seconds.
- What a method returned is durable: a ``kill -9`` right after it loses nothing of it.
- Labels are looked up when rows are read; they are in no table and enter no test (METHOD.md §2).
- Every method may raise ``NotFound`` for a name that is not there, ``InvalidItem`` with the field's path for a bad argument,
  and ``NotReady`` once ``aclose`` began. Field paths are those of the request messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay_server.concepts.neighbours import Decoder
from assay_server.jobs.audits.files import AuditFiles
from assay_server.jobs.audits.jobs import AuditJobs, ConceptAccess
from assay_server.jobs.audits.run import AuditRunner
from assay_server.jobs.comparisons.files import ComparisonFiles
from assay_server.jobs.comparisons.jobs import ComparisonJobs
from assay_server.jobs.comparisons.run import ComparisonRunner
from assay_server.jobs.concepts.clusters import ClusterJobs
from assay_server.jobs.concepts.jobs import ConceptJobs
from assay_server.jobs.concepts.labels import LabelJobs
from assay_server.jobs.datasets.jobs import DatasetJobs
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.run import Imports, ReadPairs
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.telemetry import Telemetry
from assay_server.jobs.plans.files import PlanFiles
from assay_server.jobs.plans.jobs import PlanJobs
from assay_server.jobs.plans.resolve import ConceptSources, decisions_of, finder
from assay_server.jobs.plans.types import PlanOptions
from assay_server.labelling.endpoint import EndpointOptions
from assay_server.labelling.labels import Labels
from assay_server.scorer import Scorer, ScorerLike
from assay_server.store.clusters import StoredClusters
from assay_server.store.concepts import ConceptFiles, subject_fingerprint
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir
from assay_server.store.uploads import Uploads

LANES = {"audits": 1, "imports": 1, "concepts": 1, "plans": 1, "quick": 4}
"""Operations at once, per lane."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How the data directory is kept.

    Attributes:
        shard_pairs: pairs of a shard.
        max_dataset_pairs: pairs of one dataset.
        upload_max_age_seconds: age at which an upload, complete or not, is forgotten.
        operation_max_age_seconds: age at which an operation that is done is forgotten, with what only it names.
        import_roots: folders that files may be imported from.
        scoring: how datasets are scored.
    """

    shard_pairs: int = 2048
    max_dataset_pairs: int = 5_000_000
    upload_max_age_seconds: float = 7 * 86_400.0
    operation_max_age_seconds: float = 42 * 86_400.0
    import_roots: tuple[str, ...] = ()
    scoring: ScoringOptions = field(default_factory=ScoringOptions)


@dataclass(frozen=True, slots=True)
class Library:
    """What one server keeps. Confined to one event loop.

    Attributes:
        operations: all long work.
        datasets: uploads, imports, and the pairs in them.
        audits: audits, their hypotheses, and decisions about them.
        comparisons: comparisons of rollouts.
        concepts: concepts of the loaded subject.
        clusters: the feature clusters in use.
        labels: labels of features and clusters, made and looked up.
        plans: interventions; None for a scorer without a device of its own.
        options: how the directory is kept.
    """

    operations: Operations
    datasets: DatasetJobs
    audits: AuditJobs
    comparisons: ComparisonJobs
    concepts: ConceptJobs
    clusters: ClusterJobs
    labels: LabelJobs
    plans: PlanJobs | None
    options: StoreOptions

    async def start(self) -> None:
        """Clean up after a killed process, then resume unfinished operations."""
        await self.concepts.start()
        await self.clusters.start()
        await self.labels.start()
        if self.plans is not None:
            await self.plans.start()
        await self.datasets.start()
        await self.operations.start()
        await self.operations.expire(self.options.operation_max_age_seconds)
        await self.labels.sweep()
        if self.plans is not None:
            await self.plans.sweep()
        await self.audits.sweep()
        await self.comparisons.sweep()

    async def aclose(self) -> None:
        """Stop work at the next safe point, before the scorer closes; ``start`` of the next process goes on with it."""
        await self.operations.aclose()


def build_library(
    data: DataDir,
    scorer: ScorerLike,
    labels: Labels,
    decoder: Decoder,
    options: StoreOptions | None = None,
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
        data: the data directory; closed by its opener.
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
        telemetry: counts long work.
    """
    options, files, info = options or StoreOptions(), data.files, scorer.info
    lanes: Mapping[str, int] = {**LANES, "audits": audits_at_once, "plans": plans_at_once}
    operations = Operations(files, lanes, telemetry)
    store = Datasets(files, options.shard_pairs)
    reader = DatasetReader(files, store, scorer, options.scoring)
    imports = Imports(store, operations, roots=options.import_roots, read_pairs=read_pairs, max_pairs=options.max_dataset_pairs)
    uploads = Uploads(files, options.max_dataset_pairs)
    datasets = DatasetJobs(files, store, uploads, reader, imports, operations, info, options.upload_max_age_seconds)

    kept, subject = ConceptFiles(files), subject_fingerprint(info)
    clusters = ClusterJobs(kept, operations, reader, subject=subject, d_sae=info.d_sae, shipped=shipped)
    concepts = ConceptJobs(
        kept,
        operations,
        scorer,
        labels,
        decoder,
        clusters=lambda: clusters.in_use,
        sample=reader.sample,
        max_features=max_concept_features,
    )
    made = LabelJobs(kept, operations, scorer, labels, concepts, clusters, reader, subject=subject, endpoint=endpoint)

    access = ConceptAccess(lambda name: concepts.get(name, "concept"), lambda: clusters.in_use)
    audit_files, comparison_files = AuditFiles(files), ComparisonFiles(files)
    runner = AuditRunner(audit_files, store, reader, info, operations.telemetry)
    audits = AuditJobs(audit_files, store, reader, operations, runner, info, concepts=access, labels=made.look_up)
    comparing = ComparisonRunner(comparison_files, PlanFiles(files), reader, info)
    comparisons = ComparisonJobs(
        comparison_files, store, reader, operations, comparing, info, concepts=access, labels=made.look_up
    )

    plans: PlanJobs | None = None
    if isinstance(scorer, Scorer):
        find = finder(concepts.get, lambda: clusters.in_use.clusters, info.d_sae)
        sources = ConceptSources(
            find=find,
            label=made.look_up,
            clusters=lambda: clusters.in_use.clusters,
            decision=decisions_of(audits, find, made.look_up, info),
        )
        plans = PlanJobs(files, operations, scorer, reader, sources, options=plan_options)
    return Library(operations, datasets, audits, comparisons, concepts, clusters, made, plans, options)
