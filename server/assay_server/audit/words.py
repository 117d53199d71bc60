"""Which n-grams chosen responses use more than rejected ones, by log-odds with an informative Dirichlet prior.

Monroe, Colaresi and Quinn 2008 ("Fightin' Words") compare two texts' word rates so. Their variance takes each word as drawn on
its own. Words are not: who writes one once writes it again, and responses to a prompt share its subject. So the variance here
sums influences by prompt, and tests are scored where the null holds, because the variance at the estimate is far too small
for an n-gram that one side hardly uses.

Texts lie in *cells*: chosen and rejected; or both inside and outside a condition; or members and others. Everything is computed
from sums over prompts, integers that merge to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from assay_server.audit.matrices import (
    Bools,
    Codes,
    Csr,
    Floats,
    Ints,
    PromptSums,
    added,
    dense_row,
    merge_prompt_sums,
    no_prompts,
    prompt_ids,
    split_sums_by_prompt,
    squared_values,
)
from assay_server.audit.multiplicity import q_values
from assay_server.audit.ngrams import Hashes, contains, least_texts
from assay_server.audit.reason import Reason

LEVEL = 0.95
# Prompts with texts on both sides from which on only such prompts are compared.
ENOUGH_PROMPTS = 10
# A contrast that only names something reads at most this many prompts.
MOST_PROMPTS = 2_000
# Words that fewer member texts hold are shown after all others.
SHARE_SHOWN = 0.2
MOST_SHOWN = 3

# What each cell adds to the difference: one against another, or that inside less that outside.
_SIGNS = {2: (1.0, -1.0), 4: (1.0, -1.0, -1.0, 1.0)}


@dataclass(frozen=True, eq=False)
class WordSums:
    """Sums over the prompts of K cells; y: occurrences of an n-gram in a prompt's texts of a cell, n: their words."""

    texts: int
    prompts: int
    n: Ints  # [K] Σ n
    y: Ints  # [K, ngrams] Σ y
    yy: Ints  # [K, K, ngrams] Σ y·y of two cells
    yn: Ints  # [K, K, ngrams] Σ y·n, y of the first cell
    nn: Ints  # [K, K] Σ n·n
    holding: Ints  # [ngrams] prompts with an occurrence in any cell
    open: PromptSums  # prompts of which more texts may come, in columns y of each cell, then n of each cell

    def closed(self) -> WordSums:
        """The same sums with every open prompt counted: call it when all blocks are merged."""
        nothing = no_prompts(self.open.rows.shape[1])
        return _close(replace(self, open=nothing), self.open) if len(self.open.ids) else self


@dataclass(frozen=True, eq=False)
class LogOdds:
    """The difference of log-odds of each n-gram, [ngrams]; where there is a reason p is 1 and the rest 0."""

    delta: Floats
    se: Floats
    z: Floats
    p: Floats  # two-sided
    low: Floats
    high: Floats
    reason: Codes  # Reason


@dataclass(frozen=True, eq=False)
class WordContrast:
    """Which n-grams some texts use more than others, [ngrams]."""

    odds: LogOdds
    share: Floats  # of the member texts compared, those that hold it
    others: Floats  # of the other texts compared
    ranked: Ints  # n-grams used more by members at q ≤ 0.05, by z; equals by index


