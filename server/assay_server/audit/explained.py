"""How much of the preference is explained: held-out AUC of length, of style, of the SAE's features, and of these over style.

A block is a matrix of antisymmetric differences, chosen minus rejected. On the training folds a logistic model without an
intercept is fitted, P(chosen ≻ rejected) = σ(β·x), with an L2 penalty chosen inside them; its margins on the fold that was left
out are scored over both orders of every pair (`auc`). Folds hold whole prompts, and intervals resample prompts, the models as
they are (METHOD.md §3.5). Where there is nothing to learn held-out AUCs lie under 0.5 more often than over it, as what a fold
leaves out leans the other way: they err towards saying less.

Dense differences are the ceiling, what the subject knows: a block's share explained is (AUC − ½) / (AUC of dense − ½). A frozen
random dictionary is the floor: what a sparse code of the same shape says of the same residuals without having been trained.

Style is the baseline: on pairs that a strong model judged, 32 surface features equalled all of an SAE's. What the SAE adds to
style is the figure that matters; there style's margins, fitted on the same folds, are an offset, which no penalty on the features
can weaken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, sparse, special

from assay_server.audit.auc import Estimate, Ordered, both_orders_auc
from assay_server.audit.draws import drawn_bits
from assay_server.audit.matrices import Bools, Csr, Floats, Ints, dense_row, prompt_ids, squared_values, sum_by_prompt
from assay_server.audit.multiplicity import q_values
from assay_server.audit.watch import Check, go_on

FOLDS = 10
MOST_PAIRS = 20_000
MOST_COLUMNS = 65_536
LEAST_PROMPTS = 50
DRAWS = 400  # bootstrap draws of the prompts
PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1)  # per unit of mean squared row length: 1/λ is the prior variance of a margin
INNER = 5  # one in so many training prompts chooses the penalty
LEVEL = 0.05
# Blocks that something is said of, beside their rows.
STYLE, SAE, SAE_OVER_STYLE, DENSE, RANDOM = "style", "SAE", "SAE over style", "dense", "random dictionary"
_STEPS = 40
_STREAM = 1 << 23


@dataclass(frozen=True, eq=False)
class Block:
    """Differences that preference is predicted from."""

    name: str
    values: Csr  # [pairs, columns] chosen minus rejected
    scaled: bool = False  # each column by its root mean square: few columns of different units
    over: str = ""  # an earlier block, whose margins are an offset
    selected: bool = False  # only columns that are findings of the training folds: q ≤ 0.05, prompts as units
    beside: str = ""  # an earlier block, whose columns are fitted along with these; each of the two at mean squared length 1


@dataclass(frozen=True)
class ExplainedBlock:
    """One block's held-out AUC, 0.5 where it says nothing."""

    name: str
    columns: int  # that hold a difference; of selected ones, as many as were selected on average over the folds
    auc: float
    low: float
    high: float
    share: Estimate | None = None  # explained, of dense; None where there is no dense block or it says nothing sure itself


@dataclass(frozen=True)
class Explained:
    """What each block explains.

    Attributes:
        blocks: in the order that they were given.
        over_style: AUC of the SAE over style minus that of style alone.
        pairs: that took part.
        note: what was left out, and why; why nothing was fitted.
        over_random: AUC of the SAE minus that of the random dictionary.
    """

    blocks: tuple[ExplainedBlock, ...] = ()
    over_style: Estimate | None = None
    pairs: int = 0
    note: str = ""
    over_random: Estimate | None = None


def sampled_pairs(prompts: ArrayLike, most: int, seed: int) -> Bools:
    """Which pairs take part, [pairs]: all of a prompt or none, by a seeded draw; all where there are no more than `most`.

    At most `most` pairs are taken: a prompt that does not fit is skipped, and smaller ones after it are not.
    """
    ids = np.asarray(prompts, np.int64)
    if len(ids) <= most:
        return np.ones(len(ids), np.bool_)
    known, place, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    order = np.argsort(drawn_bits(known, _STREAM, seed), kind="stable")
    taken, room = np.zeros(len(known), np.bool_), most
    for one in order.tolist():
        if sizes[one] <= room:
            taken[one] = True
            room -= int(sizes[one])
        if not room:
            break
    return taken[place.ravel()]


