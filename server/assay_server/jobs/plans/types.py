"""Requests for plans, and limits on them. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from assay_server.interventions.targets import Target
from assay_server.interventions.types import Family, Mode, Parameters, Placement

DEFAULT_ROWS, MAX_ROWS = 64, 1024


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What plans may cost.

    Attributes:
        max_interventions: per plan.
        max_scores: interventions of one plan times pairs of its dataset; making one takes about 60 bytes for each.
        max_ranking_rows: pairs that prompts are ranked on.
        held_rows: rows of compiled plans in memory, about 150 bytes each and 17 for each intervention; the plan that was used
            last stays, however large.
    """

    max_interventions: int = 64
    max_scores: int = 50_000_000
    max_ranking_rows: int = MAX_ROWS
    held_rows: int = 8_000_000


@dataclass(frozen=True, slots=True)
class DecisionName:
    """An intervention's target by the name of a decision, which also gives the mode, the strength and the dataset."""

    name: str


@dataclass(frozen=True, slots=True)
class NamedConcept:
    """An intervention's target by name: "feature/17", "cluster/3" or "concepts/x".

    Attributes:
        name: the concept's.
        label: for people; "" for the concept's own.
        field: where its intervention gave the name.
    """

    name: str
    label: str = ""
    field: str = "concept"


@dataclass(frozen=True, slots=True)
class InterventionRequest:
    """A requested intervention; without ``mode`` and ``strength``, its decision's, or strength 1."""

    target: DecisionName | NamedConcept | Target
    family: Family = Family.REWARD_SHAPING
    mode: Mode | None = None
    strength: float | None = None
    parameters: Parameters = field(default_factory=Parameters)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A request for a plan; see ``assay.v1.CreatePlanRequest``. Without ``dataset``, the one that its decisions were made on."""

    dataset: str
    interventions: tuple[InterventionRequest, ...]
    plan_id: str = ""
    display_name: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class RankingRequest:
    """A request for a ranking; see ``assay.v1.RankInoculationPromptsRequest``."""

    dataset: str
    concept: str
    prompts: tuple[str, ...] = ()
    description: str = ""
    rows: int = DEFAULT_ROWS
    placement: Placement = Placement.AUTO
    request_id: str = ""
