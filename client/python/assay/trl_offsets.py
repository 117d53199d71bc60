"""Offsets put into trainers that have no place for them: TRL's DPOTrainer by its reference, its RewardTrainer by its margins.

    -log sigmoid(beta ((logp+ - ref+) - (logp- - ref-)) + o)      o = o+ - o-; ref+ - o+/beta and ref- - o-/beta say the same
    -log sigmoid(r+ - r- - margin)                                 margin = -o says the same (trl.RewardTrainer's own loss)

Both are METHOD.md 4, "any sigmoid-DPO trainer, unchanged". Written for TRL 1.16.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from assay.errors import InvalidRequest
from assay.intervention_results import OffsetResult, PairOffset

CHOSEN, REJECTED, ROW = "assay_offset_chosen", "assay_offset_rejected", "assay_row"
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
_MARK = "_assay_offsets_applied"
# Losses that are made of log sigmoid(+-beta delta) alone, and "sft", which does not look at the reference.
_SIGMOID_LOSSES = {"sigmoid", "robust", "exo_pair"}
_UNTOUCHED_LOSSES = {"sft"}

OffsetSource = Sequence[PairOffset] | Sequence[OffsetResult] | Mapping[str, Sequence[float]] | tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Offsets:
    """o+ and o- of some pairs: parallel lists; ids where they are known, else empty."""

    chosen: list[float]
    rejected: list[float]
    ids: list[str]


def shift_reference(trainer: Any, offsets: OffsetSource | None = None, *, beta: float | None = None) -> None:
    """Shifts the reference's log-probabilities of a built DPOTrainer, so that its loss sees the offsets inside the sigmoid.

    ``ref_chosen_logps -= o+/beta`` and ``ref_rejected_logps -= o-/beta``, in a new ``trainer.train_dataset``; the reference's
    cached values stay as they are, and so does an ``eval_dataset``. TRL collates log-probabilities in float32, so both sides are
    rounded here, such that their difference is as near as float32 allows: the argument of the sigmoid is beta D + o to 1e-6 where
    the less surprising response has up to 256 nats at beta 0.1, and to beta times half a unit in its last place beyond.

    Args:
        trainer: a trl.DPOTrainer built with ``precompute_ref_log_probs=True``.
        offsets: of the training rows, in one of these forms: what `Client.offsets` yields; `PairOffset`; a mapping or pair of
            arrays "chosen" and "rejected". They are matched to rows by the column "assay_row" where there is one (a place in
            `offsets`, so that rows which TRL drops do no harm), by the ids of `OffsetResult` and a column "id" where both tell
            all rows apart, else by place. None takes the columns that `apply_plan` wrote.
        beta: the beta that the offsets are meant for; refused where the trainer's is another. By default the trainer's.

    Raises:
        InvalidRequest: NO_REFERENCE_COLUMNS, LOSS_UNSUPPORTED, BETA_MISMATCH, LENGTH_MISMATCH, ID_MISMATCH, NO_OFFSETS,
            NOT_FINITE, ALREADY_SHIFTED; ItemError's own where a pair has no offset.
    """
    _check_loss(trainer)
    scale = float(trainer.beta)
    if beta is not None and not math.isclose(beta, scale, rel_tol=1e-9):
        raise _refused("BETA_MISMATCH", f"the trainer's beta is {scale:g}, and the offsets are meant for {beta:g}", beta=scale)
    if getattr(trainer, _MARK, False):
        raise _refused(
            "ALREADY_SHIFTED",
            "this trainer's reference was shifted before, and a second time would count offsets twice: build the trainer again, "
            "or add the offsets up and shift once",
        )
    dataset = trainer.train_dataset
    chosen, rejected = aligned(dataset, offsets)
    rows = zip(*(dataset[name] for name in REFERENCE), chosen, rejected, strict=True)
    sides = [_rounded(plus - o_plus / scale, minus - o_minus / scale) for plus, minus, o_plus, o_minus in rows]
    shifted = {name: [both[side] for both in sides] for side, name in enumerate(REFERENCE)}
    trainer.train_dataset = with_columns(dataset, shifted)
    setattr(trainer, _MARK, True)


def reward_margins(dataset: Any, offsets: OffsetSource | None = None) -> Any:
    """The dataset with a column "margin" for trl.RewardTrainer, whose loss is -log sigmoid(r+ - r- - margin): margin = -o.

    A margin that is there already is kept, and o taken off it.

    Args:
        dataset: a datasets.Dataset, or a list of dictionaries.
        offsets: as of `shift_reference`.

    Raises:
        InvalidRequest: as `shift_reference`, of the offsets.
    """
    chosen, rejected = aligned(dataset, offsets)
    before = column(dataset, "margin") if "margin" in names_of(dataset) else [0.0] * len(dataset)
    margins = [float(was) - (plus - minus) for was, plus, minus in zip(before, chosen, rejected, strict=True)]
    return with_columns(dataset, {"margin": margins})


def aligned(dataset: Any, source: OffsetSource | None) -> tuple[list[float], list[float]]:
    """o+ and o- of every row of a dataset; how they are matched is told in `shift_reference`."""
    names = names_of(dataset)
    if source is None:
        if not {CHOSEN, REJECTED} <= set(names):
            raise _refused("NO_OFFSETS", f"there are no offsets, and the dataset has no columns {CHOSEN} and {REJECTED}")
        offsets, places = Offsets(column(dataset, CHOSEN), column(dataset, REJECTED), []), range(len(dataset))
    else:
        offsets = read_offsets(source)
        places = _places(dataset, names, offsets)
    broken = [place for place in places if not math.isfinite(offsets.chosen[place] - offsets.rejected[place])]
    if broken:
        raise _refused("NOT_FINITE", f"{len(broken)} offsets are not finite, the first at {broken[0]}", row=broken[0])
    return [offsets.chosen[place] for place in places], [offsets.rejected[place] for place in places]


def read_offsets(source: OffsetSource) -> Offsets:
    """Offsets of any of the forms; raises a pair's own error where it has none."""
    if isinstance(source, Mapping):
        sides: Sequence[Any] = (source["chosen"], source["rejected"])
    elif isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], PairOffset | OffsetResult):
        sides = cast("tuple[Any, Any]", source)
    else:
        every = cast("Sequence[PairOffset | OffsetResult]", source)
        plain = [one.unwrap() if isinstance(one, OffsetResult) else one for one in every]
        ids = [one.id for one in every if isinstance(one, OffsetResult)]
        return Offsets([one.chosen for one in plain], [one.rejected for one in plain], ids)
    chosen, rejected = ([float(value) for value in side] for side in sides)
    if len(chosen) != len(rejected):
        raise _refused(
            "LENGTH_MISMATCH", f"{len(chosen)} chosen offsets stand beside {len(rejected)} rejected ones", chosen=len(chosen)
        )
    return Offsets(chosen, rejected, [])


