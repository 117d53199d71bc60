"""The same offset for trainers that know no offsets: a shift of the reference's log-probabilities (METHOD.md §4).

In sigmoid DPO the argument is β ((log π⁺ − ref⁺) − (log π⁻ − ref⁻)). Taking o⁺/β off ref⁺ and o⁻/β off ref⁻ adds
β (o⁺/β − o⁻/β) = o. TRL carries exactly these columns (``ref_chosen_logps``, ``ref_rejected_logps``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay_server.interventions.offsets import Floats, Offsets


@dataclass(frozen=True, eq=False)
class ReferenceShift:
    """What to add to each reference log-probability, in nats, float64 [pairs]."""

    chosen: Floats
    rejected: Floats


def reference_shift(offsets: Offsets, beta: float) -> ReferenceShift:
    """−o⁺/β for ``ref_chosen_logps`` and −o⁻/β for ``ref_rejected_logps`` (METHOD.md §4).

    Only the difference matters to a loss that is a sigmoid of one difference; both halves are given because trainers also log
    each side's implicit reward β (log π − ref), and these then carry their own halves of the offset.

    Raises:
        ValueError: β is not a positive finite number.
    """
    if not (np.isfinite(beta) and beta > 0):
        raise ValueError(f"beta must be over 0 and finite, got {beta}")
    return ReferenceShift(-offsets.chosen / beta, -offsets.rejected / beta)
