"""Which SAE features lie nearest to a direction: cosines to the decoder's rows, a block of rows at a time."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Decoder(Protocol):
    """Rows [d_sae, d_model] that can be sliced: an array, a memory map, a safetensors slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(d_sae, d_model)``."""
        ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.floating]:
        """Return a block of rows."""
        ...


@dataclass(frozen=True, slots=True)
class NearestFeatures:
    """Features by descending |cosine|, ties by ascending id.

    Attributes:
        features: feature ids, int64 [n], n <= k.
        cosines: signed, float64 [n], in [−1, 1]; negative: the direction points away from what the feature writes.
    """

    features: NDArray[np.int64]
    cosines: NDArray[np.float64]


def nearest_features(direction: NDArray[np.float64], decoder: Decoder, *, k: int = 10, block: int = 8192) -> NearestFeatures:
    """Return the k decoder rows with the largest |cosine| to a direction (METHOD.md §2).

    Args:
        direction: [d_model], finite, not zero, of any length. A probe over features lives in another space: bring it here
            first, as ``weights @ W_dec``.
        decoder: W_dec. A dead row (zero, or not finite) is near to nothing and is left out.
        k: at most this many, >= 1.
        block: rows read at once; memory is O(block · d_model).

    Raises:
        ValueError: shapes do not fit, or the direction has no length.
    """
    d_sae, d_model = decoder.shape
    length = float(np.linalg.norm(direction))
    if direction.shape != (d_model,) or not 0 < length < np.inf or k < 1 or block < 1:
        raise ValueError(f"direction {direction.shape} of length {length} against {d_sae} x {d_model}, k={k}, block={block}")
    unit = direction / length
    features = np.empty(0, dtype=np.int64)
    cosines = np.empty(0, dtype=np.float64)
    for start in range(0, d_sae, block):
        rows = np.asarray(decoder[start : start + block], dtype=np.float64)
        norms = np.linalg.norm(rows, axis=1)
        alive = np.flatnonzero((norms > 0) & np.isfinite(norms))
        near = np.clip(rows[alive] @ unit / norms[alive], -1.0, 1.0)
        features = np.concatenate([features, alive + start])
        cosines = np.concatenate([cosines, near])
        best = np.lexsort((features, -np.abs(cosines)))[:k]
        features, cosines = features[best], cosines[best]
    return NearestFeatures(features=features, cosines=cosines)
