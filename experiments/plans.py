"""From a plan on the server to what a training takes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import assay
from assay import InterventionFamily as Family

from experiments.training import Change, Recipe

NEEDS_PASSES = (Family.STEERING, Family.INOCULATION)
EDITS = (Family.STEERING_VECTOR, Family.ABLATION, Family.SAE_CLAMP)


def change_of(
    client: assay.Client,
    dataset: assay.Dataset | str,
    interventions: Sequence[assay.Intervene],
    pairs: Sequence[assay.Pair],
    recipe: Recipe,
    *,
    sae: Any = None,
) -> tuple[Change, dict[str, Any]]:
    """Make a plan and take all that it gives a training; beside it, what the plan says of itself, as JSON."""
    plan = client.create_plan(dataset, interventions).wait()
    return taken(client, plan, pairs, recipe, sae=sae), described(plan)


def taken(client: assay.Client, plan: assay.Plan, pairs: Sequence[assay.Pair], recipe: Recipe, *, sae: Any = None) -> Change:
    """What a training takes of a plan. Offsets come with the data plan, or over the stream where they need forward passes."""
    families = [one.family for one in plan.interventions]
    offsets = None
    if any(family in NEEDS_PASSES for family in families):
        offsets = list(client.offsets(plan, pairs, beta=recipe.beta, dataset_pairs_only=True))
    edits = tuple(client.intervention(one.name) for one in plan.interventions if one.family in EDITS)
    return Change(client.data_plan(plan).load(), offsets, edits, sae)


def described(plan: assay.Plan) -> dict[str, Any]:
    """A plan's expectations and warnings, as JSON."""
    return {
        "pairs": plan.pairs,
        "interventions": [
            {
                "concept": one.concept.name,
                "label": one.concept.label,
                "family": one.family.value,
                "mode": one.mode.value,
                "strength": one.strength,
                "coefficient": one.parameters.coefficient,
                "threshold": one.parameters.threshold,
                "share": one.parameters.share,
                "telling_pairs": one.expected.telling_pairs,
                "shift_before": one.expected.shift_before,
                "shift_after": one.expected.shift_after,
                "mean_offset": one.expected.mean_offset,
                "rows": one.expected.rows,
                "warnings": [{"code": warning.code, "text": warning.text} for warning in one.warnings],
            }
            for one in plan.interventions
        ],
    }
