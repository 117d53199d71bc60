"""The audit jobs of one data directory: implements ``api.AuditJobs`` over files, the scorer and the operations.

    jobs = StoredAuditJobs(data, scorer, operations, ...)
    await jobs.start(); ...; await jobs.aclose()

Starting: what registers kinds of operations is made first (this, concept jobs), then ``start`` takes up what was under way.
Stopping goes the other way round: operations stop before the scorer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from assay_server.jobs.audits.files import AuditFiles
from assay_server.jobs.audits.jobs import AuditLibrary, ConceptAccess
from assay_server.jobs.audits.rows import no_labels
from assay_server.jobs.audits.run import AuditRunner
from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditResult,
    AuditSettings,
    DecisionInfo,
    DecisionMode,
    HypothesisDetail,
    LabelLookup,
    StatedCondition,
)
from assay_server.jobs.comparisons.files import ComparisonFiles
from assay_server.jobs.comparisons.jobs import ComparisonJobs
from assay_server.jobs.comparisons.run import ComparisonRunner
from assay_server.jobs.comparisons.types import ComparisonRequest, ComparisonResult
from assay_server.jobs.datasets.jobs import DatasetJobs
from assay_server.jobs.datasets.run import Imports, ReadPairs
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.jobs.datasets.types import DatasetInfo, UploadPosition
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.sweeping import sweep_results
from assay_server.jobs.operations.types import OperationInfo
from assay_server.jobs.plans.files import PlanFiles
from assay_server.scorer import ScorerLike
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir
from assay_server.store.uploads import Uploads
from assay_server.subject.types import Pair

LANES = {"audits": 1, "imports": 1, "concepts": 1, "quick": 4}


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


class StoredAuditJobs:
    """See ``api.AuditJobs`` for every method.

    Args:
        data: the data directory, open; closed by whoever opened it.
        scorer: the one path from pairs to features.
        operations: of the same directory; not started yet, started and closed here.
        options: how it is kept.
        concepts: stored concepts and clusters.
        labels: what concepts and conditions are called.
        read_pairs: how a file is read; None where none may be.
    """

    def __init__(
        self,
        data: DataDir,
        scorer: ScorerLike,
        operations: Operations,
        *,
        options: StoreOptions | None = None,
        concepts: ConceptAccess | None = None,
        labels: LabelLookup = no_labels,
        read_pairs: ReadPairs | None = None,
    ) -> None:
        options, concepts = options or StoreOptions(), concepts or ConceptAccess()
        files = data.files
        self._files = files
        self._options = options
        self._store = Datasets(files, options.shard_pairs)
        self._audit_files = AuditFiles(files)
        self.operations = operations
        uploads = Uploads(files, options.max_dataset_pairs)
        self.datasets = DatasetJobs(files, self._store, uploads, operations, scorer.info)
        self._imports = Imports(
            self._store,
            operations,
            roots=options.import_roots,
            read_pairs=read_pairs,
            max_pairs=options.max_dataset_pairs,
        )
        self.runner = AuditRunner(files, self._audit_files, self._store, scorer, options.scoring, operations.telemetry)
        self._audits = AuditLibrary(
            self._audit_files,
            self._store,
            self.datasets,
            operations,
            self.runner,
            scorer.info,
            concepts=concepts,
            labels=labels,
        )
        comparisons = ComparisonFiles(files)
        self._comparisons = ComparisonJobs(
            comparisons,
            self._store,
            self.datasets,
            operations,
            ComparisonRunner(comparisons, self._store, PlanFiles(files), self.runner, scorer.info),
            scorer.info,
            concepts=concepts,
            labels=labels,
        )

    async def start(self) -> None:
        """Put in order what a killed process left, then take up what was under way."""
        await asyncio.to_thread(self._store.sweep)
        await self.datasets.expire(self._options.upload_max_age_seconds)
        await self.operations.start()
        await self.operations.expire(self._options.operation_max_age_seconds)
        await sweep_results(self._files, self.operations)
        await self._audits.sweep()
        await self._comparisons.sweep()

    async def aclose(self) -> None:
        """Stop what runs at its next safe point."""
        await self.operations.aclose()

    # Uploads and datasets

    async def begin_upload(self, request_id: str, display_name: str) -> UploadPosition:
        """See ``api.AuditJobs``."""
        await self.datasets.expire(self._options.upload_max_age_seconds)
        return await self.datasets.begin(request_id, display_name)

    async def append(self, request_id: str, sequence: int, pairs: Sequence[Pair], sent_bytes: int) -> UploadPosition:
        """See ``api.AuditJobs``."""
        return await self.datasets.append(request_id, sequence, pairs, sent_bytes)

    async def finish_upload(self, request_id: str, pairs: int) -> DatasetInfo:
        """See ``api.AuditJobs``."""
        return await self.datasets.finish(request_id, pairs)

    async def get_upload(self, request_id: str) -> UploadPosition:
        """See ``api.AuditJobs``."""
        return await self.datasets.position(request_id)

    async def import_file(self, uri: str, display_name: str = "", request_id: str = "") -> OperationInfo:
        """See ``api.AuditJobs``."""
        return await self._imports.begin(uri, display_name, request_id)

    async def get_dataset(self, name: str) -> DatasetInfo:
        """See ``api.AuditJobs``."""
        return await self.datasets.get(name)

    async def list_datasets(self) -> list[DatasetInfo]:
        """See ``api.AuditJobs``."""
        return await self.datasets.all()

    async def delete_dataset(self, name: str) -> None:
        """See ``api.AuditJobs``."""
        await self.datasets.delete(name)

    def read_pairs(self, name: str, *, start: int = 0) -> AsyncIterator[tuple[int, list[Pair]]]:
        """See ``api.AuditJobs``."""
        return self.datasets.read(name, start)

    # Audits

    async def create_audit(
        self, dataset: str, settings: AuditSettings, *, display_name: str = "", request_id: str = ""
    ) -> OperationInfo:
        """See ``api.AuditJobs``."""
        return await self._audits.create(dataset, settings, display_name, request_id)

    async def test_hypothesis(
        self,
        dataset: str,
        concept: str,
        condition: StatedCondition | None,
        settings: AuditSettings,
        *,
        request_id: str = "",
    ) -> OperationInfo:
        """See ``api.AuditJobs``."""
        return await self._audits.state(dataset, concept, condition, settings, request_id)

    async def get_audit(self, name: str) -> AuditInfo:
        """See ``api.AuditJobs``."""
        return await self._audits.get(name)

    async def list_audits(self) -> list[AuditInfo]:
        """See ``api.AuditJobs``."""
        return await self._audits.all()

    async def delete_audit(self, name: str) -> None:
        """See ``api.AuditJobs``."""
        await self._audits.delete(name)

    async def hypotheses(self, audit: str) -> AuditResult:
        """See ``api.AuditJobs``."""
        return await self._audits.result(audit)

    async def get_hypothesis(self, name: str) -> HypothesisDetail:
        """See ``api.AuditJobs``; without evidence where the dataset was deleted meanwhile."""
        return await self._audits.hypothesis(name)

    async def export_parquet(self, audit: str) -> bytes:
        """See ``api.AuditJobs``."""
        return await self._audits.parquet(audit)

    # Decisions

    async def record_decision(
        self,
        hypothesis: str,
        mode: DecisionMode,
        *,
        strength: float | None = None,
        note: str = "",
        author: str = "",
        request_id: str = "",
    ) -> DecisionInfo:
        """See ``api.AuditJobs``."""
        return await self._audits.decide(hypothesis, mode, strength, note, author, request_id)

    async def list_decisions(self, audit: str = "audits/-") -> list[DecisionInfo]:
        """See ``api.AuditJobs``."""
        return await self._audits.decisions(audit)

    # Comparisons

    async def compare_rollouts(self, request: ComparisonRequest, *, request_id: str = "") -> OperationInfo:
        """See ``api.AuditJobs``."""
        return await self._comparisons.create(request, request_id)

    async def get_comparison(self, name: str, *, brief: bool = False) -> ComparisonResult:
        """See ``api.AuditJobs``."""
        return await self._comparisons.get(name, brief=brief)

    # Operations

    async def get_operation(self, name: str) -> OperationInfo:
        """See ``api.AuditJobs``."""
        return self.operations.get(name)

    async def list_operations(self) -> list[OperationInfo]:
        """See ``api.AuditJobs``."""
        return self.operations.all()

    async def wait_operation(self, name: str, seconds: float | None = None) -> OperationInfo:
        """See ``api.AuditJobs``."""
        return await self.operations.wait(name, seconds)

    async def cancel_operation(self, name: str) -> None:
        """See ``api.AuditJobs``."""
        await self.operations.cancel(name)

    async def delete_operation(self, name: str) -> None:
        """See ``api.AuditJobs``."""
        await self.operations.delete(name)
