"""The audit as the experiments run it: the service's own statistics over features in memory."""

from __future__ import annotations

from typing import Any

from assay_server.audit.findings import AuditOptions, Effects, TestTable, ViewKind
from assay_server.audit.run import run_views
from assay_server.audit.shards import ConceptSet

from benchmarks.validity.data import Features, Shards

# Every test is kept, and neither evidence nor the family-wise correction is needed.
_PLAIN: dict[str, Any] = {"keep": 1_000_000_000, "evidence": 0, "max_t_flips": 0}


def audit(features: Features, concepts: ConceptSet, *views: ViewKind, **knobs: Any) -> dict[ViewKind, TestTable]:
    """The tables of `views` (all three where none is named), length controlled, the method's defaults but for `knobs`."""
    options = {**_PLAIN, **({"views": views} if views else {}), **knobs}
    return run_views(Shards(features), concepts, AuditOptions(**options))


def decisive(table: TestTable) -> Effects:
    """The effects that findings and ranks go by."""
    return table.raw if table.controlled is None else table.controlled