def names_of(dataset: Any) -> list[str]:
    """Column names of a dataset, or of a list of dictionaries."""
    return list(dataset[0]) if isinstance(dataset, list) and dataset else list(getattr(dataset, "column_names", []))


def column(dataset: Any, name: str) -> list[Any]:
    """One column."""
    return [row[name] for row in dataset] if isinstance(dataset, list) else list(dataset[name])


def with_columns(dataset: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    """The dataset with these columns in place of those of the same names; a list of dictionaries gives another."""
    if isinstance(dataset, list):
        rows = cast("list[dict[str, Any]]", dataset)
        return [{**row, **{name: values[at] for name, values in columns.items()}} for at, row in enumerate(rows)]
    held = [name for name in columns if name in dataset.column_names]
    dataset = dataset.remove_columns(held) if held else dataset
    for name, values in columns.items():
        dataset = dataset.add_column(name, list(values))
    return dataset


def _rounded(plus: float, minus: float) -> tuple[float, float]:
    """Two log-probabilities as float32, whose difference is nearest to the given one's: the finer one takes the other's error."""
    if abs(plus) < abs(minus):
        rounded_minus, rounded_plus = _rounded(minus, plus)
        return rounded_plus, rounded_minus
    coarse = _float32(plus)
    return coarse, _float32(minus + (coarse - plus))


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _places(dataset: Any, names: Sequence[str], offsets: Offsets) -> Sequence[int]:
    rows, count = len(dataset), len(offsets.chosen)
    if ROW in names:
        places = [int(one) for one in column(dataset, ROW)]
        if places and max(places) >= count:
            raise _refused(
                "LENGTH_MISMATCH",
                f"the dataset's rows go up to {max(places)} (column {ROW}), and there are {count} offsets: give one for each row "
                "of the dataset as it was uploaded",
                rows=max(places) + 1,
                offsets=count,
            )
        return places
    ids = [str(one) for one in column(dataset, "id")] if "id" in names and offsets.ids else []
    if ids and all(ids) and len(set(ids)) == rows and all(offsets.ids) and len(set(offsets.ids)) == count:
        by_id = {id: place for place, id in enumerate(offsets.ids)}
        missing = [id for id in ids if id not in by_id]
        if missing:
            raise _refused(
                "ID_MISMATCH",
                f"{len(missing)} of {rows} training rows have no offset, the first of id {missing[0]!r}",
                missing=len(missing),
                rows=rows,
            )
        return [by_id[id] for id in ids]
    if rows != count:
        raise _refused(
            "LENGTH_MISMATCH",
            f"the dataset has {rows} rows, and there are {count} offsets. TRL drops pairs whose prompt fills max_length: give "
            f"the dataset a column {ROW} (or id) before the trainer is built, and each row finds its own",
            rows=rows,
            offsets=count,
        )
    return range(rows)


def _check_loss(trainer: Any) -> None:
    if not getattr(trainer, "precompute_ref_logps", False) or not set(REFERENCE) <= set(names_of(trainer.train_dataset)):
        raise _refused(
            "NO_REFERENCE_COLUMNS",
            f"the trainer's dataset has no columns {' and '.join(REFERENCE)}: build the DPOTrainer with "
            "DPOConfig(precompute_ref_log_probs=True)",
        )
    losses = set(trainer.loss_types)
    other = losses - _SIGMOID_LOSSES - _UNTOUCHED_LOSSES
    if other or not losses & _SIGMOID_LOSSES:
        why = "averages log-probabilities by length" if other & {"ipo", "sigmoid_norm"} else "is no sigmoid of beta times D"
        raise _refused(
            "LOSS_UNSUPPORTED",
            f"loss_type {', '.join(sorted(other or losses))} {why}, so that no shift of the reference is the offset inside the "
            f"sigmoid; use {', '.join(sorted(_SIGMOID_LOSSES))}",
        )
    if trainer.f_divergence_type != "reverse_kl":
        raise _refused(
            "LOSS_UNSUPPORTED",
            f"f_divergence_type {trainer.f_divergence_type} bends the log-ratios before they are subtracted, so that no shift of "
            "the reference is the offset inside the sigmoid; use reverse_kl",
        )


def _refused(reason: str, message: str, **details: float) -> InvalidRequest:
    return InvalidRequest(message, reason=reason, details={key: f"{value:g}" for key, value in details.items()})
