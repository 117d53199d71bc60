"""What a direction is worth on rows it never saw (METHOD.md §2).

Invariant: everything in a report but ``fit_auroc`` comes from held-out rows, and none of it is NaN.
"""

from dataclasses import dataclass

import numpy as np

from assay_server.concepts.examples import Examples, scores
from assay_server.concepts.metrics import Threshold, auroc, auroc_interval, average_precision, best_f1
from assay_server.concepts.solvers import Vector, shape_of
from assay_server.concepts.splits import Split

# Apart from the streams that split and fold, which use the seed itself.
_BASELINE_STREAM = 1


@dataclass(frozen=True, slots=True)
class RandomBaseline:
    """Held-out AUROC of random unit directions, each turned to the side that was better on the fit part.

    Attributes:
        directions: how many.
        mean: of their AUROCs.
        low: their 2.5% quantile.
        high: their 97.5% quantile: what a direction must beat to be more than a direction.
    """

    directions: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a probe is worth on rows it never saw.

    Attributes:
        fit_positive: rows fitted on that show the concept; fit_negative, held_out_positive and held_out_negative alike.
        fit_prompts: distinct prompts fitted on; held_out_prompts alike; none is in both.
        auroc: held-out AUROC; auroc_low and auroc_high its 95% interval, counting prompts, not rows, as independent.
        average_precision: held-out PR-AUC; chance is ``prevalence``.
        prevalence: share of positives among held-out rows.
        threshold: the cut of best F1 on held-out rows, with its F1, precision and recall.
        pair_accuracy: share of held-out pairs whose chosen side scores higher, ties half; None without pairs.
        fit_auroc: AUROC on the rows fitted on: far above ``auroc``, the probe has memorised.
        random: the baseline.
    """

    fit_positive: int
    fit_negative: int
    held_out_positive: int
    held_out_negative: int
    fit_prompts: int
    held_out_prompts: int
    auroc: float
    auroc_low: float
    auroc_high: float
    average_precision: float
    prevalence: float
    threshold: Threshold
    pair_accuracy: float | None
    fit_auroc: float
    random: RandomBaseline


def report(examples: Examples, split: Split, direction: Vector, *, random_directions: int = 64, seed: int = 0) -> ProbeReport:
    """Report what a direction is worth on the held-out rows of a split.

    Args:
        examples: both parts.
        split: both classes are on both sides.
        direction: [d], of any length: the threshold is in its unit.
        random_directions: size of the baseline, >= 1.
        seed: of the baseline.
    """
    positive = examples.positive[split.held_out]
    groups = examples.groups[split.held_out]
    everything = scores(examples.rows, direction)
    held, fit_positive = everything[split.held_out], examples.positive[split.fit]
    area = auroc(held, positive)
    low, high = auroc_interval(area, len(np.unique(groups[positive])), len(np.unique(groups[~positive])))
    return ProbeReport(
        fit_positive=int(fit_positive.sum()),
        fit_negative=int((~fit_positive).sum()),
        held_out_positive=int(positive.sum()),
        held_out_negative=int((~positive).sum()),
        fit_prompts=len(np.unique(examples.groups[split.fit])),
        held_out_prompts=len(np.unique(groups)),
        auroc=area,
        auroc_low=low,
        auroc_high=high,
        average_precision=average_precision(held, positive),
        prevalence=float(positive.mean()),
        threshold=best_f1(held, positive),
        pair_accuracy=_pair_accuracy(examples, split, everything),
        fit_auroc=auroc(everything[split.fit], fit_positive),
        random=random_baseline(examples, split, directions=random_directions, seed=seed),
    )


def random_baseline(examples: Examples, split: Split, *, directions: int, seed: int) -> RandomBaseline:
    """Return the held-out AUROC of isotropic random directions, signs chosen on the fit part.

    Residuals are so anisotropic that a random direction may separate two kinds of text well; the sign is the one thing that a
    fit learns for free, so the baseline gets it too.
    """
    d = shape_of(examples.rows)[1]
    drawn = np.random.default_rng((seed, _BASELINE_STREAM)).standard_normal((d, directions))
    everything = scores(examples.rows, drawn / np.linalg.norm(drawn, axis=0))
    areas = np.empty(directions)
    for i in range(directions):
        column = everything[:, i]
        right_way = auroc(column[split.fit], examples.positive[split.fit]) >= 0.5
        area = auroc(column[split.held_out], examples.positive[split.held_out])
        areas[i] = area if right_way else 1 - area
    low, high = np.quantile(areas, [0.025, 0.975])
    return RandomBaseline(directions=directions, mean=float(areas.mean()), low=float(low), high=float(high))


def _pair_accuracy(examples: Examples, split: Split, everything: Vector) -> float | None:
    """Sides of a pair share their prompt, so a held-out chosen row has its rejected row held out too."""
    if not examples.pairs:
        return None
    chosen = split.held_out[split.held_out < examples.pairs]
    margins = everything[chosen] - everything[chosen + examples.pairs]
    return float(np.mean(np.where(margins == 0, 0.5, margins > 0)))
