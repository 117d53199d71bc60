"""What a plan does to each pair of its dataset: weights, flips, offsets, masks, texts. Rows, and the same as Parquet."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from assay_server.errors import AssayError
from assay_server.interventions.offsets import no_offsets, reward_shaping
from assay_server.interventions.plans import CompiledPlan, Intervention, Plan
from assay_server.interventions.reading import Engine
from assay_server.interventions.token_masks import TokenMask, mask_tokens
from assay_server.interventions.tokens import ResponseTokens, token_scores
from assay_server.interventions.types import PICKING, Family, Placement, Side
from assay_server.interventions.weights import offset_weights
from assay_server.subject.types import Pair

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
MASK_PAIRS = 32  # pairs whose tokens are scored at once
DIFFERING = PICKING | {Family.REWEIGHT}
Pairs = AsyncIterator[tuple[int, list[Pair]]]


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt to train under."""

    text: str
    placement: Placement


@dataclass(frozen=True, eq=False)
class Row:
    """What a plan does to one pair; see ``assay.v1.DataPlanRow``."""

    row: int
    id: str
    weight: float
    flip: bool
    offset_chosen: float
    offset_rejected: float
    texts: tuple[int, ...]
    steered_by: tuple[str, ...]
    differences: tuple[float, ...]
    chosen_mask: TokenMask | None = None
    rejected_mask: TokenMask | None = None
    error: AssayError | None = None

    @property
    def offset(self) -> float:
        """o⁺ − o⁻."""
        return self.offset_chosen - self.offset_rejected


@dataclass(frozen=True, eq=False)
class Columns:
    """The same for all usable pairs, without masks; arrays [pairs]."""

    weight: Floats
    flip: Bools
    offset_chosen: Floats
    offset_rejected: Floats
    picked: dict[int, Bools]  # by intervention id
    differences: tuple[Floats, ...]


def texts_of(plan: Plan) -> tuple[Text, ...]:
    """What rows refer to by place: one for each INOCULATION_ROWS intervention, in order."""
    return tuple(
        Text(one.parameters.prompt, one.parameters.placement) for one in plan.of_families(frozenset({Family.INOCULATION_ROWS}))
    )


def columns_of(compiled: CompiledPlan) -> Columns:
    """Weights multiply, flips cancel in pairs, offsets add (see the one form in intervention.proto)."""
    rows, count = compiled.rows, len(compiled.rows.rows)
    weight, flip, offsets = np.ones(count), np.zeros(count, np.bool_), no_offsets(count)
    picked: dict[int, Bools] = {}
    differences: list[Floats] = []
    for one in compiled.plan.interventions:
        place = one.id - 1
        chosen, rejected = rows.chosen[place], rows.rejected[place]
        if one.family in (Family.REWARD_SHAPING, Family.REWEIGHT):
            part = reward_shaping(chosen, rejected, one.z, one.mode, one.strength)
            if one.family is Family.REWARD_SHAPING:
                offsets = offsets + part
            else:
                weight = weight * offset_weights(part.total)
        if one.family in PICKING:
            picked[one.id] = rows.picked[place]
        if one.family is Family.EXAMPLE_FILTER:
            weight = np.where(rows.picked[place], 0.0, weight)
        if one.family is Family.LABEL_FLIP:
            flip = flip ^ rows.picked[place]
        if one.family in DIFFERING:
            differences.append(chosen - rejected)
    return Columns(weight, flip, offsets.chosen, offsets.rejected, picked, tuple(differences))


async def data_rows(
    engine: Engine, compiled: CompiledPlan, pairs: Callable[[int], Pairs], start_row: int = 0
) -> AsyncIterator[list[Row]]:
    """The plan's rows in order, some at a time.

    Args:
        engine: reads tokens where the plan masks any.
        compiled: the plan.
        pairs: the dataset's pairs from a row on, in chunks, each with the row of its first pair.
        start_row: first row to give.
    """
    columns, places = await asyncio.to_thread(lambda: (columns_of(compiled), _places(compiled)))
    maskers = compiled.plan.of_families(frozenset({Family.TOKEN_FILTER}))
    async for first, chunk in pairs(start_row):
        here = [(places[first + at], pair) for at, pair in enumerate(chunk) if first + at in places]
        for start in range(0, len(here), MASK_PAIRS):
            part = here[start : start + MASK_PAIRS]
            masks = await _masks(engine, compiled, maskers, [pair for _, pair in part])
            yield [_row(compiled, columns, place, pair.id, mask) for (place, pair), mask in zip(part, masks, strict=True)]