def word_sums(
    counts: Csr,
    words: ArrayLike,
    cells: ArrayLike,
    prompts: ArrayLike,
    *,
    kinds: int = 2,
    open_prompts: ArrayLike | None = None,
) -> WordSums:
    """The sums of one block of texts.

    Args:
        counts: occurrences of each n-gram in each text, [texts, ngrams] integers.
        words: words of each text, [texts].
        cells: the cell of each text, [texts], or −1 for a text that takes no part. Chosen is 0 and rejected 1. With a
            condition: inside 0 and 1, outside 2 and 3. Members are 0 and others 1.
        prompts: an integer id per text, [texts]; equal ids are one prompt, in every block.
        kinds: K, the number of cells.
        open_prompts: ids of prompts that other blocks may hold too; None where no block splits a prompt.

    Raises:
        ValueError: K is neither 2 nor 4, lengths disagree, or a cell is not in −1..K−1.
    """
    cell, size, width = np.asarray(cells, np.int64), np.asarray(words, np.int64), counts.shape[1]
    ids = prompt_ids(prompts, counts.shape[0])
    if kinds not in _SIGNS or cell.shape != ids.shape or size.shape != ids.shape:
        raise ValueError(f"words and cells must be {len(ids)} numbers of 2 or 4 kinds, got {size.shape}, {cell.shape}, {kinds}")
    if len(cell) and not (cell.min() >= -1 and cell.max() < kinds):
        raise ValueError(f"cells must lie in −1..{kinds - 1}, got {cell.min()}..{cell.max()}")
    part = np.flatnonzero(cell >= 0)
    taken, cell, size = Csr(counts[part]).astype(np.int64), cell[part], size[part]
    columns = np.concatenate([taken.indices + np.repeat(cell, np.diff(taken.indptr)) * width, kinds * width + cell])
    rows = np.concatenate([np.repeat(np.arange(len(part)), np.diff(taken.indptr)), np.arange(len(part))])
    values = Csr((np.concatenate([taken.data, size]), (rows, columns)), shape=(len(part), kinds * (width + 1)))
    still_open, done = split_sums_by_prompt(values, ids[part], open_prompts)
    n, nn = np.zeros(kinds, np.int64), np.zeros((kinds, kinds), np.int64)
    y, yy, holding = (np.zeros((*shape, width), np.int64) for shape in ((kinds,), (kinds, kinds), ()))
    nothing = WordSums(len(part), 0, n, y, yy, yy, nn, holding, still_open)
    return _close(nothing, done)


def merge_word_sums(left: WordSums, right: WordSums) -> WordSums:
    """The sums of both: associative and commutative to the bit.

    Raises:
        ValueError: the two are over different n-grams or cells.
    """
    if left.y.shape != right.y.shape:
        raise ValueError(f"sums of {left.y.shape} and {right.y.shape} cells and n-grams do not merge")
    return added(left, right, open=merge_prompt_sums(left.open, right.open))


def log_odds(sums: WordSums, *, strength: float | None = None, level: float = LEVEL) -> LogOdds:
    """δ = log odds in the first cell − log odds in the second; with four cells Δ = δ inside − δ outside.

    The log-odds of a cell with Y occurrences in N words are log(Y + α) − log(N + α₀ − Y − α). The prior α is
    α₀ times the n-gram's rate in both cells together (inside and outside each have their own), α₀ = strength · N.
    By default strength = 1 / `least_texts`: the rarest n-gram of a vocabulary gets about one pseudo-occurrence, shared
    by both sides.

    The standard error is the larger of two. One is the delta method's at the estimate: a prompt's influence is
    Σ ± (y/A + (y − n)/B) for A = Y + α and B = N + α₀ − A, squared about its mean, times G/(G − 1). The other is |δ| over the
    score statistic: the influence where δ = 0 (where Δ = 0: the Mantel-Haenszel ratio holds inside and outside),
    Σ ± (y − μn) / (Mμ(1 − μ)), summed over prompts and divided by the root of the sum of its squares. Where labels
    swap by prompt, that statistic has sub-normal tails however few prompts hold the n-gram.

    Args:
        sums: merged over all blocks.
        strength: of the prior, pseudo-words for each word of a cell.
        level: of the interval.

    Raises:
        ValueError: strength or level is out of range.
    """
    sums = sums.closed()
    strength = 1 / least_texts(sums.texts) if strength is None else strength
    if strength <= 0 or not 0 < level < 1:
        raise ValueError(f"strength must be positive and level in (0, 1), got {strength} and {level}")
    reason = _reasons(sums)
    stands = reason == Reason.NONE
    a, m = _smoothed(sums, strength, stands)
    b = m - a
    sign = np.array(_SIGNS[len(sums.n)])[:, None]
    delta = (sign * np.log(a / b)).sum(axis=0)
    weight, slope = sign * (1 / a + 1 / b), sign / b
    prompts = max(sums.prompts, 2)
    total = (weight * sums.y - slope * sums.n[:, None]).sum(axis=0)
    wald = (_squares(sums, weight, slope) - total**2 / prompts) * prompts / (prompts - 1)
    mu = _under_null(a, m)
    spread = m * mu * (1 - mu)
    score = (sign * (a - m * mu) / spread).sum(axis=0)
    null = _squares(sums, sign / spread, sign * mu / spread)
    reason[stands & ((wald <= 0) | (null <= 0))] = Reason.NO_DIFFERENCE
    stands = reason == Reason.NONE
    # Both statistics have the sign of δ, but for rounding.
    score = np.where(stands, np.maximum(np.sign(delta) * score, 0.0) / np.sqrt(np.where(null > 0, null, 1.0)), 0.0)
    z = np.where(stands, np.minimum(np.abs(delta) / np.sqrt(np.where(wald > 0, wald, 1.0)), score), 0.0)
    se = np.where(z > 0, np.abs(delta) / np.where(z > 0, z, 1.0), np.sqrt(np.maximum(wald, 0.0)))
    delta, se = np.where(stands, delta, 0.0), np.where(stands, se, 0.0)
    width = float(special.ndtri((1 + level) / 2)) * se
    p = np.where(stands, 2 * special.ndtr(-z), 1.0)
    return LogOdds(delta, se, np.sign(delta) * z, p, delta - width, delta + width, reason)


