"""Memory: with a 65,536-feature SAE on 8,192 batch tokens, no tensor of tokens x features is ever whole.

Every tensor that any operation makes is measured, views too; none may exceed the stated bound of a block,
``BLOCK_ELEMENTS``. And a process of its own must not grow by more than a few blocks, where the whole tensor takes 2 GiB.
"""

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from assay_server.subject.pooling import pool
from assay_server.subject.sae import BLOCK_ELEMENTS, make_encoder
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.saes import build_sae
from tests.support.waiting import PATIENCE

TOKENS, WIDE = 8_192, 65_536
UNEVEN = [0, *np.cumsum([1] * 2_000 + [3] * 500 + [TOKENS - 3_500]).tolist()]  # many short spans: spans x features is bounded too


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0
        self.operation = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.numel() > self.elements:
                self.elements, self.operation = leaf.numel(), str(func)
        return out


def wide(name: str) -> Any:
    sae = build_sae(name, d_sae=WIDE).eval().requires_grad_(False)
    for bias in ("b_enc", "b_gate"):
        if hasattr(sae, bias):
            getattr(sae, bias).data -= 2.5  # sparse, as trained SAEs are: what fires is sent, and is no block's matter
    return sae


@pytest.mark.slow
@pytest.mark.parametrize("name", ["standard", "topk_rescaled"])
def test_no_tensor_outgrows_a_block_whatever_the_saes_width(name: str) -> None:
    assert TOKENS * WIDE >= 64 * BLOCK_ELEMENTS
    encoder = make_encoder(wide(name))
    h = torch.randn(TOKENS, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), Largest() as largest:
        rows = pool(encoder, h, UNEVEN)
    assert largest.elements <= BLOCK_ELEMENTS, largest.operation
    assert largest.elements >= BLOCK_ELEMENTS // 8, "the batch was not large enough to test anything"
    last = rows.span == len(UNEVEN) - 2
    with torch.inference_mode():
        some = encoder._sae.encode(h[UNEVEN[-2] : UNEVEN[-2] + 64]).amax(0)
    dense = np.zeros(WIDE, np.float32)
    dense[rows.feature[last]] = rows.maximum[last]
    assert np.all(dense >= some.numpy() - 1e-4)
    assert (some > 0).any()


@pytest.mark.parametrize("name", ["standard", "gated", "jumprelu", "topk"])
def test_the_bound_of_a_block_holds_for_every_architecture(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    bound = 40_000
    monkeypatch.setattr("assay_server.subject.sae.BLOCK_ELEMENTS", bound)
    encoder = make_encoder(build_sae(name, d_sae=2_048).requires_grad_(False))
    h = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    spans = [0, *np.cumsum([1] * 200 + [56]).tolist()]
    with torch.inference_mode(), Largest() as largest:
        pool(encoder, h, spans)
    assert bound // 2 < largest.elements <= bound, largest.operation
    assert bound * 13 < 256 * 2_048


GROWTH = """
    import json, resource, sys
    sys.path.insert(0, {root!r})
    import numpy as np, torch
    torch.set_num_threads(1)
    from assay_server.subject.pooling import pool
    from assay_server.subject.sae import make_encoder
    from tests.server.subject.test_memory import TOKENS, UNEVEN, wide
    encoder = make_encoder(wide({name!r}))
    h = torch.randn(TOKENS, 64)
    with torch.inference_mode():
        pool(encoder, h[:64], [0, 64])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows = pool(encoder, h, UNEVEN)
    print(json.dumps([before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(rows.span)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from Linux's accounting")
def test_a_process_grows_by_a_few_blocks_and_not_by_the_whole_tensor() -> None:
    if psutil.virtual_memory().available < 3 * 2**30:
        pytest.skip("less than 3 GiB of memory is free")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    script = textwrap.dedent(GROWTH.format(root=root, name="topk"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    before, after, entries = json.loads(done.stdout.strip().splitlines()[-1])
    grown = (after - before) * 1024
    assert entries > 10_000
    assert grown < 8 * BLOCK_ELEMENTS * 4 < TOKENS * WIDE * 4 / 7
