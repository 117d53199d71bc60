"""Readers: prefixes are shared where a probe proves it right, and paths are read alone everywhere else."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from assay_server.errors import SubjectMismatch
from assay_server.subject import attention
from assay_server.subject.hooks import parse_hook
from assay_server.subject.loading import load_model
from assay_server.subject.reader import PathReader, TreeReader, tree_paths
from assay_server.subject.subject import Subject, TreeRequest
from assay_server.subject.types import TokenTree
from torch.nn import functional
from transformers import AttentionInterface

from tests.server.subject.conftest import PAIRS, Bench, for_family, hold_pair
from tests.support.models import BLOCKS, HOOK, LAYER, WIDTH
from tests.support.reference import Comparison

CPU = torch.device("cpu")


@pytest.fixture
def attend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Replaces what transformers calls under the engine's name, for one test."""
    yield lambda function: AttentionInterface.register(attention.NAME, function)
    AttentionInterface.register(attention.NAME, attention.tree_attention)


def causal_over_the_row(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: Any = None, **_: Any) -> Any:
    """An architecture that ignores trees: tokens see other branches, and other trees."""
    grouped = query.shape[1] != key.shape[1]
    out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2), None


def not_a_number(module: Any, query: Any, *_: Any, **__: Any) -> Any:
    return torch.full_like(query.transpose(1, 2), float("nan")), None


def raising(error: Exception) -> Any:
    def attend(*_: Any, **__: Any) -> Any:
        raise error

    return attend


def hold_all(bench: Bench, subject: Subject, which: tuple[str, str]) -> None:
    pairs = list(PAIRS.values())
    comparison = Comparison()
    pooled = subject.read(subject.prepare([TreeRequest(subject.tokenizer.pair(pair), True) for pair in pairs]))
    for pair, got in zip(pairs, pooled, strict=True):
        hold_pair(comparison, bench, which, pair, got)
    comparison.finish()


@pytest.mark.parametrize(
    "function",
    [
        causal_over_the_row,
        not_a_number,
        raising(SubjectMismatch("sinks", reason="ATTENTION")),
        raising(RuntimeError("shape")),
        raising(AttributeError("'NoneType' object has no attribute 'to'")),
        raising(KeyError("assay_tree")),
        raising(IndexError("mask")),
    ],
    ids=lambda f: f.__name__,
)
def test_attention_that_bends_or_refuses_trees_costs_sharing_and_never_correctness(
    bench: Bench, attend: Callable[[Any], None], function: Any
) -> None:
    attend(function)
    subject = bench.load("qwen2", "topk")
    assert not isinstance(subject.reader, TreeReader)
    assert isinstance(subject.reader, PathReader)
    hold_all(bench, subject, ("qwen2", "topk"))


@pytest.mark.parametrize("family", ["bloom", "mpt", "masked_window", "falcon"])
def test_architectures_outside_the_attention_interface_are_read_path_by_path(bench: Bench, family: str) -> None:
    """ALiBi (Bloom, MPT, Falcon), and a window that only the mask knows and that the probe is too short to meet (Qwen2-MoE)."""
    subject = bench.subject(family, "topk")
    assert not isinstance(subject.reader, TreeReader)
    hold_all(bench, subject, (family, "topk"))


def test_a_window_that_some_layers_have_and_others_name_as_none_is_shared_rightly(bench: Bench) -> None:
    """EXAONE-4 keeps ``sliding_window`` on layers of full attention too; texts here are longer than it and the probe is not."""
    subject = bench.subject("exaone4", "topk")
    assert isinstance(subject.reader, TreeReader)
    hold_all(bench, subject, ("exaone4", "topk"))


def test_the_reader_that_lost_leaves_no_hook_on_the_model(bench: Bench) -> None:
    for family in ("llama", "bloom"):
        block = bench.load(family, "topk")._model.blocks[LAYER]
        assert len(block._forward_hooks) + len(block._forward_pre_hooks) == 1


def random_tree(generator: np.random.Generator, trunk: int, *branches: int) -> TokenTree:
    def ids(n: int) -> Any:
        return generator.integers(5, 500, n).astype(np.int32)

    return TokenTree(ids(trunk), tuple(ids(n) for n in branches), {})


