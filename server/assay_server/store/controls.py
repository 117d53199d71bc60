"""What some pairs are held against: the mean residual and a random dictionary's features, shard by shard, beside the features.

A table holds the drawn pairs of one shard. Columns: ``row``; ``dense``, the mean residual over the chosen response's tokens minus
that over the rejected one's (a list of d_in float32); for both sides ``{side}_tokens``, and two lists of equal length:
``{side}_features`` (ids, ascending) and ``{side}_count`` (tokens on which it fires).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay_server.store.datasets import ShardEntry
from assay_server.store.features import Features

_SIDES = ("chosen", "rejected")
_MADE = 2  # to be raised when the same draw is read differently: 2 takes the decoder's bias off whatever the SAE's configuration


@dataclass(frozen=True, eq=False)
class Firings:
    """Features that fire in n responses, compressed rows."""

    tokens: NDArray[np.int64]  # [n], at least 1
    indptr: NDArray[np.int64]  # [n + 1]
    features: NDArray[np.int64]  # [nnz] ids, ascending within a response
    count: NDArray[np.int64]  # [nnz]


@dataclass(frozen=True, eq=False)
class ControlShard:
    """The drawn pairs of one shard."""

    rows: NDArray[np.int64]  # [n] of the dataset, ascending
    dense: NDArray[np.float32]  # [n, d_in]
    chosen: Firings  # under the random dictionary
    rejected: Firings


class ControlFiles:
    """What is stored of one draw. Blocks: call it in a thread.

    Args:
        features: of the dataset under the subject.
        rows: the drawn pairs, ascending.
        seed: of the random dictionary.
    """

    def __init__(self, features: Features, rows: NDArray[np.int64], seed: int) -> None:
        known = np.ascontiguousarray(rows, "<i8").tobytes() + f" {seed} {_MADE}".encode()
        self._features = features
        self._rows = rows
        self._path = f"controls/{hashlib.sha256(known).hexdigest()[:24]}"

    def drawn(self, entry: ShardEntry) -> NDArray[np.int64]:
        """The drawn pairs of a shard."""
        first, last = np.searchsorted(self._rows, [entry.start, entry.start + entry.pairs])
        return self._rows[first:last]

    def write(self, shard: int, entry: ShardEntry, found: ControlShard) -> None:
        """Store a shard's."""
        columns: dict[str, Any] = {"row": pa.array(found.rows, pa.int64()), "dense": pa.array(list(found.dense))}
        for name, side in zip(_SIDES, (found.chosen, found.rejected), strict=True):
            offsets = pa.array(side.indptr.astype(np.int32))
            columns[f"{name}_tokens"] = pa.array(side.tokens.astype(np.int32))
            columns[f"{name}_features"] = pa.ListArray.from_arrays(offsets, pa.array(side.features.astype(np.uint32)))
            columns[f"{name}_count"] = pa.ListArray.from_arrays(offsets, pa.array(side.count.astype(np.uint32)))
        self._features.put(self._path, shard, entry, pa.table(columns))

    def read(self, shard: int, entry: ShardEntry) -> ControlShard | None:
        """A shard's; None where they are missing."""
        table = self._features.get(self._path, shard, entry)
        if table is None:
            return None
        dense = table["dense"].combine_chunks()
        values = dense.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        rows = table["row"].to_numpy()
        return ControlShard(rows, values.reshape(len(rows), -1), *(_firings(table, name) for name in _SIDES))


def _firings(table: Any, name: str) -> Firings:
    features, count = (table[f"{name}_{kind}"].combine_chunks() for kind in ("features", "count"))
    lengths = features.value_lengths().to_numpy(zero_copy_only=False)
    return Firings(
        tokens=table[f"{name}_tokens"].to_numpy().astype(np.int64),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        features=features.flatten().to_numpy(zero_copy_only=False).astype(np.int64),
        count=count.flatten().to_numpy(zero_copy_only=False).astype(np.int64),
    )