def explained(
    blocks: Sequence[Block],
    prompts: ArrayLike,
    *,
    level: float = 0.95,
    seed: int = 0,
    folds: int = FOLDS,
    note: str = "",
    check: Check = go_on,
) -> Explained:
    """The held-out AUC of every block, and of the SAE over style.

    Args:
        blocks: of the same pairs; one that goes over another comes after it.
        prompts: an integer id per pair, [pairs].
        level: share that the intervals cover.
        seed: of the folds and the bootstrap.
        folds: how many parts the prompts are cut into.
        note: what the caller left out.
        check: called before each fit; may raise to stop.

    Raises:
        ValueError: level is outside (0, 1), lengths differ, or a block goes over or beside one that is not there yet.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    ids = prompt_ids(prompts, blocks[0].values.shape[0] if blocks else len(np.asarray(prompts)))
    many = len(np.unique(ids))
    if many < LEAST_PROMPTS or not blocks:
        few = f"{many} prompts are too few to hold some out: {LEAST_PROMPTS} are needed" if blocks else "there is nothing to fit"
        return Explained(pairs=len(ids), note=" ".join(part for part in (note, few) if part))
    _check(blocks, len(ids))
    margins, columns = held_out(blocks, ids, folds=folds, seed=seed, check=check)
    drawn = bootstrap(margins, ids, seed=seed, check=check)
    found = {name: both_orders_auc(values) for name, values in margins.items()}
    tails = [(1 - level) / 2, (1 + level) / 2]

    def estimate(value: float, draws: Floats) -> Estimate:
        low, high = np.quantile(draws, tails).tolist()
        return Estimate(value, low, high)

    def gain(name: str, base: str) -> Estimate | None:
        return estimate(found[name] - found[base], drawn[name] - drawn[base]) if {name, base} <= set(found) else None

    sure = DENSE in found and float(drawn[DENSE].min()) > 0.5
    rows: list[ExplainedBlock] = []
    for name, value in found.items():
        auc = estimate(value, drawn[name])
        share = estimate((value - 0.5) / (found[DENSE] - 0.5), (drawn[name] - 0.5) / (drawn[DENSE] - 0.5)) if sure else None
        rows.append(ExplainedBlock(name, columns[name], value, auc.low, auc.high, share))
    return Explained(tuple(rows), gain(SAE_OVER_STYLE, STYLE), len(ids), note, gain(SAE, RANDOM))


def fit_margins(x: Csr, penalty: float, offset: Floats, start: Floats | None = None) -> Floats:
    """β of max Σ log σ(offset_i + β·x_i) − penalty/2 |β|², by L-BFGS, [columns].

    Args:
        x: differences, [pairs, columns].
        penalty: λ.
        offset: what is known of each margin, [pairs].
        start: where to begin.
    """
    turned = x.T.tocsr()

    def loss(beta: Floats) -> tuple[float, Floats]:
        margin = x @ beta + offset
        value = -float(special.log_expit(margin).sum()) + penalty / 2 * float(beta @ beta)
        return value, penalty * beta - turned @ special.expit(-margin)

    begin = np.zeros(x.shape[1]) if start is None else start
    found = optimize.minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": 1e-7, "gtol": 1e-4})
    return np.asarray(found.x, np.float64)


def held_out(
    blocks: Sequence[Block], ids: Ints, *, folds: int = FOLDS, seed: int = 0, check: Check = go_on
) -> tuple[dict[str, Floats], dict[str, int]]:
    """Margins of every pair, [pairs], by models that did not see its prompt, and how many columns each block was fitted on."""
    fold, inner = _parts(ids, folds, seed), _parts(ids, INNER, seed + 1)
    margins, fitted = {block.name: np.zeros(len(ids)) for block in blocks}, dict.fromkeys([block.name for block in blocks], 0.0)
    shared = {block.beside for block in blocks}
    for part in range(folds):
        out = fold == part
        rows = np.flatnonzero(~out)
        known: dict[str, Floats] = {}  # margins of all pairs by the models of this fold
        used: dict[str, Csr] = {}  # scaled, of blocks that another one goes beside: each may take most of a gigabyte
        for block in blocks:
            x = block.values
            if block.selected:
                x = Csr(x[:, _findings(Csr(x[rows]), ids[rows])])
            x = _scaled(x, rows, by_column=block.scaled)
            if block.beside:
                x = Csr(sparse.hstack([used[block.beside], x], format="csr"))
            if block.name in shared:
                used[block.name] = x
            offset = known[block.over] if block.over else np.zeros(len(ids))
            known[block.name] = _margins(x, offset, ~out, inner == 0, check)
            margins[block.name][out] = known[block.name][out]
            fitted[block.name] += np.count_nonzero(np.bincount(x.indices, minlength=x.shape[1])) / folds
    return margins, {name: round(columns) for name, columns in fitted.items()}


def bootstrap(margins: Mapping[str, Floats], ids: Ints, *, seed: int = 0, check: Check = go_on) -> dict[str, Floats]:
    """AUCs of draws of the prompts with replacement, the same for every block, [draws]."""
    _, place = np.unique(ids, return_inverse=True)
    many, draws = int(place.max()) + 1, np.random.default_rng([seed, DRAWS])
    found: dict[str, Floats] = {name: np.empty(DRAWS) for name in margins}
    ordered = {name: Ordered(values) for name, values in margins.items()}
    for draw in range(DRAWS):
        check()
        counts = np.bincount(draws.integers(0, many, many), minlength=many).astype(np.float64)
        weights = counts[place.ravel()]
        for name, values in ordered.items():
            found[name][draw] = values.auc(weights)
    return found


def _check(blocks: Sequence[Block], pairs: int) -> None:
    known = {""}
    for block in blocks:
        if block.values.shape[0] != pairs or block.over not in known or block.beside not in known:
            raise ValueError(
                f"block {block.name!r} has {block.values.shape[0]} pairs and goes over {block.over!r} and beside {block.beside!r}"
            )
        known.add(block.name)


def _margins(x: Csr, offset: Floats, train: Bools, inner: Bools, check: Check) -> Floats:
    """Of all pairs by the model that is fitted on `train`, its penalty chosen on the part of it that is `inner`."""
    rows, tuning, tuned = np.flatnonzero(train), np.flatnonzero(train & ~inner), np.flatnonzero(train & inner)
    if not x.shape[1] or not x[rows].nnz:
        return offset.copy()
    small, check_on, beta = Csr(x[tuning]), Csr(x[tuned]), None
    best, heights = 0, []
    for place, penalty in enumerate(PENALTIES):
        check()
        beta = fit_margins(small, penalty, offset[tuning], beta)
        heights.append(float(special.log_expit(check_on @ beta + offset[tuned]).sum()))
        if heights[place] > heights[best]:
            best = place
        elif place > best + 1:  # it falls: weaker penalties only fit the training part closer
            break
    check()
    return x @ fit_margins(Csr(x[rows]), PENALTIES[best], offset[rows], beta) + offset


def _findings(x: Csr, ids: Ints) -> Ints:
    """Columns whose sum differs from 0 at q ≤ 0.05, prompts flipping as one."""
    sums = sum_by_prompt(x, ids).rows
    total, square = dense_row(sums.sum(axis=0)), dense_row(squared_values(sums).sum(axis=0))
    z = np.divide(total, np.sqrt(square), out=np.zeros(len(total)), where=square > 0)
    q = q_values(2 * special.ndtr(-np.abs(z)), tested=square > 0)
    return np.flatnonzero(q <= LEVEL).astype(np.int64)


def _scaled(x: Csr, rows: Ints, *, by_column: bool) -> Csr:
    """Columns divided by their root mean square where asked, then everything so that rows have mean squared length 1."""
    if by_column:
        scale = np.sqrt(dense_row(squared_values(Csr(x[rows])).sum(axis=0)) / len(rows))
        x = Csr((x.data / np.where(scale > 0, scale, 1.0)[x.indices], x.indices, x.indptr), shape=x.shape)
    length = np.sqrt(float(np.square(x[rows].data).sum()) / len(rows)) or 1.0
    return Csr((x.data / length, x.indices, x.indptr), shape=x.shape)


def _parts(ids: Ints, parts: int, seed: int) -> Ints:
    """A part for every pair, whole prompts in one, about as many pairs in each, [pairs]."""
    known, place, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, parts]).permutation(len(known))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    of = np.empty(len(known), np.int64)
    of[order] = np.minimum((middle * parts / len(ids)).astype(np.int64), parts - 1)
    return of[place.ravel()]
