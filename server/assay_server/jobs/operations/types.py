"""Long work as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from assay_server.errors import AssayError


@dataclass(frozen=True, slots=True)
class OperationInfo:
    """The state of long work. ``done`` with ``error`` None: ``response`` names the resource that was made.

    Attributes:
        name: "operations/…".
        kind: "audit", "test", "import", or another registered kind.
        target: the resource that it makes; see ``OperationMetadata.target``.
        response: the name of the resource in the operation's response: "datasets/…", "audits/…", "audits/…/hypotheses/stated-1",
            "concepts/…"; "" until done.
        phase: see ``OperationMetadata.phase``.
        error: why it ended without a response (``Cancelled`` where it was cancelled).
    """

    name: str
    kind: str
    target: str
    phase: str
    pairs_done: int
    pairs_total: int
    pairs_per_second: float
    seconds_left: float
    created: float
    updated: float
    resumed: int
    done: bool
    response: str = ""
    error: AssayError | None = None
