"""A direction from examples: read, fitted on one part, read again with the direction on the other, and measured there. Or the
features that tell examples apart, which one reading gives whole.

Directions are fitted on mean residuals and scored as max over tokens of <h, v> (METHOD.md §1), so the report needs a second
reading of the held-out examples, with the direction and its random rivals at once. Both readings go through the one ``Scorer``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from assay_server.concepts.examples import Examples, pair_examples, text_examples
from assay_server.concepts.measuring import ConceptReport, measure, random_unit_vectors
from assay_server.concepts.probes import FittedProbe, ProbeOptions, fit_probe
from assay_server.concepts.selection import select_features
from assay_server.concepts.solvers import Rows
from assay_server.errors import AssayError
from assay_server.jobs.concepts.types import FitOptions, PairExamples, TextExamples, check_enough
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import Item, Lane, Scored, ScoreOptions, ScorerLike
from assay_server.store.pairs import prompt_id
from assay_server.subject.types import Directions, Pair, Pooled, PooledSpan, SpanName

_AT_ONCE = 64
# Sealed: what is read does not depend on what else is, so that a restart makes the same concept, to the bit.
_BULK = ScoreOptions(lane=Lane.BULK, patient=True, sealed=True)
_MakeRows = Callable[[Sequence[PooledSpan]], Rows]


@dataclass(frozen=True, slots=True, eq=False)
class FittedDirection:
    """A unit direction, float32 [d_in], and what it is worth."""

    direction: NDArray[np.float32]
    report: ConceptReport


@dataclass(frozen=True, slots=True, eq=False)
class FittedFeatures:
    """Features, int64 [n] ascending, and what they are worth as a set."""

    features: NDArray[np.int64]
    report: ConceptReport


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """Examples that could be read: rows as ``concepts.examples`` wants them, and the item of each row."""

    examples: Examples
    items: list[Item]  # texts: one a row; pairs: one a pair, rows p and pairs + p


async def fit_direction(
    source: TextExamples | PairExamples, options: FitOptions, scorer: ScorerLike, progress: Progress
) -> FittedDirection:
    """Fit a direction and measure it on examples that it was not fitted on.

    Args:
        source: enough examples, by ``check_examples``.
        options: every knob.
        scorer: the one path from text to residuals.
        progress: counts texts through "scoring", "fitting", "scoring".

    Raises:
        InvalidItem: too few examples can be read, or are left on a side (TOO_FEW_EXAMPLES); the sides do not differ
            (NO_DIFFERENCE); a value is not finite (NOT_FINITE).
    """
    read = await _read(source, scorer, progress, _residual_rows)
    progress.enter("fitting")
    knobs = ProbeOptions(held_out=options.held_out, seed=options.seed)
    fitted = await progress.in_thread(lambda: fit_probe(read.examples, options.method, knobs, check=progress.check))
    direction = fitted.probe.direction.astype(np.float32)
    rivals = random_unit_vectors(options.random_directions, len(direction), options.seed)
    scores = await _second_reading(read, fitted, np.vstack([direction, rivals]), scorer, progress)
    return FittedDirection(direction, _report(read, fitted, scores))


async def fit_features(
    source: TextExamples | PairExamples, options: FitOptions, scorer: ScorerLike, progress: Progress
) -> FittedFeatures:
    """Choose features and measure them on examples that they were not chosen by, after one reading of all.

    Arguments and errors as ``fit_direction``; a set that no feature is good enough for is NO_DIFFERENCE too.
    """
    width = scorer.info.d_sae
    read = await _read(source, scorer, progress, lambda spans: _feature_rows(spans, width))
    progress.enter("fitting")
    selected = await progress.in_thread(
        lambda: select_features(
            read.examples,
            most=options.max_features,
            held_out=options.held_out,
            rivals=options.random_directions,
            seed=options.seed,
            check=progress.check,
        )
    )
    return FittedFeatures(selected.features, selected.report)


def stack_directions(vectors: NDArray[np.float32]) -> Directions:
    """Directions [n, d_in] for a call; the digest is the one that ``rpc`` gives the same vectors."""
    shape = np.array(vectors.shape, dtype="<i8").tobytes()
    return Directions(vectors, hashlib.sha256(shape + vectors.astype("<f4").tobytes()).digest())


async def _read(source: TextExamples | PairExamples, scorer: ScorerLike, progress: Progress, rows: _MakeRows) -> _Read:
    if isinstance(source, PairExamples):
        return await _read_pairs(source, scorer, progress, rows)
    return await _read_texts(source, scorer, progress, rows)


async def _read_texts(source: TextExamples, scorer: ScorerLike, progress: Progress, rows: _MakeRows) -> _Read:
    items: list[Item] = [*source.positive, *source.negative]
    progress.enter("scoring", total=len(items))
    outcomes = await _score(items, _BULK, scorer, progress)
    spans: tuple[list[PooledSpan], ...] = ([], [])
    groups: tuple[list[str], ...] = ([], [])
    kept: tuple[list[Item], ...] = ([], [])
    for place, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
        side = 0 if place < len(source.positive) else 1
        if isinstance(outcome, Pooled):
            spans[side].append(outcome.spans[SpanName.CHOSEN])
            groups[side].append(_group(item))
            kept[side].append(item)
    why = _first_failure(outcomes)
    check_enough(len(spans[0]), "positive texts", "texts.positive", why=why)
    check_enough(len(spans[1]), "negative texts", "texts.negative", why=why)
    examples = text_examples(rows(spans[0]), rows(spans[1]), positive_prompts=groups[0], negative_prompts=groups[1])
    return _Read(examples, [*kept[0], *kept[1]])


async def _read_pairs(source: PairExamples, scorer: ScorerLike, progress: Progress, rows: _MakeRows) -> _Read:
    progress.enter("scoring", total=len(source.pairs))
    outcomes = await _score(source.pairs, _BULK, scorer, progress)
    kept = [(pair, outcome) for pair, outcome in zip(source.pairs, outcomes, strict=True) if isinstance(outcome, Pooled)]
    check_enough(len(kept), "pairs", "pairs.pairs", why=_first_failure(outcomes))
    sides = [rows([outcome.spans[side] for _, outcome in kept]) for side in (SpanName.CHOSEN, SpanName.REJECTED)]
    return _Read(pair_examples(*sides, prompts=[_group(pair) for pair, _ in kept]), [pair for pair, _ in kept])


async def _second_reading(
    read: _Read, fitted: FittedProbe, vectors: NDArray[np.float32], scorer: ScorerLike, progress: Progress
) -> NDArray[np.float64]:
    """Scores of the held-out rows along all vectors, float64 [held out, vectors], in the split's order."""
    held = fitted.split.held_out
    pairs = read.examples.pairs
    wanted = held[held < pairs] if pairs else held
    items = [read.items[row] for row in wanted]
    progress.enter("scoring", total=len(items))
    # Nobody will ask for these directions again: they need no place in the cache.
    options = replace(_BULK, directions=stack_directions(vectors), bypass_cache=True)
    outcomes = await _score(items, options, scorer, progress)
    scores = np.zeros((len(read.examples.positive), len(vectors)))
    for row, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, AssayError):
            raise outcome  # it could be read a moment ago
        scores[row] = outcome.directions[SpanName.CHOSEN]
        if pairs:
            scores[row + pairs] = outcome.directions[SpanName.REJECTED]
    return scores[held]