@pytest.mark.parametrize(("family", "reader"), [("llama", TreeReader), ("llama", PathReader), ("bloom", PathReader)])
def test_residuals_come_tree_after_tree_trunk_first_then_each_branch(bench: Bench, family: str, reader: Any) -> None:
    model = load_model(str(bench.model_folder(family)), parse_hook(HOOK), device=CPU, dtype=torch.float32, allow_download=False)
    generator = np.random.default_rng(0)
    trees = [random_tree(generator, *shape) for shape in ((7, 3, 30), (12,), (1, 1, 1), (40, 0, 5), (3, 0, 0), (110, 4, 9))]
    reading = reader(model, parse_hook(HOOK), CPU)
    batch = reading.prepare(trees)
    with torch.inference_mode():
        residual = reading.read(batch)
    assert residual.shape == (sum(tree.size for tree in trees), WIDTH)
    start = 0
    for tree in trees:
        offset = len(tree.trunk)
        for path, branch in zip(tree_paths(tree), tree.branches or [tree.trunk[:0]], strict=True):
            want = bench.reader(family).residual(path.tolist())
            n = len(tree.trunk)
            torch.testing.assert_close(residual[start : start + n], want[:n], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(residual[start + offset :][: len(branch)], want[n:], rtol=1e-4, atol=1e-4)
            offset += len(branch)
        start += tree.size
    paths = [len(path) for tree in trees for path in tree_paths(tree)]
    assert batch.computed == (len(paths) * max(paths) if reading.padded else sum(tree.size for tree in trees))


@pytest.mark.parametrize(
    ("hook", "layer", "blocks"),
    [
        ("blocks.0.hook_resid_pre", 0, 1),
        ("blocks.0.hook_resid_post", 1, 1),
        ("blocks.1.hook_resid_pre", 1, 1),
        ("blocks.2.hook_resid_pre", 2, 2),
        ("blocks.2.hook_resid_post", 3, 3),
        (f"blocks.{BLOCKS - 1}.hook_resid_post", None, BLOCKS),
    ],
)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "gpt_neox"])
def test_a_hook_is_read_where_its_name_says_and_no_block_runs_after_it(
    bench: Bench, family: str, hook: str, layer: int | None, blocks: int
) -> None:
    place = parse_hook(hook)
    model = load_model(str(bench.model_folder(family)), place, device=CPU, dtype=torch.float32, allow_download=False)
    assert len(model.blocks) == blocks
    tree = random_tree(np.random.default_rng(1), 50)
    whole = bench.model(family)
    inputs: dict[str, Any] = {}
    last = whole.get_decoder() if family != "gpt2" else whole.transformer
    norm = next(getattr(last, name) for name in ("norm", "ln_f", "final_layer_norm") if hasattr(last, name))
    handle = norm.register_forward_pre_hook(lambda _, args: inputs.update(h=args[0]))  # the last block's output, before the norm
    with torch.inference_mode():
        states = whole(input_ids=torch.from_numpy(tree.trunk.astype(np.int64))[None], output_hidden_states=True).hidden_states
        handle.remove()
        want = inputs["h"] if layer is None else states[layer]
        for reader in (TreeReader(model, place, CPU), PathReader(model, place, CPU)):
            torch.testing.assert_close(reader.read(reader.prepare([tree])), want[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox", "gpt2"])
def test_the_last_mlp_runs_on_needed_rows_alone_and_changes_none_of_them(bench: Bench, family: str) -> None:
    subject = bench.subject(family, "topk")
    reader = subject.reader
    assert isinstance(reader, TreeReader)
    batch = subject.prepare([TreeRequest(subject.tokenizer.pair(for_family(pair, family))) for pair in PAIRS.values()])
    mlp, seen = reader._block.mlp, []
    handle = next(module for module in mlp.modules() if not list(module.children())).register_forward_pre_hook(
        lambda _, args: seen.append(args[0].shape[-2])
    )
    with torch.inference_mode():
        whole, narrow = reader.read(batch.trees), reader.read(batch.trees, batch.needed)
    handle.remove()
    assert seen == [batch.tokens, len(batch.needed)]
    assert len(batch.needed) < 0.9 * batch.tokens
    torch.testing.assert_close(narrow[batch.needed], whole[batch.needed], rtol=1e-5, atol=1e-5)
    assert narrow.isfinite().all()
