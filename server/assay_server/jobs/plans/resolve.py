"""What plans are made from: names of concepts and decisions to targets, and stored datasets to what compiling reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from assay_server.audit.shards import BY_MAX
from assay_server.errors import FailedPrecondition, InvalidItem, NotFound
from assay_server.interventions.apply import pair_digest
from assay_server.interventions.compile import ScoredShard, Specification
from assay_server.interventions.plan_checks import check_specification, check_strength
from assay_server.interventions.targets import Target
from assay_server.interventions.types import Mode
from assay_server.interventions.vectors import unit
from assay_server.jobs.audits.jobs import AuditJobs
from assay_server.jobs.audits.types import ConceptRow, DecisionMode, HypothesisDetail, LabelLookup
from assay_server.jobs.datasets.shards import DatasetShards, ShardGone
from assay_server.jobs.plans.stand_ins import acts_on_nothing, stand_in
from assay_server.jobs.plans.types import DecisionName, InterventionRequest, NamedConcept, PlanRequest
from assay_server.store.clusters import Cluster
from assay_server.store.concepts import ConceptKind, StoredConcept
from assay_server.store.features import DirectionSet
from assay_server.subject.types import SubjectInfo

FindConcept = Callable[[str, str], "int | Cluster | StoredConcept"]
"""Resolves a name, given in a field: a feature's id, a cluster, a stored concept. Raises NotFound."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as a plan needs it: what it is about, and where it was made."""

    target: Target
    mode: Mode
    strength: float
    dataset: str
    note: str = ""  # where something stands in for what it is about


FindDecision = Callable[[str, str], Awaitable[Decided]]
"""A decision by name, and the field it was given in. Raises NotFound; InvalidItem (NOTHING_TO_DO) for KEEP; what is not as it
was when it was audited: SubjectMismatch, FailedPrecondition (CONCEPT_CHANGED, NO_STAND_IN)."""


@dataclass(frozen=True, slots=True)
class ConceptSources:
    """Where plans find concepts.

    Attributes:
        find: by name.
        label: what they are called.
        clusters: those in use, whose side effects are looked for.
        decision: decisions by name.
    """

    find: FindConcept
    label: LabelLookup
    clusters: Callable[[], Sequence[Cluster]]
    decision: FindDecision


async def resolve(request: PlanRequest, sources: ConceptSources) -> tuple[str, tuple[Specification, ...]]:
    """The name of the dataset that a plan is for, and its interventions with their targets looked up.

    Raises:
        InvalidItem: MISSING_MODE, MISSING_DATASET, or as ``check_specification``, with the field's path.
        NotFound, SubjectMismatch, FailedPrecondition: as ``FindConcept`` and ``FindDecision``.
    """
    specifications: list[Specification] = []
    datasets: set[str] = set()
    for at, asked in enumerate(request.interventions):
        specification, dataset = await _resolve(asked, sources, f"interventions[{at}]")
        specifications.append(specification)
        datasets |= {dataset} - {""}
    if request.dataset:
        return request.dataset, tuple(specifications)
    if len(datasets) == 1:
        return datasets.pop(), tuple(specifications)
    found = f"its decisions were made on {len(datasets)} datasets" if datasets else "no intervention names a decision"
    raise InvalidItem(f"dataset is not set, and {found}; name one dataset.", reason="MISSING_DATASET", field="dataset")


async def _resolve(asked: InterventionRequest, sources: ConceptSources, path: str) -> tuple[Specification, str]:
    """An intervention with its target, and the dataset of its decision ("" where it names none)."""
    target, mode, strength, decision, dataset, note = asked.target, asked.mode, asked.strength, "", "", ""
    if isinstance(target, DecisionName):
        decided = await sources.decision(target.name, f"{path}.decision")
        if strength is None:
            strength = check_strength(decided.strength, f"{path}.strength")
        decision, dataset, note = target.name, decided.dataset, decided.note
        mode, target = mode or decided.mode, decided.target
    elif isinstance(target, NamedConcept):
        target = target_of(target.name, sources.find(target.name, f"{path}.{target.field}"), target.label)
    if mode is None:
        raise InvalidItem(
            "mode is not set, and no decision says it; give EXPLAIN_AWAY or AMPLIFY.", reason="MISSING_MODE", field=f"{path}.mode"
        )
    check_specification(asked.family, mode, asked.parameters, target, path)
    strength = 1.0 if strength is None else strength
    return Specification(target, mode, strength, asked.family, asked.parameters, decision, note), dataset


def target_of(name: str, found: int | Cluster | StoredConcept, label: str = "") -> Target:
    """A concept as interventions need it; a cluster's features count alike, and its score is their mean `max`."""
    if isinstance(found, int):
        return Target(name, label, np.array([found], np.int64), np.ones(1))
    if isinstance(found, Cluster):
        features = np.array(found.features, np.int64)
        return Target(name, label or found.label, features, np.full(len(features), 1.0 / len(features)))
    title = label or found.display_name
    if found.kind is ConceptKind.DIRECTION:
        assert found.direction is not None
        threshold = None if found.report is None else found.report.threshold
        return Target(name, title, direction=unit(found.direction), threshold=threshold)
    return Target(name, title, found.features, found.weights.astype(np.float64))


