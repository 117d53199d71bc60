"""The engine on a GPU: random weights in the shapes of an 8B Llama, a 65,536-feature TopK SAE, lengths like real pairs'.

    python -m benchmarks.gpu [--pairs 512] [--rounds 3] [--budget 16384]        needs a CUDA device
    python -m benchmarks.gpu --shape tiny --device cpu                          the same code at toy size, anywhere

Speed does not depend on what the weights are, so none are fetched. Contenders are those of ``benchmarks.engine``: the plain
script, the script tuned, and the engine. Model FLOP utilisation counts only useful work (blocks that must run on tokens that must
be read, attention over each path, the SAE's encoder on response tokens) over the peak that a large matrix product reaches there.
"""

import sys

import numpy as np
import torch
from torch import nn

from benchmarks.common import arguments, interleave, ratio, timed
from experiments.results import Metric, at_least, write_result

SHAPES = {
    "llama-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "rope_theta": 500000.0,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 224,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 2048,
    },
}
FEATURES = {"llama-8b": 65_536, "tiny": 1_024}


def main() -> None:
    """Measure and write the result."""
    args = arguments(__doc__, shape="llama-8b", device="cuda:0", pairs=512, rounds=3, budget=16384, k=64, dtype="bfloat16")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("benchmarks.gpu needs a CUDA device; torch sees none. (--shape tiny --device cpu runs the same code anywhere.)")
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    whole, subject = build(args.shape, device, dtype, args.k)
    trees = synthetic_trees(args.pairs, SHAPES[args.shape]["vocab_size"])
    layer = subject.hook.blocks_run
    contenders = {
        "plain": lambda: timed(lambda: plain(whole, subject, trees, layer, tuned=False)),
        "tuned": lambda: timed(lambda: plain(whole, subject, trees, layer, tuned=True)),
        "engine": lambda: timed(lambda: engine(subject, trees, args.budget)),
    }
    for run in contenders.values():  # kernels are chosen and memory is taken before the clock counts
        run()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = interleave(contenders, args.rounds)
    peak = peak_flops(device, dtype)
    work = useful_flops(args.shape, layer, trees)
    best = min(seconds["engine"])
    metrics = [
        at_least("engine / plain script", ratio(seconds, "plain", "engine"), "x", 7.0, "engine >= 7x the plain script"),
        at_least("engine / tuned script", ratio(seconds, "tuned", "engine"), "x", 1.85, "engine >= 1.85x that script tuned"),
        at_least(
            "model FLOP utilisation, end to end", work / best / peak, "share", 0.50, "model FLOP utilisation >= 50% end to end"
        ),
        Metric("engine speed, best round", len(trees) / best, "pairs/s"),
        Metric("engine speed, best round", sum(tree.size for tree in trees) / best, "tokens/s"),
        Metric("peak of a large matrix product", peak / 1e12, "TFLOP/s"),
    ]
    if device.type == "cuda":
        metrics.append(Metric("peak device memory", torch.cuda.max_memory_allocated() / 2**30, "GiB"))
    name = "gpu" if args.shape == "llama-8b" else f"gpu-{args.shape}"
    write_result(name, metrics, seed=0, raw={"seconds": seconds, "useful_flops": work, "pairs": len(trees)})


def build(shape: str, device: torch.device, dtype: torch.dtype, k: int):
    """The whole random model, and a subject cut at its middle block that shares its weights."""
    from assay_server.subject.hooks import parse_hook
    from assay_server.subject.loading import LoadedModel
    from assay_server.subject.reader import TreeReader
    from assay_server.subject.subject import Subject
    from sae_lens import TopKSAE, TopKSAEConfig
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape])
    with torch.device(device):
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        whole = LlamaModel(config).eval().requires_grad_(False)
        cut = LlamaModel(LlamaConfig(**{**SHAPES[shape], "num_hidden_layers": 1})).eval().requires_grad_(False)
        torch.set_default_dtype(default)
    hook = parse_hook(f"blocks.{config.num_hidden_layers // 2}.hook_resid_post")
    cut.embed_tokens, cut.norm, cut.config = whole.embed_tokens, nn.Identity(), config
    cut.layers = nn.ModuleList(list(whole.layers)[: hook.blocks_run])
    sae = TopKSAE(
        TopKSAEConfig(d_in=config.hidden_size, d_sae=FEATURES[shape], k=k, dtype=str(dtype).split(".")[1], device=str(device))
    )
    loaded = LoadedModel(cut, cut.layers, None, "LlamaModel", "", len(whole.layers), config.hidden_size, 8192, "", "", "")
    subject = Subject(loaded, sae, hook, None, TreeReader(loaded, hook, device), device)  # type: ignore[arg-type]
    return whole, subject


