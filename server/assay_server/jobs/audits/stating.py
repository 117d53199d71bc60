"""A stated hypothesis, resolved: its concept, and where it should hold, as they stand when it is asked (METHOD.md §3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from assay_server.audit.matrices import Ints
from assay_server.audit.shards import BY_MAX
from assay_server.errors import AssayError, FailedPrecondition, InvalidItem, NotFound
from assay_server.jobs.audits.concepts import ConceptColumns, concept_set
from assay_server.jobs.audits.conditions import metadata_name, rows_with_metadata
from assay_server.jobs.audits.files import AuditFiles
from assay_server.jobs.audits.snapshots import Snapshot, snapshot_of, to_record
from assay_server.jobs.audits.texts import check_text_concept, is_text_concept
from assay_server.jobs.audits.types import AuditCondition, AuditInfo, MetadataValue, PromptConcept, StatedCondition
from assay_server.store.clusters import StoredClusters
from assay_server.store.concepts import StoredConcept
from assay_server.store.datasets import Dataset, Datasets
from assay_server.subject.types import SubjectInfo


class Stating:
    """Resolves stated hypotheses. Blocks: call it in a thread.

    Args:
        audits: whose conditions may be named.
        datasets: whose metadata may be.
        concept: a stored concept by name.
        clusters: the feature clusters in use.
    """

    def __init__(
        self,
        audits: AuditFiles,
        datasets: Datasets,
        concept: Callable[[str], StoredConcept],
        clusters: Callable[[], StoredClusters | None],
    ) -> None:
        self._audits = audits
        self._datasets = datasets
        self._concept = concept
        self._clusters = clusters

    def record(self, dataset: Dataset, concept: str, condition: StatedCondition | None, info: SubjectInfo) -> dict[str, Any]:
        """What ``AuditFiles.write_concepts`` keeps: the concept's snapshot, and under "stated" its condition.

        Raises:
            NotFound, InvalidItem, FailedPrecondition, SubjectMismatch: the concept or the condition cannot be used.
        """
        text = check_text_concept(concept, "concept") if is_text_concept(concept) else ""
        snapshot = snapshot_of(concept_set(info.d_sae) if text else self._column(concept.removesuffix(BY_MAX), info, "concept"))
        if concept.endswith(BY_MAX) and not text:
            snapshot = _by_max(snapshot)
        record = to_record(snapshot)
        name, rows, features = "", None, list[int]()
        if isinstance(condition, PromptConcept):
            name, features = condition.concept, self._prompt_features(condition.concept, info)
        elif isinstance(condition, MetadataValue):
            name = metadata_name(condition.key, condition.value)
            rows = self._metadata_rows(dataset, condition)
        elif isinstance(condition, AuditCondition):
            name, rows, features = self._audit_rows(dataset, condition.name, info)
        record["stated"] = {
            "text": text,
            "condition": name,
            "features": features,
            "rows": None if rows is None else rows.tolist(),
        }
        return record

    def _column(self, name: str, info: SubjectInfo, field: str) -> ConceptColumns:
        kind, _, id = name.partition("/")
        if kind == "concepts":
            return concept_set(info.d_sae, stored=[self._concept(name)])
        number = int(id) if id.isascii() and id.isdigit() else -1
        if kind == "feature" and 0 <= number < info.d_sae:
            return concept_set(info.d_sae, firing=[number])
        clusters = self._clusters()
        if kind == "cluster" and clusters is not None and 0 <= number < len(clusters):
            return concept_set(info.d_sae, clusters=[clusters.clusters[number]])
        last = f" or cluster/0 to cluster/{len(clusters) - 1}" if clusters else "; no clusters are computed"
        raise NotFound(
            f"There is no concept {name!r}: give concepts/ID, text/ID, word/PHRASE, feature/0 to feature/{info.d_sae - 1} (with "
            f"{BY_MAX}, present by its largest activation){last}.",
            field=field,
        )

    def _prompt_features(self, name: str, info: SubjectInfo) -> list[int]:
        snapshot = snapshot_of(self._column(name, info, "prompt_concept"))
        if not snapshot.sets:
            raise InvalidItem(
                f"{name} is a direction, and prompts are not scored along directions. Name features, a cluster, or a concept "
                "made of them.",
                reason="NOT_FEATURES",
                field="prompt_concept",
                details={"concept": name},
            )
        return list(snapshot.sets[0][1])

    def _metadata_rows(self, dataset: Dataset, condition: MetadataValue) -> Ints:
        rows = rows_with_metadata(self._datasets, dataset, condition.key, condition.value)
        if not len(rows):
            raise InvalidItem(
                f"No pair's metadata has this value under {condition.key!r}.",
                reason="EMPTY_CONDITION",
                field="metadata",
                details={"key": condition.key},
            )
        return rows

    def _audit_rows(self, dataset: Dataset, name: str, info: SubjectInfo) -> tuple[str, Ints, list[int]]:
        audit_name, _, condition = name.partition("/conditions/")
        try:
            audit = self._audits.read(audit_name)
            tables = self._audits.tables(audit_name)
        except (NotFound, FailedPrecondition) as error:
            raise _again(error, "audit_condition") from error
        if audit.dataset != f"datasets/{dataset.id}":
            raise InvalidItem(
                f"{audit_name} audits {audit.dataset}, and this is datasets/{dataset.id}.",
                reason="OTHER_DATASET",
                field="audit_condition",
            )
        audit.subject.require(info)
        for table in tables.values():
            for place, one in enumerate(table.conditions):
                if one.name == condition:
                    rows = table.members[place] if place < len(table.members) else self._named_rows(dataset, audit, condition)
                    return condition, rows, [int(feature) for feature in one.features]
        raise NotFound(f"{audit_name} has no condition {condition!r}.", field="audit_condition")

    def _named_rows(self, dataset: Dataset, audit: AuditInfo, name: str) -> Ints:
        """The rows of a condition that the audit did not make but was given."""
        for key in audit.settings.metadata_keys:
            prefix = metadata_name(key, "")
            if name.startswith(prefix):
                rows = rows_with_metadata(self._datasets, dataset, key, name.removeprefix(prefix))
                if len(rows):
                    return rows
        return np.zeros(0, np.int64)


def _by_max(snapshot: Snapshot) -> Snapshot:
    """The feature as "feature/17@max"; its threshold is learned when it is tested. Raises InvalidItem for what is no feature."""
    (name,) = (*(name for name, _ in snapshot.sets), *snapshot.directions)
    if not name.startswith("feature/"):
        raise InvalidItem(
            f"{name}{BY_MAX} cannot be stated: a largest activation is one feature's. Give feature/ID{BY_MAX}, or {name}.",
            reason="NOT_A_FEATURE",
            field="concept",
        )
    return replace(snapshot, sets=((name + BY_MAX, snapshot.sets[0][1]),))


def _again(error: AssayError, field: str) -> AssayError:
    return type(error)(error.message, reason=error.reason, field=field, details=error.details)
