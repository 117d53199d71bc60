"""A scores file added up: its columns as an `assay.summary.Summary`, batch by batch, and the summary in words."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from assay.extras import pyarrow
from assay.results import CacheState
from assay.summary import Summary

COUNT_COLUMNS = ["id", "error_reason", "cache_state", "tokens_read", "tokens_shared", "tokens_truncated"]
FEATURE_COLUMNS = ["by_freq", "chosen_features", "rejected_features"]


def add_counts(summary: Summary, batches: Iterable[Any]) -> None:
    """Adds the counts of record batches that hold `COUNT_COLUMNS`."""
    for batch in batches:
        columns = [batch.column(name).to_pylist() for name in COUNT_COLUMNS]
        for id_, reason, cache, *tokens in zip(*columns, strict=True):
            if reason is None:
                summary.add_counts(CacheState(cache), *tokens)
            else:
                (summary.errors if id_ is not None else summary.unreadable)[reason] += 1


def add_features(summary: Summary, batches: Iterable[Any]) -> None:
    """Adds the features of record batches that hold `FEATURE_COLUMNS` and error_reason."""
    pc = pyarrow("pyarrow.compute")
    for batch in batches:
        scored = batch.filter(pc.is_null(batch.column("error_reason")))
        full = pc.and_(pc.is_valid(scored.column("chosen_features")), pc.is_valid(scored.column("rejected_features")))
        exact, ranked = scored.filter(full), scored.filter(pc.invert(full))
        summary.exact &= ranked.num_rows == 0
        for rows, names in (
            (exact, (("chosen_features", "freq"), ("rejected_features", "freq"))),
            (ranked, (("by_freq", "chosen"), ("by_freq", "rejected"))),
        ):
            sides = [_showing(rows.column(column), value, summary.tau) for column, value in names]
            for row in range(rows.num_rows):
                summary.add_sides(sides[0].get(row, set()), sides[1].get(row, set()))


def _showing(column: Any, value: str, tau: float) -> dict[int, set[int]]:
    """By row, the features whose value is over tau."""
    pa, pc = pyarrow(), pyarrow("pyarrow.compute")
    items = pc.list_flatten(column)
    over = pc.greater(pc.cast(pc.struct_field(items, value), pa.float64()), tau)
    rows = pc.filter(pc.list_parent_indices(column), over).to_pylist()
    features = pc.filter(pc.struct_field(items, "feature"), over).to_pylist()
    showing: dict[int, set[int]] = {}
    for row, feature in zip(rows, features, strict=True):
        showing.setdefault(row, set()).add(feature)
    return showing


def counts_text(summary: Summary) -> str:
    """Pairs, errors, tokens and cache, in a few lines."""
    lines = [f"pairs scored        {summary.scored:,}"]
    if summary.errors:
        lines.append(f"pairs not scored    {_by_reason(summary.errors)}")
    if summary.unreadable:
        lines.append(f"rows not read       {_by_reason(summary.unreadable)}")
    truncated = f"; {summary.tokens_truncated:,} cut off" if summary.tokens_truncated else ""
    lines.append(
        f"tokens              {summary.tokens_read:,} read; saved: {summary.tokens_shared:,} by reading shared prompts "
        f"once, {summary.tokens_cached:,} by the cache{truncated}"
    )
    hits = summary.cache[CacheState.HIT] + summary.cache[CacheState.SHARED]
    share = 100 * hits / summary.scored if summary.scored else 0.0
    lines.append(f"cache               {hits:,} hits ({share:.1f}%)")
    return "\n".join(lines)


def _by_reason(counter: Counter[str]) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counter.most_common())
    return f"{counter.total():,} ({reasons})"