def contrast_words(
    counts: Csr, words: ArrayLike, member: ArrayLike, groups: ArrayLike, *, most_prompts: int = MOST_PROMPTS
) -> WordContrast:
    """The n-grams that member texts use more than other texts.

    Where at least ten prompts have texts of both kinds, only those are compared: what a prompt is about is then on both
    sides. Of more than `most_prompts` prompts, evenly spaced ones are read. An n-gram counts once a text: a name says which
    texts hold it, and one text that repeats it would hide that. Only n-grams that members use more are ranked: where few
    texts are members, the error of what they do not use is too small.

    Args:
        counts: [texts, ngrams] integers, without stored zeros.
        words: words of each text, [texts].
        member: True for the texts that are to be described, [texts].
        groups: the prompt of each text, [texts].
        most_prompts: prompts read at most.

    Raises:
        ValueError: lengths disagree.
    """
    inside, size = np.asarray(member, np.bool_), np.asarray(words, np.int64)
    ids = prompt_ids(groups, counts.shape[0])
    if inside.shape != ids.shape or size.shape != ids.shape:
        raise ValueError(f"words and member must be {len(ids)} values, got {size.shape} and {inside.shape}")
    chosen = compared_texts(inside, ids, most_prompts)
    taken, inside = Csr(counts[chosen]), inside[chosen]
    held = Csr((np.ones(taken.nnz, np.int64), taken.indices, taken.indptr), shape=taken.shape)
    odds = log_odds(word_sums(held, size[chosen], np.where(inside, 0, 1), ids[chosen]))
    share, others = (np.asarray(held.T @ side.astype(np.float64)) / max(int(side.sum()), 1) for side in (inside, ~inside))
    tested = odds.reason == Reason.NONE
    found = np.flatnonzero((q_values(odds.p, tested=tested) <= 0.05) & (odds.z > 0))
    return WordContrast(odds, share, others, found[np.argsort(-odds.z[found], kind="stable")].astype(np.int64))


def compared_texts(member: Bools, prompts: Ints, most_prompts: int = MOST_PROMPTS) -> Ints:
    """The texts that `contrast_words` compares, ascending."""
    ids, place = np.unique(prompts, return_inverse=True)
    inside = np.bincount(place, member, len(ids)) > 0
    outside = np.bincount(place, ~member, len(ids)) > 0
    read = np.flatnonzero(inside & outside)
    if len(read) >= ENOUGH_PROMPTS:
        read = read[_spaced(len(read), most_prompts)]
    else:
        sides = (np.flatnonzero(inside), np.flatnonzero(outside & ~inside))
        read = np.concatenate([side[_spaced(len(side), most_prompts)] for side in sides])
    return np.flatnonzero(np.isin(place, read)).astype(np.int64)


def shown_words(contrast: WordContrast, words: Hashes, telling: ArrayLike, *, most: int = MOST_SHOWN) -> tuple[int, ...]:
    """The few n-grams that say best what members use more: by z, those held by at least 20% of the member texts first.

    An n-gram that contains one shown already, or is contained in one, is left out.

    Args:
        contrast: from `contrast_words`.
        words: the words of each n-gram, [ngrams, 3], of a `Vocabulary`.
        telling: True for n-grams that may stand alone, [ngrams]: not function words, not punctuation.
        most: how many at most.
    """
    ranked = contrast.ranked[np.asarray(telling, np.bool_)[contrast.ranked]]
    often = contrast.share[ranked] >= SHARE_SHOWN
    shown: list[int] = []
    for pick in np.concatenate([ranked[often], ranked[~often]]).tolist():
        if len(shown) == most:
            break
        if not any(contains(words[pick], words[k]) or contains(words[k], words[pick]) for k in shown):
            shown.append(pick)
    return tuple(shown)