def _places(compiled: CompiledPlan) -> dict[int, int]:
    """From rows of the dataset to places among the plan's."""
    return {row: place for place, row in enumerate(compiled.rows.rows.tolist())}


_Masks = tuple[TokenMask | None, TokenMask | None] | AssayError


async def _masks(engine: Engine, compiled: CompiledPlan, maskers: Sequence[Intervention], pairs: Sequence[Pair]) -> list[_Masks]:
    """Masks of both responses; where several filters mask, a token is masked that any of them masks."""
    if not maskers or not pairs:
        return [(None, None) for _ in pairs]
    targets = [compiled.targets[one.id - 1] for one in maskers]
    results: list[_Masks] = []
    for pair, read in zip(pairs, await token_scores(engine, pairs, targets), strict=True):
        if isinstance(read, AssayError):
            results.append(read)
            continue
        texts = (pair.chosen, pair.rejected)
        chosen, rejected = (
            _mask(text, tokens, maskers, side)
            for text, tokens, side in zip(texts, read, (Side.CHOSEN, Side.REJECTED), strict=True)
        )
        results.append((chosen, rejected))
    return results


def _mask(response: str, tokens: ResponseTokens, maskers: Sequence[Intervention], side: Side) -> TokenMask:
    hit = np.zeros(len(tokens.starts), np.bool_)
    for row, one in enumerate(maskers):
        if one.parameters.side in (side, Side.BOTH) and one.parameters.threshold is not None:
            unit, threshold = one.parameters.unit, one.parameters.threshold
            hit[mask_tokens(response, tokens.starts, tokens.ends, tokens.scores[row], threshold, unit).tokens] = True
    masked = np.flatnonzero(hit).astype(np.int64)
    return TokenMask(masked, tokens.starts[masked], tokens.ends[masked], len(hit))


def _row(compiled: CompiledPlan, columns: Columns, place: int, id: str, masks: _Masks) -> Row:
    plan = compiled.plan
    texts = [one for one in plan.interventions if one.family is Family.INOCULATION_ROWS]
    steered = [one for one in plan.interventions if one.family is Family.STEERING_VECTOR]
    failed = masks if isinstance(masks, AssayError) else None
    chosen_mask, rejected_mask = (None, None) if isinstance(masks, AssayError) else masks
    return Row(
        row=int(compiled.rows.rows[place]),
        id=id,
        weight=float(columns.weight[place]),
        flip=bool(columns.flip[place]),
        offset_chosen=float(columns.offset_chosen[place]),
        offset_rejected=float(columns.offset_rejected[place]),
        texts=tuple(at for at, one in enumerate(texts) if columns.picked[one.id][place]),
        steered_by=tuple(f"{plan.name}/interventions/{one.id}" for one in steered if columns.picked[one.id][place]),
        differences=tuple(float(values[place]) for values in columns.differences),
        chosen_mask=chosen_mask,
        rejected_mask=rejected_mask,
        error=failed,
    )


_COLUMNS: dict[str, Any] = {
    "row": pa.int64(),
    "id": pa.string(),
    "weight": pa.float64(),
    "flip": pa.bool_(),
    "offset": pa.float64(),
    "offset_chosen": pa.float64(),
    "offset_rejected": pa.float64(),
    "texts": pa.list_(pa.int32()),
    "steered_by": pa.list_(pa.string()),
    "differences": pa.list_(pa.float64()),
}


def parquet_of(plan: Plan, rows: Sequence[Row]) -> bytes:
    """The rows as one Parquet file; what all share (plan, fingerprints, texts) stands in the schema's metadata."""
    columns = {name: pa.array([getattr(row, name) for row in rows], kind) for name, kind in _COLUMNS.items()}
    columns["error"] = pa.array(["" if row.error is None else row.error.reason for row in rows], pa.string())
    for side in ("chosen", "rejected"):
        masks = [getattr(row, f"{side}_mask") for row in rows]
        for kind in ("tokens", "starts", "ends"):
            values = [None if mask is None else getattr(mask, kind).tolist() for mask in masks]
            columns[f"{side}_mask_{kind}"] = pa.array(values, pa.list_(pa.int32()))
    about = {
        "plan": plan.name,
        "plan_fingerprint": plan.fingerprint,
        "dataset_fingerprint": plan.dataset_fingerprint,
        "tokenizer_fingerprint": plan.subject.tokenizer_fingerprint,
        **{f"text_{at}": text.text for at, text in enumerate(texts_of(plan))},
        **{f"placement_{at}": text.placement.value for at, text in enumerate(texts_of(plan))},
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(about), sink, compression="zstd")
    return sink.getvalue()
