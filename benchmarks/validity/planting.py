"""Writing a concept into real responses, and finding out beforehand which SAE concepts show it.

What is right is decided without the audit: on other pairs' responses, with other phrases, by how well a concept's firing tells
the edited text from the original (AUROC), and by a sign test over those texts of what the edit changes. A feature that fires on
both and only more strongly on one tells nothing here, nor to the audit, whose u counts firings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from assay_server.audit.matrices import Bools, Floats, Ints
from assay_server.audit.multiplicity import q_values
from assay_server.audit.shards import ConceptSet
from assay_server.subject.types import Pair, PromptedResponse
from scipy import stats

from benchmarks.validity.concepts import best, column_aurocs, disparities, firing
from benchmarks.validity.data import Features, Spans, read_responses
from benchmarks.validity.edits import Half, edited

TOP = 5


@dataclass(frozen=True, eq=False)
class Planting:
    """Edited responses of some pairs, and what is right about them."""

    name: str
    rows: Ints  # pairs whose chosen response was edited for planting
    planted: Spans  # those responses, in that order
    right: Ints  # the concepts that show it best, best first
    aurocs: Floats  # theirs, on the reference texts
    changed: Bools  # [concepts] whether the edit raises it, on the reference texts

    def into(self, features: Features, rows: Ints) -> Features:
        """`features` with the edited responses at `rows`, which are some of `self.rows`."""
        place = np.searchsorted(self.rows, rows)
        return features.replaced(rows, self.planted.take(place))


def prepare(
    name: str,
    pairs: Sequence[Pair],
    features: Features,
    concepts: ConceptSet,
    rows: Ints,
    reference: Ints,
    *,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Planting:
    """Edit and read the chosen responses at `rows` (to plant) and at `reference` (to learn what is right); they are disjoint.

    Args:
        features: of all `pairs`.
    """
    rows, reference = np.sort(rows), np.sort(reference)
    if np.isin(rows, reference).any():
        raise ValueError("a pair cannot be both planted and used as a reference")

    def written(where: Ints, half: Half) -> Spans:
        items = [PromptedResponse(pairs[row].prompt, edited(name, pairs[row].chosen, half, seed)) for row in where]
        return read_responses(items, say=lambda text: say(f"{name}, {half.name.lower()}: {text}"))

    originals, held = features.chosen.take(reference), written(reference, Half.REFERENCE)
    aurocs = column_aurocs(firing(held, concepts), firing(originals, concepts))
    right = best(aurocs, TOP)
    return Planting(name, rows, written(rows, Half.PLANTED), right, aurocs[right], raised(held, originals, concepts))


def raised(edited_texts: Spans, originals: Spans, concepts: ConceptSet, level: float = 0.05) -> Bools:
    """Which concepts the edited texts express more than the originals, pair by pair: sign tests at a false discovery rate of
    `level`, [concepts]."""
    u = disparities(edited_texts, originals, concepts)
    up, down = (u > 0).sum(axis=0), (u < 0).sum(axis=0)
    p = np.where(up + down > 0, np.minimum(1.0, 2 * stats.binom.sf(np.maximum(up, down) - 1, np.maximum(up + down, 1), 0.5)), 1.0)
    return (q_values(p) <= level) & (up > down)
