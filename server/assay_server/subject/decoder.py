"""The SAE's decoder rows as plain arrays, to be compared with directions off the device's thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class DecoderRows:
    """Rows of W_dec, float32, a block at a time.

    Args:
        sae: a loaded ``sae_lens.SAE``. What lies on an accelerator is copied to the host once, in its own dtype; make this on the
            thread that loads.
    """

    def __init__(self, sae: Any) -> None:
        self._rows: Any = sae.W_dec.detach().cpu()

    @property
    def shape(self) -> tuple[int, int]:
        """``(d_sae, d_in)``."""
        d_sae, d_in = self._rows.shape
        return int(d_sae), int(d_in)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return self._rows[rows].float().numpy()
