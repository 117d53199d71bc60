"""What an audit controls for: differences of length, of formatting, and of the models that wrote the responses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from assay_server.audit.matrices import Floats, Ints
from assay_server.descriptors import DESCRIPTORS, INDEX, present
from assay_server.jobs.audits.sources import SourceColumns
from assay_server.jobs.audits.types import Nuisance
from assay_server.jobs.datasets.shards import KnownColumns, LengthColumn, NuisanceColumns
from assay_server.store.texts import TextShard

# Chatbot Arena's style control, and code blocks beside it: the names of its columns, and the descriptors that they count.
FORMATS = {"headings": "header", "list_items": "list", "bold": "bold", "code_blocks": "code-block"}
MOST_SOURCES = 8


def nuisance_columns(
    nuisances: Sequence[Nuisance], texts: Callable[[], Iterable[TextShard]], sources: Callable[[], SourceColumns]
) -> tuple[NuisanceColumns, ...]:
    """The columns that some nuisances stand for, in one order however they were asked for.

    Args:
        nuisances: what is controlled for.
        texts: gives all shards in order; asked where formatting is controlled for.
        sources: gives the sources, the most frequent first; asked where provenance is controlled for.

    Raises:
        What ``texts`` and ``sources`` raise.
    """
    columns: list[NuisanceColumns] = []
    if Nuisance.LENGTH in nuisances:
        columns.append(LengthColumn())
    if Nuisance.FORMAT in nuisances:
        columns.append(KnownColumns(tuple(FORMATS), format_differences(texts())))
    if Nuisance.PROVENANCE in nuisances:
        columns.append(provenance(sources()))
    return tuple(columns)


def format_differences(texts: Iterable[TextShard]) -> Floats:
    """(A − B) / (A + B) of headings, list items, bold spans and code blocks, float64 [pairs, formats]; 0 where neither has any.

    A and B are the counts of the chosen and the rejected response. So Chatbot Arena's style control normalises them (Li et al.
    2024, "Does style matter?"); it has no code blocks.
    """
    places = [INDEX[one] for one in FORMATS.values()]
    parts = [np.zeros((0, len(places)))]
    for shard in texts:
        chosen, rejected = (side[:, places].astype(np.float64) for side in (shard.chosen, shard.rejected))
        # Where the sum is not 0 it is at least 1: they are counts.
        parts.append((chosen - rejected) / np.maximum(chosen + rejected, 1))
    return np.concatenate(parts)


def descriptor_differences(texts: Iterable[TextShard], rows: Ints) -> Floats:
    """What some pairs' descriptors differ by, float64 [rows, 2 x descriptors], chosen minus rejected.

    Of every descriptor whether a response shows it, in {-1, 0, 1}, then how much: the difference of log(1 + amount).

    Args:
        texts: all shards in order.
        rows: of the dataset, ascending.
    """
    parts = [np.zeros((0, 2 * len(DESCRIPTORS)))]
    for shard in texts:
        place = np.flatnonzero(np.isin(shard.rows, rows))
        chosen, rejected = (side[place].astype(np.float64) for side in (shard.chosen, shard.rejected))
        shows = present(chosen).astype(np.float64) - present(rejected)
        parts.append(np.hstack([shows, np.log1p(chosen) - np.log1p(rejected)]))
    return np.concatenate(parts)


def provenance(sources: SourceColumns) -> KnownColumns:
    """The most frequent sources as nuisances: all but the least frequent, whose column follows from the others, and at most 8."""
    kept = min(MOST_SOURCES, max(len(sources.names) - 1, 1), len(sources.names))
    return KnownColumns(sources.names[:kept], sources.values[:, :kept].toarray().astype(np.float64))