def _spaced(count: int, most: int) -> Ints:
    return np.arange(count) if count <= most else np.arange(most) * count // most


def _close(base: WordSums, sums: PromptSums) -> WordSums:
    kinds, width = base.y.shape
    by_cell = [Csr(sums.rows[:, k * width : (k + 1) * width]) for k in range(kinds)]
    n = np.asarray(sums.rows[:, kinds * width :].toarray(), np.int64)
    yy, yn = np.zeros((kinds, kinds, width), np.int64), np.zeros((kinds, kinds, width), np.int64)
    for k, first in enumerate(by_cell):
        yn[k] = np.asarray(first.T @ n).T
        yy[k, k] = dense_row(squared_values(first).sum(axis=0))
        for j in range(k):
            yy[k, j] = yy[j, k] = dense_row(first.multiply(by_cell[j]).sum(axis=0))
    together = by_cell[0]
    for other in by_cell[1:]:
        together = together + other
    return replace(
        base,
        prompts=base.prompts + len(sums.ids),
        n=base.n + n.sum(axis=0),
        y=base.y + np.stack([dense_row(part.sum(axis=0)) for part in by_cell]),
        yy=base.yy + yy,
        yn=base.yn + yn,
        nn=base.nn + n.T @ n,
        holding=base.holding + np.bincount(together.indices, minlength=width),
    )


def _reasons(sums: WordSums) -> Codes:
    """Why an n-gram cannot be compared: also where it occurs nowhere inside, or nowhere outside."""
    parts = sums.y.reshape(len(sums.y) // 2, 2, sums.y.shape[1]).sum(axis=1)
    missing = (Reason.NO_DIFFERENCE,) if len(parts) == 1 else (Reason.FEW_INSIDE, Reason.FEW_OUTSIDE)
    reason = np.zeros(sums.y.shape[1], np.uint8)
    reason[sums.holding < 2] = Reason.ONE_PROMPT
    for why, part in zip(missing, parts, strict=True):
        reason[part == 0] = why
    for why, empty in zip(np.repeat(missing, 2), sums.n == 0, strict=True):
        if empty:
            reason[:] = Reason.NO_PAIRS if len(parts) == 1 else why
    return reason


def _smoothed(sums: WordSums, strength: float, stands: Bools) -> tuple[Floats, Floats]:
    """A = Y + α and N + α₀, [K, ngrams] each; 1 and 2 where nothing can be computed."""
    kinds, width = sums.y.shape
    y, n = sums.y.reshape(kinds // 2, 2, width), sums.n.reshape(kinds // 2, 2, 1)
    rate = y.sum(axis=1, keepdims=True) / np.maximum(n.sum(axis=1, keepdims=True), 1)
    a, m = y + strength * n * rate, (1 + strength) * n * np.ones_like(rate)
    usable = stands & (a < m).all(axis=(0, 1))
    shape = (kinds, width)
    return np.where(usable, a, 1.0).reshape(shape), np.where(usable, m, 2.0).reshape(shape)


def _under_null(a: Floats, m: Floats) -> Floats:
    """The rates of all cells with one odds ratio inside and outside, or 1 where there are two cells, [K, ngrams]."""
    first, second, in_first, in_second = a[0::2], a[1::2], m[0::2], m[1::2]
    held, whole = first + second, in_first + in_second
    if len(first) == 1:
        return np.repeat(held / whole, 2, axis=0)
    # The Mantel-Haenszel odds ratio (Mantel and Haenszel 1959), then each table with its margins and that ratio.
    ratio = (first * (in_second - second) / whole).sum(axis=0) / (second * (in_first - first) / whole).sum(axis=0)
    linear = in_second - held + ratio * (in_first + held)
    product = ratio * in_first * held
    expected = 2 * product / (linear + np.sqrt(linear**2 + 4 * (1 - ratio) * product))
    return np.stack([expected / in_first, (held - expected) / in_second], axis=1).reshape(a.shape)


def _squares(sums: WordSums, weight: Floats, slope: Floats) -> Floats:
    """Σ over prompts of (Σ over cells of weight · y − slope · n)², [ngrams]; rounding below its terms is 0."""
    own = np.einsum("kw,jw,kjw->w", weight, weight, sums.yy)
    both = np.einsum("kw,jw,kjw->w", weight, slope, sums.yn)
    sizes = np.einsum("kw,jw,kj->w", slope, slope, sums.nn)
    whole = own - 2 * both + sizes
    return np.where(whole <= 1e-12 * (own + sizes), 0.0, whole)
