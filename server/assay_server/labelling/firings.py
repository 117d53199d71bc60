"""Which features fire on which tokens of some texts: what labels are made from and measured on.

Invariants:
- Texts are whole: one is either for making labels or held out for measuring them, never both.
- Kept sparse, one row per feature: memory follows the firings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
_NOTHING = -1


@dataclass(frozen=True, slots=True, eq=False)
class Firing:
    """One row's firings: token positions, int64 ascending, and activations, float32, both [firings]."""

    positions: Ids
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class TokenFirings:
    """Firings on the tokens of some texts, text after text.

    Attributes:
        features: feature id of each row, int64 [f], ascending.
        activations: CSR float32 [f, tokens]; what is stored fired (> 0).
        ids: token ids, int64 [tokens].
        before: id of the token before in its text, -1 at its start, int64 [tokens].
        starts: position of each text's first token, and the end of the last, int64 [texts + 1].
        words: the text of each token id.
    """

    features: Ids
    activations: sparse.csr_array
    ids: Ids
    before: Ids
    starts: Ids
    words: Mapping[int, str]

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return len(self.ids)

    @property
    def texts(self) -> int:
        """Texts."""
        return len(self.starts) - 1

    def row_of(self, feature: int) -> int:
        """The row of a feature. Raises KeyError where it was not read."""
        row = int(np.searchsorted(self.features, feature))
        if row == len(self.features) or self.features[row] != feature:
            raise KeyError(feature)
        return row

    def firing(self, feature: int) -> Firing:
        """The firings of one feature."""
        row = self.row_of(feature)
        a, b = self.activations.indptr[row], self.activations.indptr[row + 1]
        return Firing(self.activations.indices[a:b].astype(np.int64), self.activations.data[a:b].astype(np.float32))

    def together(self, features: Sequence[int], weights: Sequence[float] | None = None) -> Firing:
        """The firings of a group as if it were one feature: each member over its own largest activation, weighted, summed."""
        rows = [self.row_of(feature) for feature in features]
        members = sparse.csr_array(self.activations[rows])
        peaks = np.maximum(np.asarray(members.max(axis=1).todense()).reshape(-1), np.finfo(np.float32).tiny)
        scale = (np.ones(len(rows)) if weights is None else np.asarray(weights)) / peaks
        total = np.asarray(members.T @ scale).reshape(-1)
        positions = np.flatnonzero(total > 0).astype(np.int64)
        return Firing(positions, total[positions].astype(np.float32))

    def text_of(self, position: int) -> int:
        """The text that a token belongs to."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1


class FiringsBuilder:
    """Collects texts one at a time. Read every text with the same features.

    Args:
        features: the features that are read, distinct.
    """

    def __init__(self, features: Sequence[int]) -> None:
        self._features = np.array(sorted(features), dtype=np.int64)
        self._order = np.argsort(np.array(features, dtype=np.int64), kind="stable")
        self._parts: list[sparse.csr_array] = []
        self._ids: list[Ids] = []
        self._words: dict[int, str] = {}

    @property
    def texts(self) -> int:
        """Texts so far."""
        return len(self._ids)

    def add(self, ids: Sequence[int], words: Sequence[str], activations: Floats) -> None:
        """Add a text: token ids and texts [tokens], activations [features, tokens] in the order of ``features``."""
        if activations.shape != (len(self._features), len(ids)) or len(words) != len(ids):
            raise ValueError(f"{activations.shape} activations of {len(ids)} tokens and {len(self._features)} features")
        self._parts.append(sparse.csr_array(np.maximum(activations[self._order], 0)))
        self._ids.append(np.array(ids, dtype=np.int64))
        self._words.update(zip(ids, words, strict=True))

    def build(self) -> TokenFirings:
        """All texts so far."""
        sizes = [len(ids) for ids in self._ids]
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
        ids = np.concatenate([np.empty(0, dtype=np.int64), *self._ids])
        before = np.roll(ids, 1)
        before[starts[:-1][np.array(sizes, dtype=np.int64) > 0]] = _NOTHING
        empty = sparse.csr_array((len(self._features), 0), dtype=np.float32)
        activations = sparse.csr_array(sparse.hstack([empty, *self._parts], format="csr"), dtype=np.float32)
        return TokenFirings(self._features, activations, ids, before, starts, dict(self._words))
