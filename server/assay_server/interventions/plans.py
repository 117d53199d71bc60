"""Plans: compiled interventions, bound to the model, tokenizer and dataset that they were compiled for.

Invariant: a plan's ``fingerprint`` covers everything that decides what is applied, and nothing else: equal plans apply equally.
``plan_checks`` refuses a plan where it does not belong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.errors import NotFound
from assay_server.interventions.dose import DoseResponse
from assay_server.interventions.targets import Target
from assay_server.interventions.types import Family, Mode, Parameters
from assay_server.interventions.zscore import ZScore
from assay_server.store.records import read_record
from assay_server.subject.identity import SubjectRef

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class WarningCode(StrEnum):
    """Kinds of warnings; see ``assay.v1.PlanWarning.Code``."""

    TOO_FEW_ROWS = "too_few_rows"
    NO_VARIATION = "no_variation"
    OUTSIDE_PUBLISHED_RANGE = "outside_published_range"
    CANNOT_AMPLIFY = "cannot_amplify"
    MOVES_ALONG = "moves_along"
    SATURATED = "saturated"
    NO_USEFUL_RANGE = "no_useful_range"
    AGAINST_THE_DATA = "against_the_data"
    STAND_IN = "stand_in"


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """A reason to think twice: for programs, and for people."""

    code: WarningCode
    text: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What an intervention should do; see ``assay.v1.ExpectedEffect``."""

    telling_pairs: int
    shift_before: float
    shift_after: float | None = None
    mean_offset: float | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class ConceptName:
    """A concept in a plan, for people and programs; see ``assay.v1.ConceptRef``."""

    name: str
    label: str
    features: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class SideEffect:
    """Another concept that moves along; see ``assay.v1.SideEffect``."""

    concept: ConceptName
    correlation: float
    shift_before: float
    shift_after: float | None


@dataclass(frozen=True, slots=True)
class Intervention:
    """One compiled intervention; see ``assay.v1.Intervention``. ``id`` counts from 1 within its plan."""

    id: int
    concept: ConceptName
    concept_digest: str
    mode: Mode
    strength: float
    family: Family
    parameters: Parameters
    decision: str
    z: ZScore
    expected: Expected
    side_effects: tuple[SideEffect, ...] = ()
    warnings: tuple[PlanWarning, ...] = ()
    dose_response: DoseResponse | None = None

    @property
    def coefficient(self) -> float:
        """What the unit direction is multiplied with, sign included: STEERING adds m, STEERING_VECTOR ± strength · α."""
        size = self.parameters.coefficient or 0.0
        return size if self.family is Family.STEERING else self.mode.sign * self.strength * size


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan; see ``assay.v1.Plan``."""

    name: str
    display_name: str
    created: float
    dataset: str
    dataset_fingerprint: str
    subject: SubjectRef  # that it was compiled with
    hook_module: str
    whole_model_fingerprint: str
    interventions: tuple[Intervention, ...]
    pairs: int
    unusable_pairs: int

    @property
    def id(self) -> str:
        """The last part of its name."""
        return self.name.removeprefix("plans/")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what decides what is applied."""
        applied = [
            {
                "concept": one.concept_digest,
                "mode": one.mode,
                "strength": one.strength,
                "family": one.family,
                "parameters": asdict(one.parameters),
                "z": asdict(one.z),
            }
            for one in self.interventions
        ]
        binding = {key: value for key, value in _binding(self).items() if not key.endswith("_id")}
        body = ["assay-plan-1", self.dataset_fingerprint, self.whole_model_fingerprint, binding, applied]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def of_families(self, families: frozenset[Family]) -> tuple[Intervention, ...]:
        """Its interventions of some families, in order."""
        return tuple(one for one in self.interventions if one.family in families)

    def intervention(self, id: int) -> Intervention:
        """One of them. Raises NotFound."""
        if not 1 <= id <= len(self.interventions):
            raise NotFound(
                f"{self.name} has interventions 1 to {len(self.interventions)}, and {id} is asked for.",
                field="name",
                details={"interventions": len(self.interventions)},
            )
        return self.interventions[id - 1]

    def with_curve(self, id: int, curve: DoseResponse) -> Plan:
        """The plan with a curve that was measured later; what is applied stays."""
        changed = replace(self.intervention(id), dose_response=curve)
        return replace(self, interventions=(*self.interventions[: id - 1], changed, *self.interventions[id:]))


@dataclass(frozen=True, eq=False)
class PlanRows:
    """What a plan knows of each usable pair of its dataset; arrays are [pairs], lists one entry an intervention."""

    rows: Ints  # in the dataset, ascending
    digests: tuple[bytes, ...]  # of prompt and responses, 16 bytes each: how a pair is found again
    chosen: tuple[Floats, ...]  # s+
    rejected: tuple[Floats, ...]  # s-
    picked: tuple[NDArray[np.bool_], ...]  # taken by a family that picks rows


@dataclass(frozen=True, eq=False)
class PlanTensors:
    """What a trainer's model needs, by intervention id, float32."""

    directions: Mapping[int, NDArray[np.float32]] = field(default_factory=dict[int, NDArray[np.float32]])  # [d_in]
    bases: Mapping[int, NDArray[np.float32]] = field(default_factory=dict[int, NDArray[np.float32]])  # [d_in, k]
    means: Mapping[int, NDArray[np.float32]] = field(default_factory=dict[int, NDArray[np.float32]])  # [d_in]
    decoders: Mapping[int, NDArray[np.float32]] = field(default_factory=dict[int, NDArray[np.float32]])  # [features, d_in]
    clamps: Mapping[int, NDArray[np.float32]] = field(default_factory=dict[int, NDArray[np.float32]])  # [features]


@dataclass(frozen=True, eq=False)
class CompiledPlan:
    """A plan with everything that applying it needs."""

    plan: Plan
    targets: tuple[Target, ...]  # one an intervention
    rows: PlanRows
    tensors: PlanTensors


def plan_record(plan: Plan) -> dict[str, Any]:
    """The plan as JSON."""
    record = asdict(plan)
    del record["subject"], record["hook_module"]
    return {**record, "binding": _binding(plan)}


def read_plan(record: Mapping[str, Any]) -> Plan:
    """The inverse of ``plan_record``. Raises KeyError, TypeError or ValueError for what it is not."""
    values, subject = dict(record), dict(record["binding"])
    del values["binding"]
    return read_record(Plan, {**values, "hook_module": subject.pop("hook_module"), "subject": subject})


def _binding(plan: Plan) -> dict[str, str]:
    return {**asdict(plan.subject), "hook_module": plan.hook_module}
