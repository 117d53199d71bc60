"""Lesson 0: what the responses' lengths alone say of the preference, and what is left of a finding once they are controlled
for.

Length is a lesson like any other, and the first one to look for: it needs no concept. And a raw finding that misses the bar
once length is controlled for is not thereby "only length": the control costs information, and a wide interval says nothing
either way. On unseen pairs 72% of such findings kept more than half of their effect (METHOD.md §3.5). So a raw finding is
called explained only where the controlled interval shows that little is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np

from assay_server.audit.auc import Estimate, clustered_auc, clustered_median
from assay_server.audit.disparity import Disparity
from assay_server.audit.findings import Effects
from assay_server.audit.matrices import Bools, Codes, Csr, Floats, Ints
from assay_server.audit.moments import moments
from assay_server.audit.nuisance import NuisanceFit
from assay_server.audit.reason import Reason
from assay_server.audit.signflip import sign_flip

LEVEL = 0.05
EXPLAINED_BAND = 1 / 3  # of the raw estimate: the whole controlled interval lies within it
UNCHANGED_KEEPS = 0.8  # of the raw estimate: the controlled estimate is at least that
UNCHANGED_FLOOR = 0.5  # of the raw estimate: the whole controlled interval lies above it


class Direction(StrEnum):
    """Which responses are longer."""

    LONGER = "longer"
    SHORTER = "shorter"
    NEITHER = "neither"


class LengthVerdict(IntEnum):
    """What control leaves of a raw finding; stored as uint8. Numbers as in ``assay.v1.LengthVerdict``."""

    NONE = 0  # no raw finding, or nothing was controlled for
    EXPLAINED = 1
    WEAKENED = 2
    UNCHANGED = 3


@dataclass(frozen=True)
class LengthLesson:
    """What length alone says. Ratios are tokens of the chosen over tokens of the rejected response."""

    pairs: int
    direction: Direction  # by p at LEVEL and the more frequent sign
    ratio: Estimate  # median over pairs
    longer: float  # share of pairs in which the chosen response has more tokens
    shorter: float  # and fewer
    accuracy: float  # of "the longer one wins", ties half
    auc: Estimate  # of the difference of log lengths, over both orders of every pair
    p: float  # two-sided, of longer against shorter, prompts flipping as one
    information_left: float | None  # by the nuisance model, in [0, 1]; None where nothing was fitted
    reason: Reason  # NO_PAIRS, NO_DIFFERENCE, ONE_PROMPT or NONE


def length_lesson(
    tokens: Ints,
    prompts: Ints,
    *,
    fit: NuisanceFit | None = None,
    nuisance: Floats | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> LengthLesson:
    """Lesson 0 of a dataset.

    Args:
        tokens: of the prompt, the chosen and the rejected response, [pairs, 3].
        prompts: an integer id per pair, [pairs].
        fit: the nuisance model that effects are controlled with, if any.
        nuisance: its x, [pairs, nuisances].
        level: share that the intervals cover.
        seed: of the sign flips, where there are too many prompts to count them all and too few for a normal.

    Raises:
        ValueError: shapes disagree.
    """
    if tokens.ndim != 2 or tokens.shape[1] != 3 or len(tokens) != len(prompts):
        raise ValueError(f"tokens must be [{len(prompts)}, 3], got {tokens.shape}")
    left = information_left(fit, nuisance)
    if not len(tokens):
        nothing = Estimate(1.0, 1.0, 1.0)
        return LengthLesson(0, Direction.NEITHER, nothing, 0.0, 0.0, 0.5, Estimate(0.5, 0.0, 1.0), 1.0, left, Reason.NO_PAIRS)
    chosen, rejected = (np.maximum(tokens[:, side], 1) for side in (1, 2))
    sign, logs = np.sign(chosen - rejected), np.log(chosen) - np.log(rejected)
    tested = sign_flip(moments(Disparity(Csr(sign[:, None].astype(np.int64)), np.ones(1, np.int64)), prompts), seed=seed)
    p, reason = float(tested.p[0]), Reason(int(tested.reason[0]))
    longer, shorter = float((sign > 0).mean()), float((sign < 0).mean())
    told = reason == Reason.NONE and p <= LEVEL and longer != shorter
    median = clustered_median(logs, prompts, level=level)
    return LengthLesson(
        pairs=len(tokens),
        direction=Direction.NEITHER if not told else Direction.LONGER if longer > shorter else Direction.SHORTER,
        ratio=Estimate(*(float(np.exp(value)) for value in (median.value, median.low, median.high))),
        longer=longer,
        shorter=shorter,
        accuracy=(1 + longer - shorter) / 2,
        auc=clustered_auc(logs, prompts, level=level),
        p=p,
        information_left=left,
        reason=reason,
    )


def information_left(fit: NuisanceFit | None, nuisance: Floats | None) -> float | None:
    """Σ 4 w_i / n, w_i = s (1 − s), s = σ(γ̂·x_i): how much of the pairs' information on any other concept the control leaves.

    1 where the nuisances say nothing, 0 where they decide every preference: as if only that share of the pairs had been
    compared. None where there is no fit. A concept that goes along with the nuisances loses more than this.
    """
    if fit is None or nuisance is None or not len(nuisance):
        return None
    if fit.reason == Reason.SEPARATED:
        return 0.0
    if fit.reason != Reason.NONE:
        return None
    left = fit.residuals(nuisance)
    return float(np.mean(4 * left * (1 - left)))


def length_verdicts(raw: Effects, controlled: Effects | None, raw_finding: Bools, finding: Bools) -> Codes:
    """What control leaves of each raw finding, `LengthVerdict` as uint8 [tests].

    With r the raw estimate and [l, h] the controlled interval, both turned so that r > 0:

    - explained: −r/3 ≤ l and h ≤ r/3. Two one-sided tests of equivalence (Schuirmann 1987): at least two thirds of the effect
      go with what was controlled for. Or the concept is a linear function of it. A finding may be explained and still be one:
      of many pairs a small rest is sure.
    - unchanged: still a finding, the controlled estimate is at least 0.8 r, and l > r/2. The estimate alone would call noise
      unchanged, the interval alone a loss of a third.
    - weakened: everything else, which includes what the data cannot decide.

    r was selected for being large, and so is somewhat too large: this errs towards explained and weakened, never towards
    unchanged.

    Args:
        raw: effects as the data shows them.
        controlled: what control leaves of them; None where nothing is controlled for.
        raw_finding: whether the raw effect is a finding, [tests].
        finding: whether the controlled one is, [tests].
    """
    verdict = np.zeros(len(raw.estimate), np.uint8)
    if controlled is None:
        return verdict
    size, side = np.abs(raw.estimate), np.where(raw.estimate < 0, -1.0, 1.0)
    estimate = controlled.estimate * side
    low, high = (
        np.minimum(controlled.low * side, controlled.high * side),
        np.maximum(controlled.low * side, controlled.high * side),
    )
    known = controlled.reason == Reason.NONE
    band = size * EXPLAINED_BAND
    explained = (known & (low >= -band) & (high <= band)) | (controlled.reason == Reason.EXPLAINED)
    unchanged = known & finding & (estimate >= UNCHANGED_KEEPS * size) & (low > UNCHANGED_FLOOR * size)
    judged = raw_finding & ~np.isin(controlled.reason, (Reason.SEPARATED, Reason.NOT_CONVERGED))
    verdict[judged] = LengthVerdict.WEAKENED
    verdict[judged & unchanged] = LengthVerdict.UNCHANGED
    verdict[judged & explained] = LengthVerdict.EXPLAINED
    return verdict


def counted_verdicts(verdicts: Codes) -> tuple[int, int, int]:
    """How many are explained, weakened and unchanged."""
    explained, weakened, unchanged = np.bincount(verdicts, minlength=4)[1:4].tolist()
    return explained, weakened, unchanged
