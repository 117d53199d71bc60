"""Conditions that are known before a test: metadata values, and sets of rows (stated, or a cluster of an earlier audit)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assay_server.audit.findings import Condition
from assay_server.audit.matrices import Csr, Ints
from assay_server.audit.watch import Check, go_on
from assay_server.errors import InvalidItem
from assay_server.store.datasets import Dataset, Datasets

MAX_VALUES = 256


@dataclass(frozen=True, slots=True)
class MetadataGroups:
    """Pairs whose metadata has a value, a condition for each of ``values`` (key and value)."""

    values: tuple[tuple[str, str], ...]

    @property
    def count(self) -> int:
        """Conditions."""
        return len(self.values)

    @property
    def metadata_keys(self) -> tuple[str, ...]:
        """Keys that are looked at."""
        return tuple(sorted({key for key, _ in self.values}))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Their names."""
        return tuple(Condition(metadata_name(key, value)) for key, value in self.values)

    def columns(self, rows: Ints, metadata: Sequence[Mapping[str, str]]) -> Csr:
        """See ``Groups``."""
        place = {value: index for index, value in enumerate(self.values)}
        found = [(row, place[entry]) for row, entries in enumerate(metadata) for entry in entries.items() if entry in place]
        at = np.array(found, np.int64).reshape(-1, 2)
        return Csr((np.ones(len(at), np.int64), (at[:, 0], at[:, 1])), shape=(len(rows), len(self.values)))


@dataclass(frozen=True, eq=False)
class RowGroup:
    """One condition: some rows of the dataset, ascending."""

    members: Ints

    count = 1
    metadata_keys: tuple[str, ...] = ()

    def columns(self, rows: Ints, metadata: Sequence[Mapping[str, str]]) -> Csr:
        """See ``Groups``."""
        return Csr(np.isin(rows, self.members).astype(np.int64)[:, None])


def metadata_name(key: str, value: str) -> str:
    """The name of a condition on metadata."""
    return f"metadata/{key}={value}"


def metadata_groups(
    datasets: Datasets, dataset: Dataset, keys: Sequence[str], min_inside: int, *, check: Check = go_on
) -> MetadataGroups:
    """The values of some metadata keys as conditions: those that enough pairs have, and of each key the most frequent ones.

    ``check`` is asked before each shard; what it raises ends the work.

    Raises:
        InvalidItem: UNKNOWN_METADATA_KEY: no pair has the key.
    """
    values: list[tuple[str, str]] = []
    counts = _counts(datasets, dataset, keys, check)
    for key in keys:
        if not counts[key]:
            raise InvalidItem(
                f"No pair has the metadata key {key!r}; there are {len(dataset.metadata_keys)} keys.",
                reason="UNKNOWN_METADATA_KEY",
                field="options.metadata_keys",
                details={"key": key, "keys": len(dataset.metadata_keys)},
            )
        often = sorted(((-count, value) for value, count in counts[key].items() if count >= min_inside))
        values += [(key, value) for _, value in often[:MAX_VALUES]]
    return MetadataGroups(tuple(values))


def rows_with_metadata(datasets: Datasets, dataset: Dataset, key: str, value: str) -> Ints:
    """The rows whose metadata holds exactly this."""
    found: list[int] = []
    for index, entry in enumerate(dataset.shards):
        column = datasets.columns(dataset, index, ("metadata",))["metadata"].to_pylist()
        found += [entry.start + place for place, entries in enumerate(column) if (key, value) in entries]
    return np.array(found, np.int64)


def _counts(datasets: Datasets, dataset: Dataset, keys: Sequence[str], check: Check) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {key: Counter() for key in keys}
    for index in range(len(dataset.shards) if keys else 0):
        check()
        for entries in datasets.columns(dataset, index, ("metadata",))["metadata"].to_pylist():
            for key, value in entries:
                if key in counts:
                    counts[key][value] += 1
    return counts