def synthetic_trees(count: int, vocabulary: int):
    """Pairs whose lengths follow lognormals with the means of HH-RLHF harmless-base: 140, 40 and 53 tokens."""
    from assay_server.subject.types import SpanName, TokenTree

    rng = np.random.default_rng(0)

    def lengths(mean: float, sigma: float) -> np.ndarray:
        return np.clip(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, count), 4, 1024).astype(int)

    trees = []
    for prompt, chosen, rejected in zip(lengths(140, 0.8), lengths(40, 0.8), lengths(53, 0.8), strict=True):
        ids = [rng.integers(0, vocabulary, n).astype(np.int32) for n in (prompt, chosen, rejected)]
        spans = {
            SpanName.PROMPT: np.arange(1, prompt, dtype=np.int32),
            SpanName.CHOSEN: np.arange(prompt, prompt + chosen, dtype=np.int32),
            SpanName.REJECTED: np.arange(prompt + chosen, prompt + chosen + rejected, dtype=np.int32),
        }
        trees.append(TokenTree(ids[0], (ids[1], ids[2]), spans))
    return trees


def engine(subject, trees, budget: int) -> None:
    """All trees through the engine, batches as the planner makes them on an accelerator."""
    from assay_server.batching import Planner
    from assay_server.subject.subject import TreeRequest

    planner = Planner(budget=budget, padded=subject.device.type != "cpu")
    waiting = list(trees)
    while waiting:
        chosen = planner.select([tree.size for tree in waiting], 0.0)
        subject.read(subject.prepare([TreeRequest(waiting[index]) for index in chosen]))
        for index in reversed(chosen):
            del waiting[index]


@torch.inference_mode()
def plain(whole, subject, trees, layer: int, *, tuned: bool) -> None:
    """Padded batches of 16 sequences, encoded whole, max over the response."""
    from assay_server.subject.reader import tree_paths
    from assay_server.subject.types import SpanName

    sequences = [
        (path, len(path) - len(tree.spans[name]))
        for tree in trees
        for path, name in zip(tree_paths(tree), (SpanName.CHOSEN, SpanName.REJECTED), strict=True)
    ]
    if tuned:
        sequences.sort(key=lambda item: len(item[0]))
    kept, whole.config._attn_implementation = whole.layers, "sdpa"
    whole.layers = nn.ModuleList(list(kept)[:layer]) if tuned else kept
    for start in range(0, len(sequences), 16):
        batch = sequences[start : start + 16]
        longest = max(len(path) for path, _ in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.int64)
        mask, response = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for row, (path, first) in enumerate(batch):
            ids[row, : len(path)], mask[row, : len(path)], response[row, first : len(path)] = torch.from_numpy(path), 1, True
        ids, mask, response = ids.to(subject.device), mask.to(subject.device), response.to(subject.device)
        hidden = whole(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states[layer]
        subject.sae.encode(hidden).masked_fill(~response[:, :, None], 0).amax(dim=1).cpu()
    whole.layers = kept


def useful_flops(shape: str, layer: int, trees) -> float:
    """Floating-point operations that reading the trees needs at least."""
    from assay_server.subject.types import SpanName

    s = SHAPES[shape]
    width, heads = s["hidden_size"], s["num_attention_heads"]
    kv = s["num_key_value_heads"] * width // heads
    weights = 2 * width * width + 2 * width * kv + 3 * width * s["intermediate_size"]
    tokens = sum(tree.size for tree in trees)
    seen = sum(  # (query, key) pairs of every path, the trunk's once
        len(t.trunk) * (len(t.trunk) + 1) / 2 + sum(len(b) * len(t.trunk) + len(b) * (len(b) + 1) / 2 for b in t.branches)
        for t in trees
    )
    response = sum(len(tree.spans[name]) for tree in trees for name in (SpanName.CHOSEN, SpanName.REJECTED))
    return layer * (2 * weights * tokens + 4 * width * seen) + 2 * width * FEATURES[shape] * response


@torch.inference_mode()
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """What a large matrix product reaches, FLOP/s."""
    n = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))

    def run() -> None:
        for _ in range(5):
            a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()

    run()
    return 5 * 2 * n**3 / min(timed(run) for _ in range(3))


if __name__ == "__main__":
    sys.exit(main())