async def _score(
    items: Sequence[Item], options: ScoreOptions, scorer: ScorerLike, progress: Progress
) -> list[Pooled | AssayError]:
    outcomes: list[Pooled | AssayError] = []
    for start in range(0, len(items), _AT_ONCE):
        progress.check()
        scored = await scorer.score(items[start : start + _AT_ONCE], options)
        outcomes += [one.pooled if isinstance(one, Scored) else one for one in scored]
        progress.advance(len(scored))
    return outcomes


def _report(read: _Read, fitted: FittedProbe, scores: NDArray[np.float64]) -> ConceptReport:
    examples, held = read.examples, fitted.split.held_out
    on = examples.positive[fitted.split.fit]
    strength = fitted.probe.strength
    sides = None
    if examples.pairs:
        chosen = held < examples.pairs  # both sides of a pair are held out together
        sides = scores[chosen, 0], scores[~chosen, 0]
    return measure(
        scores[:, 0],
        scores[:, 1:],
        examples.positive[held],
        examples.groups[held],
        fitted=(int(on.sum()), int((~on).sum())),
        pairs=sides,
        l2=None if strength is None else strength.l2,
    )


def _group(item: Item) -> str:
    """What examples must share to be kept on one side of the split: the prompt; without one, the text itself."""
    if item.prompt == "":
        text = item.chosen if isinstance(item, Pair) else item.response
        return f"text {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return f"prompt {prompt_id(item.prompt)}"


def _residual_rows(spans: Sequence[PooledSpan]) -> Rows:
    """Mean residuals, float64 [spans, d_in]."""
    return np.stack([span.mean_residual for span in spans]).astype(np.float64)


def _feature_rows(spans: Sequence[PooledSpan], width: int) -> Rows:
    """Largest activations, float64 CSR [spans, d_sae]."""
    lengths = np.concatenate([[0], np.cumsum([len(span.indices) for span in spans])])
    indices = np.concatenate([np.zeros(0, np.int64), *(span.indices.astype(np.int64) for span in spans)])
    values = np.concatenate([np.zeros(0), *(span.max.astype(np.float64) for span in spans)])
    return sparse.csr_array((values, indices, lengths), shape=(len(spans), width))


def _first_failure(outcomes: Sequence[Pooled | AssayError]) -> str:
    failed = [outcome for outcome in outcomes if isinstance(outcome, AssayError)]
    return f" {len(failed)} of {len(outcomes)} could not be read; the first says: {failed[0].message}" if failed else ""
