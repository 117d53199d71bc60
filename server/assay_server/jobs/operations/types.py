"""Long work as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from assay_server.errors import AssayError


@dataclass(frozen=True, slots=True)
class OperationInfo:
    """Long work. ``done`` with ``error`` None: ``response`` names the resource that was made.

    Attributes:
        name: "operations/…".
        kind: what runs: "audit", "test", "import", or what another module registered.
        target: the resource that is being made; see ``OperationMetadata.target``.
        response: the resource that the operation's response is: "datasets/…", "audits/…", "audits/…/hypotheses/stated-1",
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
