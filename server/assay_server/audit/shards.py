"""What the views read: a dataset's pooled features, shard by shard, never whole in memory.

A dataset is any re-iterable of `PairShard`s in row order. Shards hold usable pairs only; `rows` says where each stands in the
dataset, so that evidence can be found again and halves (even and odd rows) do not depend on which pairs were usable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from assay_server.audit.matrices import Csr, Floats, Ints

BY_MAX = "@max"  # ends the name of a feature by max: "feature/17@max"


@dataclass(frozen=True, eq=False)
class PairShard:
    """Some consecutive usable pairs of a dataset.

    Frequencies are shares of a span's tokens on which a feature fires, in (0, 1]; `max` values are largest activations.
    """

    rows: Ints  # [pairs] row in the dataset, ascending
    prompts: Ints  # [pairs] prompt id; equal ids are one prompt, in every shard
    tokens: Ints  # [pairs, 3] tokens of the prompt, chosen and rejected spans
    freq_chosen: Csr  # [pairs, d_sae] float32
    freq_rejected: Csr  # [pairs, d_sae] float32
    freq_prompt: Csr  # [pairs, d_sae] float32
    max_chosen: Csr  # [pairs, d_sae] float32, same pattern as freq_chosen
    max_rejected: Csr  # [pairs, d_sae] float32, same pattern as freq_rejected
    nuisance: Floats  # [pairs, nuisances] differences, chosen minus rejected; no columns where nothing is controlled
    directions: Csr  # [pairs, other concepts] int64 in {-1, 0, 1}: which response shows it (a direction, a descriptor, a word)
    groups: Csr  # [pairs, given groups] 0/1 int64: conditions that are known beforehand (metadata values, stated ones)
    direction_strengths: Csr | None = None  # like directions, float64: how far the two responses are apart; None: not known


class Shards(Protocol):
    """A dataset that can be read as often as needed, in the same shards and order each time."""

    @property
    def pairs(self) -> int:
        """Usable pairs."""
        ...

    @property
    def d_sae(self) -> int:
        """SAE features."""
        ...

    def __iter__(self) -> Iterator[PairShard]: ...


@dataclass(frozen=True, eq=False)
class ConceptSet:
    """The concepts that are tested: columns of `members` first, then those of `PairShard.directions`.

    The last columns of `members`, one feature each, count as present by max instead of frequency: see `thresholds`.
    """

    names: tuple[
        str, ...
    ]  # "feature/17", "cluster/3", "concepts/...", "feature/17@max", "text/bold", "word/sorry"; one per column
    members: Csr  # [d_sae, concepts by features] 0/1 int64
    thresholds: Floats = field(default_factory=lambda: np.zeros(0))  # [features by max] present from this max on
    directions: Ints | None = None  # the columns of `PairShard.directions` that stand behind the last names; None: all of them
    second_p: Floats | None = None  # [concepts] p of another test that a finding must pass too (log-odds of words); 0 elsewhere
