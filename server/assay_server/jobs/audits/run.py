"""Runs one audit: score missing shards, test, write. The handler of the "audit" and "test" operations.

It may restart at any moment: stored shards are not scored again, and what was not written is computed again, to the same bits,
from the same files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind, resolved
from assay_server.audit.length import length_lesson
from assay_server.audit.local import by_max
from assay_server.audit.passes import Survey, survey
from assay_server.audit.run import run_views, test_stated
from assay_server.audit.shards import ConceptSet
from assay_server.audit.watch import Watch
from assay_server.audit.words import LogOdds
from assay_server.errors import AssayError, Cancelled, DataLoss, EngineFailure, FailedPrecondition
from assay_server.jobs.audits.conditions import MetadataGroups, RowGroup, metadata_groups
from assay_server.jobs.audits.dataset_names import dataset_names
from assay_server.jobs.audits.explaining import explain
from assay_server.jobs.audits.files import AuditFiles
from assay_server.jobs.audits.nuisances import descriptor_differences, format_differences, nuisance_columns
from assay_server.jobs.audits.snapshots import Snapshot, from_record
from assay_server.jobs.audits.sources import SourceColumns, source_columns
from assay_server.jobs.audits.tables import fingerprint, hypothesis_id, summary_of
from assay_server.jobs.audits.texts import AuditTexts, TextColumns, with_odds
from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditSettings,
    AuditState,
    ConceptFamily,
    Cost,
    LengthSummary,
    NamedText,
    NuisanceSummary,
)
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.scoring import total_cost
from assay_server.jobs.datasets.shards import (
    DatasetShards,
    Groups,
    JoinedColumns,
    NoColumns,
    NoGroups,
    NuisanceColumns,
    OtherColumns,
    ShardGone,
    ShardSpec,
)
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.telemetry import NoTelemetry, Telemetry
from assay_server.store.controls import ControlShard
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import Features, ShardCost
from assay_server.store.texts import Texts
from assay_server.subject.types import SpanName, SubjectInfo

_ATTEMPTS = 3
_PHASES = {"evidence": "evidence", "grouping": "grouping", "condition": "grouping"}


class AuditRunner:
    """Runs audits over the datasets of one data directory. Confined to one event loop.

    Args:
        audits: where audits are stored.
        store: the stored datasets.
        datasets: finds and scores them.
        info: the loaded subject.
        telemetry: counts finished audits.
    """

    def __init__(
        self,
        audits: AuditFiles,
        store: Datasets,
        datasets: DatasetReader,
        info: SubjectInfo,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._audits = audits
        self._store = store
        self._datasets = datasets
        self._info = info
        self._telemetry = telemetry or NoTelemetry()

    async def run(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler of "audit" and "test". Returns the audit's name, or that of the one hypothesis."""
        name = str(arguments["audit"])
        info = await asyncio.to_thread(self._audits.read, name)
        if info.state is not AuditState.DONE:
            await self._run(info, progress)
        return f"{name}/hypotheses/{hypothesis_id(ViewKind.STATED, 1)}" if is_stated(info) else name

    async def failed(self, arguments: Mapping[str, Any], error: AssayError) -> None:
        """Mark the audit as failed or cancelled after its operation ended so; one that is done stays done."""
        info = await asyncio.to_thread(self._audits.read, str(arguments["audit"]))
        if info.state is AuditState.DONE:
            return
        state = AuditState.CANCELLED if isinstance(error, Cancelled) else AuditState.FAILED
        await asyncio.to_thread(self._audits.write, replace(info, state=state, ended=time.time(), error=error.message))

    async def _run(self, info: AuditInfo, progress: Progress) -> None:
        info.subject.require(self._info)
        dataset = await self._datasets.find(info.dataset, "dataset")
        asked = await asyncio.to_thread(self._audits.read_concepts, info.name)
        snapshot = from_record(asked)
        apart: list[ShardCost] = []
        for _ in range(_ATTEMPTS):
            scored: list[int] = []

            async def told(missing: Sequence[int], scored: list[int] = scored) -> None:
                scored += await asyncio.to_thread(self._audits.scored_shards, info.name, missing)

            features, cost = await self._datasets.score(dataset, snapshot.vectors, progress, told)
            apart.append(cost)
            texts = partial(self._datasets.texts, dataset, progress)
            testing = _Testing(info.settings, self._store, dataset, features, texts, snapshot, self._info.d_sae, progress)
            try:
                testing.controls = await self._controls(info.settings.statistics, dataset, features, progress, apart)
                began = time.monotonic()
                found, tables, called = await progress.in_thread(lambda testing=testing: testing.run(asked.get("stated")))
                total = await asyncio.to_thread(_cost, dataset, features, scored, apart)
            except ShardGone:
                continue
            progress.enter("writing")
            total = replace(total, testing_seconds=time.monotonic() - began, device=self._info.device)
            done = replace(info, state=AuditState.DONE, cost=total, ended=time.time(), **found)
            await asyncio.to_thread(self._audits.finish, done, tables, called)
            self._telemetry.audited(dataset.pairs, total.testing_seconds)
            return
        raise EngineFailure(
            f"Feature shards were damaged {_ATTEMPTS} times while they were read: the data directory's disk is not sound.",
            reason="STORE_UNSOUND",
        )

    async def _controls(
        self, options: AuditOptions, dataset: Dataset, features: Features, progress: Progress, apart: list[ShardCost]
    ) -> list[ControlShard]:
        if not options.control_pairs:
            return []
        most, seed = options.control_pairs, options.seed
        controls, cost = await self._datasets.controls(dataset, features, most, seed, progress)
        apart.append(cost)
        return controls


