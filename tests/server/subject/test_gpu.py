"""On a CUDA device: the padded attention, the padded pooling and the short dtypes, against the plain loop.

The same paths run on the CPU in ``test_attention`` and ``test_parity``; here they meet the device's own kernels.
"""

import pytest
import torch
from assay_server.subject.reader import TreeReader
from assay_server.subject.subject import TreeRequest

from tests.server.subject.conftest import PAIRS, Bench, for_family, hold_pair, hold_precision
from tests.support.models import SHARING
from tests.support.reference import Comparison
from tests.support.saes import MAKERS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")]


@pytest.fixture(autouse=True)
def full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.mark.parametrize("sae", MAKERS)
@pytest.mark.parametrize("family", SHARING)
def test_float32_on_the_device_equals_the_plain_loop_on_the_cpu(bench: Bench, family: str, sae: str) -> None:
    """Another device sums in another order: 3e-4 of ``max`` and 3e-5 of the span's largest, three times the CPU's tolerance."""
    subject = bench.load(family, sae, device="cuda", dtype="float32")
    assert isinstance(subject.reader, TreeReader)
    pairs = [for_family(pair, family) for pair in PAIRS.values()]
    pooled = subject.read(subject.prepare([TreeRequest(subject.tokenizer.pair(pair), include_prompt=True) for pair in pairs]))
    comparison = Comparison(rtol=3e-4, atol=3e-5)
    for pair, got in zip(pairs, pooled, strict=True):
        hold_pair(comparison, bench, (family, sae), pair, got)
    comparison.finish(share=0.02)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("sae", MAKERS)
@pytest.mark.parametrize("family", SHARING)
def test_short_dtypes_are_as_close_to_float32_as_the_plain_loop_in_them(bench: Bench, family: str, sae: str, dtype: str) -> None:
    hold_precision(bench, family, sae, dtype, "cuda")


def test_the_fingerprint_is_the_cpus(bench: Bench) -> None:
    here, there = bench.load("llama", "topk", device="cuda", dtype="float32"), bench.subject("llama", "topk")
    assert here.info.model_fingerprint == there.info.model_fingerprint
    assert here.info.sae_fingerprint == there.info.sae_fingerprint
    assert here.info.device == "cuda:0"
