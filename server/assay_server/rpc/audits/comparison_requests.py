"""Requests of CompareRollouts in: names, bounds and margins, checked; what is not set becomes the default of the comparison."""

import math
from collections.abc import Mapping
from typing import Any

from assay.v1 import audit_service_pb2, comparison_pb2

from assay_server.audit.comparison.control import FEWEST
from assay_server.audit.comparison.run import Options
from assay_server.errors import InvalidItem
from assay_server.jobs.comparisons.types import ComparisonRequest
from assay_server.rpc.audits.options import FAMILIES
from assay_server.rpc.fields import MAX_COUNT, SHARE, Range, check_many, choose_each, unique, within
from assay_server.rpc.names import dataset_name, short_text, stored_concept_name
from assay_server.rpc.plans.service import plan_name
from assay_server.rpc.specs import Bounds

MAX_MARGINS = 100_000
MAX_MARGIN = 1e9  # squares of it add up without overflow
_RANGES: Mapping[str, Range] = {
    "tau": Range(0.0, 1.0, open_high=True),
    "interval_level": SHARE,
    "min_telling": Range(1, MAX_COUNT),
    "draws": Range(100, 10_000),
    "keep": Range(1, 5_000),
}


def read_comparison(request: audit_service_pb2.CompareRolloutsRequest, bounds: Bounds) -> ComparisonRequest:
    """What is asked. Raises InvalidItem with the field's path."""
    numbers: dict[str, Any] = {
        name: within(name, getattr(request, name), span, "") for name, span in _RANGES.items() if request.HasField(name)
    }
    check_many(len(request.concepts), bounds.limits.max_concepts, "max_concepts", "concepts", "concepts")
    concepts = [stored_concept_name(name, f"concepts[{place}]") for place, name in enumerate(request.concepts)]
    asked: dict[str, Any] = {"families": families} if (families := choose_each(FAMILIES, request.families, "families")) else {}
    if request.HasField("margins"):
        asked |= {"margins": _margins(request.margins), "margins_of": short_text(request.margins.of, "margins.of")}
    return ComparisonRequest(
        dataset=dataset_name(request.dataset, "dataset"),
        rollouts=dataset_name(request.rollouts, "rollouts"),
        noise=dataset_name(request.noise, "noise"),
        plan=plan_name(request.plan, "plan") if request.plan else "",
        concepts=unique(concepts, "concepts"),
        options=Options(seed=request.seed, **numbers),
        **asked,
    )


def _margins(message: comparison_pb2.PolicyMargins) -> tuple[float, ...]:
    margins = tuple(message.margins)
    if not FEWEST <= len(margins) <= MAX_MARGINS:
        raise InvalidItem(
            f"{len(margins)} margins were sent; send {FEWEST} to {MAX_MARGINS}, one a pair, or leave margins out.",
            reason="OUT_OF_RANGE",
            field="margins.margins",
            details={"margins": len(margins), "min_margins": FEWEST, "max_margins": MAX_MARGINS},
        )
    for place, margin in enumerate(margins):
        if not (math.isfinite(margin) and abs(margin) <= MAX_MARGIN):
            raise InvalidItem(
                f"Margin {place} is {margin}; give finite numbers of at most {MAX_MARGIN:g} in size.",
                reason="OUT_OF_RANGE",
                field=f"margins.margins[{place}]",
                details={"margin": margin, "max_margin": MAX_MARGIN},
            )
    return margins