def is_stated(info: AuditInfo) -> bool:
    """Whether an audit tests one stated hypothesis."""
    return info.settings.statistics.views == (ViewKind.STATED,)


class _Testing:
    """The statistics of one audit. Blocks: call it in a thread."""

    def __init__(
        self,
        settings: AuditSettings,
        datasets: Datasets,
        dataset: Dataset,
        features: Features,
        texts: Callable[[], Texts],
        snapshot: Snapshot,
        d_sae: int,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._datasets = datasets
        self._dataset = dataset
        self._features = features
        self._texts = texts
        self._snapshot = snapshot
        self._d_sae = d_sae
        self._progress = progress
        self.controls: Sequence[ControlShard] = ()  # what the SAE is held against, where it was asked for
        self._nuisances: tuple[NuisanceColumns, ...] = ()
        self._watch = Watch(self._report, progress.check)

    def run(self, stated: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[ViewKind, TestTable], dict[str, NamedText]]:
        """The ``AuditInfo`` fields that the tests give, the tables, and what the dataset calls what was found."""
        read = self._read_texts(stated)
        self._nuisances = nuisance_columns(self._settings.nuisances, lambda: self._audit_texts, lambda: self._sources)
        self._progress.enter("testing")
        groups = self._groups(stated)
        others = JoinedColumns(() if read is None else (read[1],))
        if stated is None:
            others = JoinedColumns((self._sources.frequent(self._settings.statistics.min_inside), *others.parts))
        shards = self._shards(groups, others)
        known = survey(shards, self._report, tau=self._settings.statistics.tau)
        statistics = resolved(self._settings.statistics, shards.pairs)
        if stated is None:
            given = groups.conditions if isinstance(groups, MetadataGroups) else ()
            firing = self._firing(shards) if ConceptFamily.FEATURES in self._settings.families else []
            concepts = self._snapshot.columns(firing, self._d_sae)
            odds = None if read is None else self._odds(*read)
            concepts = self._with_others(concepts, others, odds)
            tables = run_views(shards, concepts, statistics, given=given, watch=self._watch, known=known)
            if odds is not None and ViewKind.GLOBAL in tables:
                tables[ViewKind.GLOBAL] = with_odds(tables[ViewKind.GLOBAL], odds)
            style = format_differences(self._audit_texts)[known.rows]
            describe = partial(descriptor_differences, self._audit_texts)
            share = explain(shards, known, statistics, style, descriptors=describe, controls=self.controls, watch=self._watch)
        else:
            concepts = by_max(self._with_others(self._snapshot.columns([], self._d_sae), others, None), known)
            tables, share = {ViewKind.STATED: self._stated(stated, shards, concepts, statistics, known)}, None
        found = {
            "settings": replace(self._settings, statistics=statistics),
            "views": tuple(summary_of(table, statistics.keep) for table in tables.values()),
            "nuisance": self._nuisance(known),
            "length": _length(known, statistics),
            "explained": share,
            "result_fingerprint": fingerprint(tables),
        }
        if read is None or stated is not None:
            return found, tables, {}
        called = dataset_names(
            tables,
            shards,
            read[0],
            self._datasets,
            self._dataset,
            tau=statistics.tau,
            keep=statistics.keep,
            check=self._progress.check,
        )
        return found, tables, called

    def _read_texts(self, stated: Mapping[str, Any] | None) -> tuple[AuditTexts, TextColumns] | None:
        families = self._settings.families
        if stated is not None:
            if not stated.get("text"):
                return None
            return self._audit_texts, self._audit_texts.column(stated["text"])
        texts = self._audit_texts  # needed in any case, for what style explains
        if not {ConceptFamily.DESCRIPTORS, ConceptFamily.WORDS} & set(families):
            return None
        descriptors, words = (one in families for one in (ConceptFamily.DESCRIPTORS, ConceptFamily.WORDS))
        return texts, texts.columns(descriptors=descriptors, with_words=words)

    @cached_property
    def _audit_texts(self) -> AuditTexts:
        return AuditTexts(self._texts(), self._dataset, self._progress.check)

    @cached_property
    def _sources(self) -> SourceColumns:
        return source_columns(self._datasets, self._dataset, check=self._progress.check)

    def _odds(self, texts: AuditTexts, columns: TextColumns) -> LogOdds | None:
        if not len(columns.vocabulary.ids):
            return None
        prompts, usable = np.zeros(self._dataset.pairs, np.int64), np.zeros(self._dataset.pairs, np.bool_)
        for shard in self._shards(NoGroups(), NoColumns()).feature_shards():
            prompts[shard.rows], usable[shard.rows] = shard.prompts, shard.usable
        return texts.odds(columns.vocabulary, prompts, usable)

    def _with_others(self, concepts: ConceptSet, columns: OtherColumns, odds: LogOdds | None) -> ConceptSet:
        """The concepts with sources, descriptors and words behind them; a word passes two tests."""
        names = (*concepts.names, *columns.names)
        if odds is None:
            return replace(concepts, names=names)
        return replace(concepts, names=names, second_p=np.concatenate([np.zeros(len(names) - len(odds.p)), odds.p]))

    def _groups(self, stated: Mapping[str, Any] | None) -> Groups:
        if stated is None:
            least = self._settings.statistics.min_inside
            keys = self._settings.metadata_keys
            return metadata_groups(self._datasets, self._dataset, keys, least, check=self._progress.check)
        return NoGroups() if stated["rows"] is None else RowGroup(np.array(stated["rows"], np.int64))

    def _stated(
        self, stated: Mapping[str, Any], shards: DatasetShards, concepts: ConceptSet, statistics: AuditOptions, known: Survey
    ) -> TestTable:
        condition = Condition(stated["condition"], tuple(stated["features"])) if stated["condition"] else None
        everywhere = condition is None
        inside = None if everywhere else stated["features"] if stated["rows"] is None else 0
        table = test_stated(shards, concepts, statistics, inside=inside, condition=condition, watch=self._watch, known=known)
        if not len(table.concept):
            raise FailedPrecondition(f"The hypothesis cannot be tested: {table.reason}.", reason="NOTHING_TO_TEST")
        return table

    def _shards(self, groups: Groups, others: OtherColumns) -> DatasetShards:
        unusable = 0
        for shard in range(len(self._dataset.shards)):
            self._progress.check()
            try:
                unusable += self._features.cost(shard)[1]
            except (FileNotFoundError, DataLoss) as error:
                raise ShardGone("A shard of features is gone.", details={"shard": shard}) from error
        spec = ShardSpec(self._nuisances, self._snapshot.vectors, self._snapshot.thresholds, groups, others)
        pairs = self._dataset.pairs - unusable
        return DatasetShards(self._datasets, self._dataset, self._features, self._d_sae, pairs, spec, self._progress.check)

    def _firing(self, shards: DatasetShards) -> list[int]:
        """Features that fire in some response."""
        fires = np.zeros(self._d_sae, np.bool_)
        for shard in shards.feature_shards():
            for side in (SpanName.CHOSEN, SpanName.REJECTED):
                fires[shard.spans[side].features] = True
        return np.flatnonzero(fires).tolist()

    def _nuisance(self, known: Survey) -> NuisanceSummary:
        names = tuple(name for one in self._nuisances for name in one.names)
        if known.fit is None:
            return NuisanceSummary(names, reason="" if not names else "there are no pairs to fit it on")
        return NuisanceSummary(names, tuple(known.fit.gamma.tolist()), known.nuisance_accuracy, known.fit.reason.text)

    def _report(self, phase: str, done: int, total: int) -> None:
        known = _PHASES.get(phase) or ("grouping" if phase.startswith("prompt ") else "testing")
        self._progress.at(known, done, total)


def _length(known: Survey, options: AuditOptions) -> LengthSummary:
    lesson = length_lesson(
        known.tokens, known.prompts, fit=known.fit, nuisance=known.nuisance, level=options.interval_level, seed=options.seed
    )
    return LengthSummary(
        pairs=lesson.pairs,
        direction=lesson.direction,
        ratio=lesson.ratio.value,
        ratio_low=lesson.ratio.low,
        ratio_high=lesson.ratio.high,
        longer=lesson.longer,
        shorter=lesson.shorter,
        accuracy=lesson.accuracy,
        auc=lesson.auc.value,
        auc_low=lesson.auc.low,
        auc_high=lesson.auc.high,
        p=lesson.p,
        information_left=lesson.information_left,
        reason=lesson.reason.text,
    )


def _cost(dataset: Dataset, features: Features, scored: Sequence[int], apart: Sequence[ShardCost]) -> Cost:
    """The cost of scoring, restarts included. Raises ShardGone."""
    try:
        stored = [features.cost(shard)[0] for shard in scored]
    except (FileNotFoundError, DataLoss) as error:
        raise ShardGone("A shard of features is gone.") from error
    total = total_cost([*stored, *apart])
    return Cost(
        tokens_read=total.tokens_read,
        tokens_shared=total.tokens_shared,
        cache_hits=total.cache_hits,
        pairs_scored=sum(dataset.shards[shard].pairs for shard in scored),
        scoring_seconds=total.seconds,
    )
