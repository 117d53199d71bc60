"""The SAE features that tell examples apart, chosen on one part of the examples and measured on the other.

A concept made of features is scored from what is stored of every pair, without a forward pass, and fires on little else than what
it was chosen for, if the negatives hold what it must not be mistaken for: features that tell bold from plain text may tell any
decoration from plain text, and only counterexamples show it.

Invariant: features are chosen by fitted rows alone; everything in the report comes from held-out rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from assay_server.concepts.examples import Examples
from assay_server.concepts.measuring import ConceptReport, measure
from assay_server.concepts.solvers import Check, go_on
from assay_server.concepts.splits import split_groups
from assay_server.errors import InvalidItem

# On the fitted part: less tells nothing. It is no protection from chance, since the best of thousands reaches 0.7 on 20 random
# examples: that is what the report on held-out examples is for.
LEAST_AUROC = 0.6
_COLUMNS = 256  # that are dense at once
# Apart from the streams that split, fold and draw other baselines.
_RIVALS_STREAM = 3


@dataclass(frozen=True, slots=True, eq=False)
class SelectedFeatures:
    """Features that tell the examples apart, and what they are worth together.

    Attributes:
        features: ids, int64 [n], ascending; a response's score is the sum of their largest activations.
        aurocs: of each on the fitted part, float64 [n].
        report: of that score on held-out examples; its rivals are random sets of as many other features that fire.
    """

    features: NDArray[np.int64]
    aurocs: NDArray[np.float64]
    report: ConceptReport


def select_features(
    examples: Examples,
    *,
    most: int,
    held_out: float = 0.3,
    minimum: int = 3,
    rivals: int = 64,
    seed: int = 0,
    check: Check = go_on,
) -> SelectedFeatures:
    """Choose the features with the largest AUROC on one part of the examples, and measure them on the other.

    Args:
        examples: rows are largest activations over a response's tokens, CSR [n, d_sae].
        most: features to choose at most; fewer where not so many reach ``LEAST_AUROC``.
        held_out: share of the examples to report on, in (0, 1).
        minimum: examples that each class needs on each side.
        rivals: random sets that the report compares with.
        seed: of the split and the random sets.
        check: called between steps; may raise to stop.

    Raises:
        InvalidItem: too few examples on a side (TOO_FEW_EXAMPLES), or no feature reaches ``LEAST_AUROC`` (NO_DIFFERENCE).
        TypeError: rows are dense.
    """
    rows = examples.rows
    if not isinstance(rows, sparse.csr_array):
        raise TypeError("rows are dense; pooled features are CSR")
    split = split_groups(examples.positive, examples.groups, share=held_out, minimum=minimum, seed=seed)
    fitted, positive = sparse.csr_array(rows[split.fit]), examples.positive[split.fit]
    firing, aurocs = feature_aurocs(fitted, positive, check=check)
    order = np.argsort(-aurocs, kind="stable")[:most]
    order = order[aurocs[order] >= LEAST_AUROC]
    if not len(order):
        raise _no_difference(firing, aurocs, positive)
    places = np.sort(order)
    held = split.held_out
    sets = _random_sets(np.delete(firing, places), len(places), rivals, seed)
    scores = [_score(rows, held, one) for one in (firing[places], *sets)]
    sides = None
    if examples.pairs:
        chosen = held < examples.pairs  # both sides of a pair are held out together
        sides = scores[0][chosen], scores[0][~chosen]
    report = measure(
        scores[0],
        np.stack(scores[1:], axis=1),
        examples.positive[held],
        examples.groups[held],
        fitted=(int(positive.sum()), int((~positive).sum())),
        pairs=sides,
    )
    return SelectedFeatures(firing[places], aurocs[places], report)


def feature_aurocs(
    rows: sparse.csr_array, positive: NDArray[np.bool_], *, check: Check = go_on
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """AUROC of every feature that fires in any row, ties counting half.

    Args:
        rows: largest activations, [n, d_sae].
        positive: bool [n]; both classes present.
        check: called between steps; may raise to stop.

    Returns:
        The features' ids, ascending, and their AUROCs.
    """
    columns = rows.tocsc()
    firing = np.flatnonzero(np.diff(columns.indptr)).astype(np.int64)
    n, m = int(positive.sum()), int((~positive).sum())
    found = np.zeros(len(firing))
    for start in range(0, len(firing), _COLUMNS):
        check()
        some = columns[:, firing[start : start + _COLUMNS]].toarray()
        ranks = np.asarray(rankdata(some, axis=0))[positive].sum(axis=0)
        found[start : start + _COLUMNS] = (ranks - n * (n + 1) / 2) / (n * m)
    return firing, found


def _score(rows: sparse.csr_array, held: NDArray[np.int64], features: NDArray[np.int64]) -> NDArray[np.float64]:
    picked = sparse.csr_array(rows[held])[:, features]
    return np.asarray(picked.sum(axis=1)).reshape(-1)


def _random_sets(firing: NDArray[np.int64], size: int, count: int, seed: int) -> list[NDArray[np.int64]]:
    generator = np.random.default_rng((seed, _RIVALS_STREAM))
    size = min(size, len(firing))
    return [np.sort(generator.choice(firing, size, replace=False)) for _ in range(count)]


def _no_difference(firing: NDArray[np.int64], aurocs: NDArray[np.float64], positive: NDArray[np.bool_]) -> InvalidItem:
    best = float(aurocs.max(initial=0.5))
    return InvalidItem(
        f"None of {len(firing)} features that fire tells the {int(positive.sum())} positive from the {int((~positive).sum())} "
        f"negative examples: the best AUROC is {best:.2f}, and {LEAST_AUROC:g} is needed. Give more examples, or ask for a "
        "direction.",
        reason="NO_DIFFERENCE",
        details={"features": len(firing), "best_auroc": round(best, 4), "needed": LEAST_AUROC},
    )