def finder(stored: Callable[[str, str], StoredConcept], clusters: Callable[[], Sequence[Cluster]], d_sae: int) -> FindConcept:
    """How names are looked up among the SAE's features, the clusters in use, and the stored concepts."""

    def find(name: str, field: str) -> int | Cluster | StoredConcept:
        kind, _, id = name.partition("/")
        if kind == "feature" and id.isdigit():
            if int(id) < d_sae:
                return int(id)
            raise NotFound(f"Feature {id} does not exist; the loaded SAE has features 0 to {d_sae - 1}.", field=field)
        if kind == "cluster" and id.isdigit():
            known = clusters()
            if int(id) < len(known):
                return known[int(id)]
            raise NotFound(f"There is no cluster {id}; {len(known)} are in use.", field=field, details={"clusters": len(known)})
        return stored(name, field)

    return find


def decisions_of(audits: AuditJobs, find: FindConcept, look_up: LabelLookup, info: SubjectInfo) -> FindDecision:
    """How decisions are looked up in the audits.

    A decision is about what was audited: its subject must be the loaded one (SubjectMismatch, OTHER_SUBJECT), and a concept that
    was made anew under the same name since is refused (FailedPrecondition, CONCEPT_CHANGED). For what the SAE has nothing of,
    members of its lesson stand in, or it is refused (NO_STAND_IN).
    """

    async def decided(name: str, field: str) -> Decided:
        audit = "/".join(name.split("/")[:2])
        decision = next((one for one in await audits.decisions(audit) if one.name == name), None)
        if decision is None:
            raise NotFound("There is no such decision; `assay decisions` lists them.", field=field)
        if decision.mode is DecisionMode.KEEP:
            raise InvalidItem(
                "This decision keeps the concept as it is, so there is nothing to apply.", reason="NOTHING_TO_DO", field=field
            )
        audited = await audits.get(audit)
        audited.subject.require(info)
        detail = await audits.hypothesis(decision.hypothesis)
        concept, note = detail.hypothesis.concept, ""
        if acts_on_nothing(concept):
            chosen = stand_in(detail.hypothesis, (await audits.result(audit)).hypotheses, field)
            note = chosen.note
            if len(chosen.members) == 1:
                target = audited_target(await audits.hypothesis(chosen.members[0].name), field)
            else:
                target = _target_of_set(concept.name, label_of(concept), chosen.features)
        else:
            target = audited_target(detail, field)
        mode = Mode.EXPLAIN_AWAY if decision.mode is DecisionMode.EXPLAIN_AWAY else Mode.AMPLIFY
        strength = 1.0 if decision.strength is None else decision.strength
        return Decided(target, mode, strength, audited.dataset, note)

    def audited_target(detail: HypothesisDetail, field: str) -> Target:
        concept = detail.hypothesis.concept
        name = concept.name.removesuffix(BY_MAX)  # how a feature was tested does not matter to what is done about it
        if not name.startswith(("feature/", "cluster/", "concepts/")):
            # A cluster that the audit made for itself: its features as it names them.
            return _target_of_set(concept.name, label_of(concept), concept.features)
        target = target_of(name, find(name, field), label_of(concept))
        _require_unchanged(target, detail, field)
        return target

    def label_of(concept: ConceptRow) -> str:
        return concept.label.text or look_up(concept.name, concept.features).text

    return decided


def _target_of_set(name: str, label: str, features: Sequence[int]) -> Target:
    ids = np.unique(np.array(features, np.int64))
    return Target(name, label, ids, np.full(len(ids), 1.0 / max(1, len(ids))))


def _require_unchanged(target: Target, detail: HypothesisDetail, field: str) -> None:
    """Raises FailedPrecondition (CONCEPT_CHANGED) if a concept changed since it was audited."""
    audited, direction = detail.hypothesis.concept, detail.direction
    if target.direction is not None:
        same = direction is not None and np.array_equal(unit(direction.vector), target.direction)
    else:  # audits test sets: weights that differ among features were not audited
        same = set(audited.features) == set(target.features.tolist()) and len(np.unique(target.weights)) == 1
    if not same:
        raise FailedPrecondition(
            f"{audited.name} was made anew since it was audited: it had {audited.size} features then and has "
            f"{len(target.features)} now, or others. Audit again, or give the concept itself.",
            reason="CONCEPT_CHANGED",
            field=field,
            details={"concept": audited.name, "audited": audited.size, "found": len(target.features)},
        )


@dataclass(frozen=True, eq=False)
class PlanShards:
    """A dataset as compiling reads it: features, digests, and scores along the plan's directions.

    ``digests`` False leaves them out ([] each): then no pair is read.
    """

    shards: DatasetShards
    digests: bool = True

    def __call__(self) -> Iterator[ScoredShard]:
        """The shards in order. Raises ShardGone, DataLoss."""
        source, dataset, directions = self.shards, self.shards.dataset, self.shards.spec.directions
        for index, shard in enumerate(source):
            entry = dataset.shards[index]
            keep = shard.rows - entry.start
            digests: list[bytes] = []
            if self.digests:
                pairs = source.datasets.read(dataset, index)
                digests = [pair_digest(pairs[place]) for place in keep.tolist()]
            empty = np.zeros((len(keep), 0), np.float32)
            along = (empty, empty)
            if len(directions.vectors):
                stored = source.features.read_directions(directions, index, entry)
                if stored is None:
                    raise ShardGone(f"Shard {index} of the directions is missing or damaged; it has to be scored again.")
                along = (stored[0][keep], stored[1][keep])
            yield ScoredShard(shard, digests, along)


def direction_set(targets: Sequence[Target]) -> DirectionSet:
    """The targets' directions, in their order."""
    vectors = [target.direction.astype(np.float32) for target in targets if target.direction is not None]
    return DirectionSet(np.stack(vectors) if vectors else np.zeros((0, 0), np.float32))
