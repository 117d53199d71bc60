"""Peak memory of encoding and pooling: 8,192 batch tokens, 65,536 features, every kind of encoder.

    python -m benchmarks.memory [--tokens 8192] [--features 65536] [--d-in 256]

Reports the largest tensor that any operation made, and the rise of the process's peak resident memory, beside what one whole
tensor of tokens x features would take.
"""

import resource
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common import arguments
from experiments.results import Metric, at_most, write_result


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that an operation's result had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def main() -> None:
    """Measure and write the result."""
    args = arguments(__doc__, tokens=8192, features=65536, d_in=256, k=64)
    whole = args.tokens * args.features
    metrics = [Metric("one whole tensor of tokens x features", whole * 4 / 2**20, "MiB")]
    raw = {}
    for name in ("topk", "standard", "jumprelu", "gated"):
        largest, rise = measure(name, args)
        raw[name] = {"largest_elements": largest, "resident_rise_mib": rise}
        goal = "no tensor of tokens x features is ever whole"
        metrics.append(at_most(f"{name}: largest tensor / whole", largest / whole, "share", 0.25, goal))
        metrics.append(Metric(f"{name}: rise of peak resident memory", rise, "MiB"))
    write_result("memory", metrics, seed=0, raw=raw)


@torch.inference_mode()
def measure(name: str, args) -> tuple[int, float]:
    """Elements of the largest tensor, and MiB that peak resident memory rose by."""
    from assay_server.subject.pooling import pool
    from assay_server.subject.sae import make_encoder

    encoder = make_encoder(random_sae(name, args))
    residual = torch.randn(args.tokens, args.d_in)
    bounds = list(range(0, args.tokens + 1, 64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with LargestTensor() as seen:
        pool(encoder, residual, bounds)
    return seen.elements, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def random_sae(name: str, args):
    """A random SAE whose features fire about as rarely as a trained one's."""
    from sae_lens import (
        GatedSAE,
        GatedSAEConfig,
        JumpReLUSAE,
        JumpReLUSAEConfig,
        StandardSAE,
        StandardSAEConfig,
        TopKSAE,
        TopKSAEConfig,
    )

    torch.manual_seed(0)
    common = {"d_in": args.d_in, "d_sae": args.features}
    sae = {
        "topk": lambda: TopKSAE(TopKSAEConfig(**common, k=args.k)),
        "standard": lambda: StandardSAE(StandardSAEConfig(**common)),
        "jumprelu": lambda: JumpReLUSAE(JumpReLUSAEConfig(**common)),
        "gated": lambda: GatedSAE(GatedSAEConfig(**common)),
    }[name]()
    sae.W_enc.data.normal_(std=args.d_in**-0.5)
    for bias in ("b_enc", "b_gate", "b_mag"):
        if getattr(sae, bias, None) is not None and name != "topk":
            getattr(sae, bias).data.fill_(-3.0)
    return sae


if __name__ == "__main__":
    sys.exit(main())
