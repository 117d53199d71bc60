"""Audits: created, kept, read, decided about, deleted.

Invariants:
- An audit is on disk before its operation is, and its operation before anybody is told of it: one without an operation was never
  acknowledged, and goes at the next start.
- Tables never change once they are written, so that they may be held in memory (``held_results``).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.audit.matrices import Floats, Ints
from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound
from assay_server.jobs.audits.concepts import concept_set
from assay_server.jobs.audits.files import AuditFiles
from assay_server.jobs.audits.held import HeldResults
from assay_server.jobs.audits.run import AuditRunner
from assay_server.jobs.audits.snapshots import snapshot_of, to_record
from assay_server.jobs.audits.sources import require_sources
from assay_server.jobs.audits.stating import Stating
from assay_server.jobs.audits.tables import parse_hypothesis_id
from assay_server.jobs.audits.types import (
    SAE_FAMILIES,
    AuditInfo,
    AuditResult,
    AuditSettings,
    AuditState,
    ConceptFamily,
    DecisionInfo,
    DecisionMode,
    EvidencePair,
    HypothesisDetail,
    LabelLookup,
    Nuisance,
    StatedCondition,
)
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.operations.jobs import Operations, check_request_id, reused
from assay_server.jobs.operations.types import OperationInfo
from assay_server.store.clusters import StoredClusters
from assay_server.store.concepts import StoredConcept
from assay_server.store.datasets import MAX_METADATA_KEYS, Dataset, Datasets
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import Pair, SubjectInfo

AUDIT, TEST = "audit", "test"
ALL_AUDITS = "audits/-"


def _no_concept(name: str) -> StoredConcept:
    raise FailedPrecondition(
        f"This server keeps no concepts, so there is no {name!r}.", reason="NO_CONCEPTS", field="options.concepts"
    )


@dataclass(frozen=True, slots=True)
class ConceptAccess:
    """What audits ask of the concepts.

    Attributes:
        get: a stored concept of the loaded subject, by name. Raises NotFound, SubjectMismatch.
        clusters: the feature clusters in use; None where there are none.
    """

    get: Callable[[str], StoredConcept] = _no_concept
    clusters: Callable[[], StoredClusters | None] = lambda: None


class AuditJobs:
    """The audits of one data directory. Confined to one event loop.

    Args:
        files: where they are.
        store: the pairs that they audit.
        datasets: the datasets by name.
        operations: where they run; not started yet.
        runner: runs them.
        info: the loaded subject.
        concepts: stored concepts and clusters.
        labels: what concepts and conditions are called.
    """

    def __init__(
        self,
        files: AuditFiles,
        store: Datasets,
        datasets: DatasetReader,
        operations: Operations,
        runner: AuditRunner,
        info: SubjectInfo,
        *,
        concepts: ConceptAccess,
        labels: LabelLookup,
    ) -> None:
        self._files = files
        self._datasets = datasets
        self._operations = operations
        self._info = info
        self._concepts = concepts
        self._stating = Stating(files, store, concepts.get, concepts.clusters)
        self._labels = labels
        self._results = HeldResults(files, labels)
        self._creating = asyncio.Lock()
        self._deciding = asyncio.Lock()
        for kind in (AUDIT, TEST):
            operations.register(kind, runner.run, lane="audits", on_failure=runner.failed)

    async def sweep(self) -> None:
        """Remove what was never acknowledged, or half deleted; once the operations are read."""
        await asyncio.to_thread(self._files.sweep)
        under_way = self._operations.open_targets()
        for info in await asyncio.to_thread(self._files.all):
            if info.state is AuditState.RUNNING and info.name not in under_way:
                await asyncio.to_thread(self._files.delete, info.name)

    async def create(
        self, dataset: str, settings: AuditSettings, *, display_name: str = "", request_id: str = ""
    ) -> OperationInfo:
        """Audit a dataset; ``target`` and ``response`` are the audit."""
        stored = await self._datasets.find(dataset, "dataset")
        families, clusters = settings.families, self._concepts.clusters()
        columns = concept_set(
            self._info.d_sae,
            clusters=clusters.clusters if clusters and ConceptFamily.CLUSTERS in families else (),
            stored=[self._concepts.get(name) for name in settings.concepts],
        )
        if not set(families) - {ConceptFamily.CLUSTERS} and not columns.concepts.names:
            raise InvalidItem(
                "There is nothing to test: no clusters are computed, and no concept is named. Ask for features, descriptors or "
                "words, or compute clusters.",
                reason="NO_CONCEPTS",
                field="options.families",
            )
        _check_metadata_keys(settings.metadata_keys, stored.metadata_keys)
        _check_nuisances(settings, stored)
        record = to_record(snapshot_of(columns))
        return await self._create(AUDIT, dataset, settings, record, display_name or stored.display_name, request_id)

    async def test(
        self,
        dataset: str,
        concept: str,
        condition: StatedCondition | None,
        settings: AuditSettings,
        *,
        request_id: str = "",
    ) -> OperationInfo:
        """Test one stated hypothesis. It is kept as an audit (``target``) of one row; ``response`` is the hypothesis."""
        stored = await self._datasets.find(dataset, "dataset")
        _check_nuisances(settings, stored)
        record = await asyncio.to_thread(self._stating.record, stored, concept, condition, self._info)
        statistics = replace(settings.statistics, views=(ViewKind.STATED,), control_pairs=0)
        settings = replace(settings, statistics=statistics, families=(), concepts=(concept,), metadata_keys=())
        where = record["stated"]["condition"]
        name = f"{concept} where {where}" if where else concept
        return await self._create(TEST, dataset, settings, record, name, request_id)

    async def get(self, name: str) -> AuditInfo:
        """One audit."""
        return await asyncio.to_thread(self._files.read, name)

    async def all(self) -> list[AuditInfo]:
        """All audits, newest first."""
        return await asyncio.to_thread(self._files.all)

    async def delete(self, name: str) -> None:
        """Delete an audit with its hypotheses and decisions; a running one is cancelled first. A damaged one goes too."""
        with suppress(DataLoss):
            await self.get(name)
        await self._operations.cancel_target(name)
        await asyncio.to_thread(self._files.delete, name)
        self._results.drop(name)
        await self._operations.forget_target(name)

    async def result(self, audit: str) -> AuditResult:
        """Everything that an audit found.

        Raises:
            FailedPrecondition: NOT_DONE while it runs; AUDIT_FAILED where it ended otherwise.
        """
        return await self._results.get(audit)

    async def hypothesis(self, name: str) -> HypothesisDetail:
        """One hypothesis with its evidence, none where the dataset was deleted meanwhile. Raises as ``result``."""
        result = await self.result(name.partition("/hypotheses/")[0])
        row = next((row for row in result.hypotheses if row.name == name), None)
        if row is None:
            raise _no_hypothesis(name)
        direction = result.directions.get(row.concept.name)
        told = result.tables[row.view].evidence[row.rank - 1 : row.rank]
        if not told:
            return HypothesisDetail(row, (), (), direction)
        try:
            dataset = await self._datasets.find(result.info.dataset)
        except NotFound:
            return HypothesisDetail(row, (), (), direction)
        (evidence,) = told
        wanted = [*evidence.supporting.tolist(), *evidence.contradicting.tolist()]
        pairs = await self._datasets.pairs_at(dataset, wanted)
        return HypothesisDetail(
            row,
            _shown(pairs, evidence.supporting, evidence.supporting_u, evidence.supporting_strength),
            _shown(pairs, evidence.contradicting, evidence.contradicting_u, evidence.contradicting_strength),
            direction,
        )

    async def parquet(self, audit: str) -> bytes:
        """The audit's hypotheses of all views as one Parquet file, one row per test. Raises as ``result``."""
        concepts = (row.concept for row in (await self.result(audit)).hypotheses)
        named = {concept.name: concept.named for concept in concepts if concept.named is not None}
        return await asyncio.to_thread(self._files.parquet, audit, self._labels, named)

    async def decide(
        self,
        hypothesis: str,
        mode: DecisionMode,
        *,
        strength: float | None = None,
        note: str = "",
        author: str = "",
        request_id: str = "",
    ) -> DecisionInfo:
        """Record a decision on a hypothesis's concept; earlier decisions are kept, the last one counts."""
        check_request_id(request_id)
        audit = hypothesis.partition("/hypotheses/")[0]
        await self._require_hypothesis(hypothesis)
        name = f"{audit}/decisions/{request_id or secrets.token_hex(6)}"
        decision = DecisionInfo(name, hypothesis, mode, strength, note, author, time.time())
        async with self._deciding:
            before = await asyncio.to_thread(self._files.decisions, audit)
            for known in before:
                if known.name == name:
                    if replace(known, created=decision.created) != decision:
                        raise reused(request_id)
                    return known
            await asyncio.to_thread(self._files.write_decision, decision)
        return decision

    async def decisions(self, audit: str = ALL_AUDITS) -> list[DecisionInfo]:
        """Decisions of an audit, or of all with "audits/-", oldest first."""
        if audit != ALL_AUDITS:
            await self.get(audit)
            return await asyncio.to_thread(self._files.decisions, audit)
        found: list[DecisionInfo] = []
        for info in await self.all():
            found += await asyncio.to_thread(self._files.decisions, info.name)
        return sorted(found, key=lambda decision: (decision.created, decision.name))

    async def _create(
        self, kind: str, dataset: str, settings: AuditSettings, record: dict[str, Any], display_name: str, request_id: str
    ) -> OperationInfo:
        """Keep an audit, then the operation that runs it."""
        check_request_id(request_id)
        id = request_id or secrets.token_hex(6)
        name = f"audits/{id}" if kind == AUDIT else f"audits/test-{id}"
        told = {**_told(settings), "families": _families(settings.families)}
        arguments = {"audit": name, "dataset": dataset, "settings": told, "asked": _asked(kind, record)}
        async with self._creating:
            known = self._operations.find(kind, request_id)
            if known is None:
                await self._keep_audit(name, dataset, settings, record, display_name, request_id)
            return await self._operations.submit(kind, target=name, arguments=arguments, request_id=id)

    async def _keep_audit(
        self, name: str, dataset: str, settings: AuditSettings, record: dict[str, Any], display_name: str, request_id: str
    ) -> None:
        try:
            known = await asyncio.to_thread(self._files.read, name)
        except NotFound:
            pass
        else:  # its operation was deleted: the audit stays what it is
            if known.dataset != dataset or known.state is not AuditState.DONE:
                raise reused(request_id)
            return
        info = AuditInfo(
            name=name,
            dataset=dataset,
            display_name=display_name,
            state=AuditState.RUNNING,
            settings=settings,
            subject=SubjectRef.of(self._info),
            created=time.time(),
        )
        await asyncio.to_thread(self._files.write_concepts, name, record)
        await asyncio.to_thread(self._files.write, info)

    async def _require_hypothesis(self, name: str) -> None:
        audit, _, id = name.partition("/hypotheses/")
        heads = await asyncio.to_thread(self._files.heads, audit)
        place = parse_hypothesis_id(id)
        if place is None or place[0] not in heads or place[1] > heads[place[0]].kept:
            raise _no_hypothesis(name)


