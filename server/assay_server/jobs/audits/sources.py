"""Which model wrote which response, where a dataset's metadata says so: columns beside the SAE's.

Two metadata keys name the writers where they are equal but for "chosen" and "rejected", and speak of a model or a source. A
source is a value of theirs. Which sources there are, and in which order, depends on the pairs they tell apart, never on which
response was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay_server.audit.matrices import Csr, Ints
from assay_server.audit.watch import Check, go_on
from assay_server.errors import InvalidItem
from assay_server.store.datasets import Dataset, Datasets

MOST_SOURCES = 256
# What a key must say beside the side, the likelier one first: there are keys of scores and lengths too.
_WRITERS = ("model", "source", "generator", "policy", "author", "writer", "llm")
_SIDE = re.compile("chosen|rejected", re.IGNORECASE)
_LOOKED_FOR = "chosen_model and rejected_model, model_chosen and model_rejected, chosen-source and rejected-source"


@dataclass(frozen=True, eq=False)
class SourceColumns:
    """The sources of all pairs, usable or not. Implements ``jobs.datasets.shards.OtherColumns``.

    Attributes:
        names: "source/NAME", those that tell most pairs apart first; of equal ones by name.
        values: 1 where it wrote the chosen response alone, −1 where it wrote the rejected one alone; int8 [pairs, names].
    """

    names: tuple[str, ...]
    values: Csr

    def columns(self, rows: Ints) -> tuple[Csr, Csr]:
        """See ``OtherColumns``."""
        values = self.values[rows]
        return Csr(values.astype(np.int64)), Csr(values.astype(np.float32))

    def frequent(self, least: int) -> SourceColumns:
        """Those that tell at least so many pairs apart."""
        kept = int((_told(self.values) >= least).sum())
        return SourceColumns(self.names[:kept], Csr(self.values[:, :kept]))


def source_keys(keys: Sequence[str]) -> tuple[str, str] | None:
    """The metadata keys that name the writers of the chosen and of the rejected responses; None where there are none."""
    known = set(keys)
    found: list[tuple[int, str, str]] = []
    for key in known:
        sides = list(_SIDE.finditer(key))
        if len(sides) != 1 or sides[0].group().lower() != "chosen":
            continue
        place, said = sides[0].span(), sides[0].group()
        word = "REJECTED" if said.isupper() else "Rejected" if said[0].isupper() else "rejected"
        other, rest = key[: place[0]] + word + key[place[1] :], (key[: place[0]] + key[place[1] :]).lower()
        kinds = [kind for kind, writer in enumerate(_WRITERS) if writer in rest]
        if other in known and kinds:
            found.append((kinds[0], key, other))
    return min(found)[1:] if found else None


def require_sources(keys: Sequence[str]) -> tuple[str, str]:
    """The same. Raises InvalidItem (SOURCES_UNKNOWN) where there are none."""
    found = source_keys(keys)
    if found is None:
        raise InvalidItem(
            f"The metadata does not name the models that wrote the responses, so provenance cannot be controlled for: no two of "
            f"its {len(keys)} keys are like {_LOOKED_FOR}.",
            reason="SOURCES_UNKNOWN",
            field="options.nuisances",
            details={"keys": len(keys)},
        )
    return found


def source_columns(datasets: Datasets, dataset: Dataset, *, check: Check = go_on) -> SourceColumns:
    """Every source of a dataset, at most 256; none where its metadata names none. ``check`` is asked before each shard.

    Raises:
        DataLoss: a shard of pairs is damaged.
    """
    keys = source_keys(dataset.metadata_keys)
    place: dict[str, int] = {}
    rows, columns, signs = list[int](), list[int](), list[int]()
    for index, entry in enumerate(dataset.shards if keys else ()):
        check()
        for row, entries in enumerate(datasets.columns(dataset, index, ("metadata",))["metadata"].to_pylist(), entry.start):
            held = dict(entries)
            chosen, rejected = (held.get(key, "") for key in keys or ())
            if chosen == rejected:
                continue
            for source, sign in ((chosen, 1), (rejected, -1)):
                if source:
                    rows.append(row)
                    columns.append(place.setdefault(source, len(place)))
                    signs.append(sign)
    where = (np.array(rows, np.int64), np.array(columns, np.int64))
    values = Csr((np.array(signs, np.int8), where), shape=(dataset.pairs, len(place)))
    told, names = _told(values), list(place)
    order = sorted(range(len(names)), key=lambda one: (-int(told[one]), names[one]))[:MOST_SOURCES]
    return SourceColumns(tuple(f"source/{names[one]}" for one in order), Csr(values[:, order]))


def _told(values: Csr) -> Ints:
    """Pairs that each source tells apart, [sources]."""
    return np.bincount(values.indices, minlength=values.shape[1]).astype(np.int64)
