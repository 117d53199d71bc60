"""Comparisons of rollouts: created, checked, stored, read.

Invariants:
- A request is on disk before its operation is, with the concepts at that time; the same request id gives the same operation.
- What cannot be is refused at once, with the numbers; only reading the pairs is left to the operation.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from assay_server.errors import AssayError, DataLoss, InvalidItem, NotFound
from assay_server.jobs.audits.concepts import concept_set
from assay_server.jobs.audits.jobs import ConceptAccess
from assay_server.jobs.audits.snapshots import snapshot_of, to_record
from assay_server.jobs.audits.types import ConceptFamily, LabelLookup
from assay_server.jobs.comparisons.files import Asked, ComparisonFiles
from assay_server.jobs.comparisons.run import ComparisonRunner
from assay_server.jobs.comparisons.types import ComparisonRequest, ComparisonResult
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.operations.jobs import Operations, check_request_id
from assay_server.jobs.operations.types import OperationInfo
from assay_server.store.concepts import StoredConcept
from assay_server.store.datasets import Dataset, Datasets
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import SubjectInfo

KIND = "comparison"


class ComparisonJobs:
    """The comparisons of one data directory. Confined to one event loop.

    Args:
        files: where they are stored.
        store: the pairs that they compare.
        datasets: the datasets by name.
        operations: where they run; not started yet.
        runner: runs them.
        info: the loaded subject.
        concepts: stored concepts and clusters.
        labels: what concepts are called.
    """

    def __init__(
        self,
        files: ComparisonFiles,
        store: Datasets,
        datasets: DatasetReader,
        operations: Operations,
        runner: ComparisonRunner,
        info: SubjectInfo,
        *,
        concepts: ConceptAccess,
        labels: LabelLookup,
    ) -> None:
        self._files = files
        self._store = store
        self._datasets = datasets
        self._operations = operations
        self._runner = runner
        self._info = info
        self._concepts = concepts
        self._labels = labels
        self._creating = asyncio.Lock()
        operations.register(KIND, runner.run, lane="audits", on_failure=runner.failed, lasting=True)

    async def sweep(self) -> None:
        """Remove comparisons without an operation; once the operations are read."""
        await asyncio.to_thread(self._files.sweep, {operation.target for operation in self._operations.all()})

    async def create(self, request: ComparisonRequest, *, request_id: str = "") -> OperationInfo:
        """Compare rollouts; ``target`` and ``response`` are the comparison.

        Raises:
            NotFound: a dataset, the plan, or a concept.
            InvalidItem: SAME_DATASET, PROMPTS_DIFFER, NO_CONCEPTS, REQUEST_ID_REUSED.
            FailedPrecondition: DATASET_MISMATCH, MODEL_MISMATCH, TOKENIZER_MISMATCH; NOT_A_SET, NO_THRESHOLD.
        """
        check_request_id(request_id)
        asked = await self._asked(request)
        id = request_id or secrets.token_hex(6)
        name = f"comparisons/{id}"
        arguments = {
            "comparison": name,
            "datasets": [request.dataset, request.rollouts, request.noise],
            "asked": _digest(asked),
        }
        async with self._creating:
            if self._operations.find(KIND, request_id) is None and not await asyncio.to_thread(self._is_kept, name, asked):
                await asyncio.to_thread(self._files.delete, name)
                await asyncio.to_thread(self._files.write_request, name, asked)
            return await self._operations.submit(KIND, target=name, arguments=arguments, request_id=id)

    async def get(self, name: str, *, brief: bool = False) -> ComparisonResult:
        """A finished comparison; its head alone where it is to be brief. Raises NotFound, DataLoss."""
        return await asyncio.to_thread(self._files.read, name, self._labels, brief=brief)

    def _is_kept(self, name: str, asked: Asked) -> bool:
        """Whether it was made before, and only its operation was deleted."""
        try:
            return self._files.exists(name) and _digest(self._files.request(name)) == _digest(asked)
        except DataLoss:
            return False

    async def _asked(self, request: ComparisonRequest) -> Asked:
        fields = ("dataset", "rollouts", "noise")
        dataset, rollouts, noise = [await self._datasets.find(getattr(request, field), field) for field in fields]
        for field in fields[1:]:
            if getattr(request, field) == request.dataset:
                raise InvalidItem(
                    f"{field} is the training data itself, which would agree with its own prediction. Give the pairs of a "
                    "rollout.",
                    reason="SAME_DATASET",
                    field=field,
                    details={"dataset": request.dataset},
                )
        await asyncio.to_thread(self._check_prompts, rollouts, noise)
        fingerprint = ""
        if request.plan:
            fingerprint = await asyncio.to_thread(self._checked_plan, request.plan, dataset)
        return Asked(request, SubjectRef.of(self._info), self._snapshot(request), fingerprint, time.time())

    def _snapshot(self, request: ComparisonRequest) -> dict[str, Any]:
        clusters = self._concepts.clusters()
        stored = [self._concept(name, at) for at, name in enumerate(request.concepts)]
        try:
            columns = concept_set(
                self._info.d_sae,
                clusters=clusters.clusters if clusters and ConceptFamily.CLUSTERS in request.families else (),
                stored=stored,
            )
        except AssayError as error:
            error.field = "concepts"
            raise
        if ConceptFamily.FEATURES not in request.families and not columns.concepts.names:
            raise InvalidItem(
                "There is nothing to compare: no clusters are computed, and no concept is named. Ask for features, or compute "
                "clusters.",
                reason="NO_CONCEPTS",
                field="families",
            )
        return to_record(snapshot_of(columns))

    def _concept(self, name: str, at: int) -> StoredConcept:
        try:
            return self._concepts.get(name)
        except AssayError as error:
            error.field = f"concepts[{at}]"
            raise

    def _checked_plan(self, plan: str, dataset: Dataset) -> str:
        """The fingerprint of a plan that can weigh this dataset."""
        try:
            return self._runner.plan(plan, dataset).plan.fingerprint
        except NotFound as error:
            raise NotFound(error.message, field="plan") from error
        except AssayError as error:
            error.field = error.field or "plan"
            raise

    def _check_prompts(self, rollouts: Dataset, noise: Dataset) -> None:
        """Raises InvalidItem (PROMPTS_DIFFER) with how many each has that the other lacks."""
        asked, other = self._prompts(rollouts), self._prompts(noise)
        shared = len(np.intersect1d(asked, other, assume_unique=True))
        if shared == len(asked) == len(other):
            return
        raise InvalidItem(
            f"The noise rollouts answer {len(other)} prompts and the rollouts {len(asked)}, and {shared} of them are the same. "
            "Roll out the model before training twice on the prompts of the rollouts.",
            reason="PROMPTS_DIFFER",
            field="noise",
            details={
                "rollout_prompts": len(asked),
                "noise_prompts": len(other),
                "shared_prompts": shared,
                "only_in_rollouts": len(asked) - shared,
                "only_in_noise": len(other) - shared,
            },
        )

    def _prompts(self, dataset: Dataset) -> Any:
        columns: Sequence[Any] = [
            self._store.columns(dataset, shard, ("prompt_id",))["prompt_id"].to_numpy() for shard in range(len(dataset.shards))
        ]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *columns]))


def _digest(asked: Asked) -> str:
    """What makes a comparison another one; concepts are those of its first asking."""
    body = [asdict(asked.request), asked.plan_fingerprint]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