def _shown(pairs: dict[int, Pair], rows: Ints, values: Floats, strengths: Floats | None) -> tuple[EvidencePair, ...]:
    told = [None] * len(rows) if strengths is None else strengths.tolist()
    each = zip(rows.tolist(), values.tolist(), told, strict=True)
    return tuple(EvidencePair(row, pairs[row], u, strength) for row, u, strength in each)


def _told(settings: AuditSettings) -> dict[str, Any]:
    """Settings as an operation keeps them: an option that older requests could not name is left out at its default."""
    told = asdict(settings)
    for name in ("local", "control_pairs"):
        if told["statistics"][name] == getattr(AuditOptions(), name):
            del told["statistics"][name]
    return told


def _asked(kind: str, record: dict[str, Any]) -> Any:
    """What makes a stated hypothesis another one, beside its settings; the concepts of an audit are those of its first asking."""
    stated = record.get("stated") or {}
    return [stated.get("condition"), stated.get("features")] if kind == TEST else []


def _check_nuisances(settings: AuditSettings, dataset: Dataset) -> None:
    if Nuisance.PROVENANCE in settings.nuisances:
        require_sources(dataset.metadata_keys)


def _families(families: tuple[ConceptFamily, ...]) -> list[str]:
    """What a request's families are told apart by. Two were all there were once, and stand in stored requests for the default."""
    if families == tuple(ConceptFamily):
        return list(SAE_FAMILIES)
    return ["only", *SAE_FAMILIES] if families == SAE_FAMILIES else list(families)


def _check_metadata_keys(asked: Sequence[str], known: Sequence[str]) -> None:
    for index, key in enumerate(asked):
        if key not in known and len(known) < MAX_METADATA_KEYS:
            raise InvalidItem(
                f"No pair has the metadata key {key!r}; the keys are {', '.join(known) or 'none'}.",
                reason="UNKNOWN_METADATA_KEY",
                field=f"options.metadata_keys[{index}]",
                details={"key": key},
            )


def _no_hypothesis(name: str) -> NotFound:
    return NotFound(f"There is no hypothesis {name!r}; `assay audits show --all` lists those of an audit.", field="name")
