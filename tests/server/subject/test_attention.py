"""Tree attention against the definition: every path attended alone, softmax written out."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from assay_server.errors import SubjectMismatch
from assay_server.subject import attention
from assay_server.subject.attention import TreeLayout, reading, tree_attention, tree_positions, visibility
from assay_server.subject.subject import TreeRequest
from assay_server.subject.types import TokenTree
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.server.subject.conftest import PAIRS, Bench, for_family, hold_pair
from tests.support.models import SHARING
from tests.support.reference import Comparison

CPU = torch.device("cpu")


def tree(trunk: int, *branches: int) -> TokenTree:
    return TokenTree(np.zeros(trunk, np.int32), tuple(np.zeros(n, np.int32) for n in branches), {})


def paths(tree: TokenTree) -> list[list[int]]:
    """Flat positions of every root-to-leaf path."""
    trunk, start, out = list(range(len(tree.trunk))), len(tree.trunk), []
    for branch in tree.branches:
        out.append(trunk + list(range(start, start + len(branch))))
        start += len(branch)
    return out or [trunk]


trees = st.builds(tree, st.integers(1, 12), *[st.integers(0, 9)] * 2) | st.builds(tree, st.integers(1, 12))


@given(trees)
def test_a_token_sees_its_own_path_up_to_itself_and_nothing_else(tree: TokenTree) -> None:
    sees: dict[int, set[int]] = {}
    for path in paths(tree):
        for i, token in enumerate(path):
            sees[token] = set(path[: i + 1])
            assert tree_positions(tree)[token] == i
    mask = visibility(tree)
    assert mask.shape == (tree.size, tree.size)
    assert {t: set(np.flatnonzero(mask[t]).tolist()) for t in range(tree.size)} == sees


def alone(query: Tensor, key: Tensor, value: Tensor, window: int | None, scaling: float | None, softcap: float | None) -> Tensor:
    """Causal attention of one path, by definition, in float64: [heads, n, head_dim]."""
    group = query.shape[0] // key.shape[0]
    key, value = key.double().repeat_interleave(group, 0), value.double().repeat_interleave(group, 0)
    scores = query.double() @ key.transpose(1, 2) * (scaling or query.shape[-1] ** -0.5)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    i, j = torch.arange(scores.shape[1])[:, None], torch.arange(scores.shape[1])[None]
    scores = scores.masked_fill((j > i) | (i - j >= (window or 10**9)), float("-inf"))
    return scores.softmax(-1) @ value


FOREST = [
    tree(attention.LONG_TRUNK + 20, 7, 30),
    tree(5, 3, 0),
    tree(40),
    tree(1, 1, 60),
    tree(attention.LONG_TRUNK, 0, 0),
    tree(9, 9, 9),
]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 8, 60, 10_000])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_every_path_of_a_forest_is_attended_as_if_alone(
    kv_heads: int, window: int | None, softcap: float | None, padded: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    row = sum(t.size for t in FOREST)
    query = 2 * torch.randn(1, 4, row, 8, generator=generator)
    key, value = (2 * torch.randn(1, kv_heads, row, 8, generator=generator) for _ in range(2))
    with reading(TreeLayout.of(FOREST, CPU, padded=padded)):
        out, weights = tree_attention(
            torch.nn.Identity(), query, key, value, None, scaling=0.3, sliding_window=window, softcap=softcap
        )
    assert weights is None
    assert out.shape == (1, row, 4, 8)
    start = 0
    for one in FOREST:
        for path in paths(one):
            at = torch.tensor(path) + start
            want = alone(query[0][:, at], key[0][:, at], value[0][:, at], window, 0.3, softcap)
            torch.testing.assert_close(out[0, at].transpose(0, 1).double(), want, rtol=1e-4, atol=1e-5)
        start += one.size


@pytest.mark.parametrize("padded", [False, True])
def test_bfloat16_is_attended_within_bfloat16s_own_rounding(padded: bool) -> None:
    query, key, value = (torch.randn(1, 2, 40, 8, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(3))
    with reading(TreeLayout.of([tree(20, 10, 10)], CPU, padded=padded)):
        out, _ = tree_attention(torch.nn.Identity(), query, key, value, None)
    for path in paths(tree(20, 10, 10)):
        want = alone(query[0][:, path], key[0][:, path], value[0][:, path], None, None, None)
        torch.testing.assert_close(out[0, path].transpose(0, 1).double(), want, rtol=2e-2, atol=2e-2)


def test_a_layer_that_names_no_window_takes_its_modules_and_one_that_names_none_has_none() -> None:
    query, key, value = (torch.randn(1, 1, 30, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    module = torch.nn.Identity()
    module.sliding_window = 4  # type: ignore[assignment]
    with reading(layout := TreeLayout.of([tree(30)], CPU)):
        silent, _ = tree_attention(module, query, key, value, None)
        none, _ = tree_attention(module, query, key, value, None, sliding_window=None)
    for out, window in ((silent, 4), (none, None)):
        want = alone(query[0], key[0], value[0], window, None, None)
        torch.testing.assert_close(out[0].transpose(0, 1).double(), want, rtol=1e-4, atol=1e-5)
    assert layout.windows_used == {4}


@pytest.mark.parametrize("extra", ["s_aux", "position_bias", "head_mask"])
def test_what_trees_do_not_offer_is_refused_by_name(extra: str) -> None:
    zeros = torch.zeros(1, 1, 3, 2)
    with reading(TreeLayout.of([tree(3)], CPU)), pytest.raises(SubjectMismatch, match=extra):
        tree_attention(torch.nn.Identity(), zeros, zeros, zeros, None, **{extra: torch.zeros(1)})


def test_a_layout_holds_for_its_own_thread_and_ends_with_the_reading_even_after_an_error() -> None:
    zeros = torch.zeros(1, 1, 3, 2)

    def call() -> Any:
        return tree_attention(torch.nn.Identity(), zeros, zeros, zeros, None)

    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            call()
        except RuntimeError as error:
            errors.append(error)

    def read_and_fail() -> None:
        with reading(TreeLayout.of([tree(3)], CPU)):
            call()
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read_and_fail()
    assert len(errors) == 1
    with pytest.raises(RuntimeError, match="outside"):
        call()


@pytest.mark.parametrize("family", SHARING)
def test_trees_padded_as_on_an_accelerator_pool_to_the_plain_loops_features(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """The accelerator's attention and pooling, run on the CPU: nothing in them needs a GPU but the reason to choose them."""
    from assay_server.subject import pooling

    make, slices = TreeLayout.of, pooling._padded_rows
    made: list[TreeLayout] = []
    monkeypatch.setattr(TreeLayout, "of", lambda trees, device: made.append(make(trees, device, padded=True)) or made[-1])
    subject = bench.subject(family, "jumprelu")
    pairs = [for_family(pair, family) for pair in PAIRS.values()]
    batch = subject.prepare([TreeRequest(subject.tokenizer.pair(pair), include_prompt=True) for pair in pairs])
    assert made
    assert made[0].padded
    comparison = Comparison()
    for pair, pooled in zip(pairs, subject.read(batch), strict=True):
        hold_pair(comparison, bench, (family, "jumprelu"), pair, pooled)
    comparison.finish()

    with torch.inference_mode():
        x = subject.encoder.inputs(subject.reader.read(batch.trees)[batch.rows])
        _, activations = next(iter(subject.encoder.blocks(x)))  # type: ignore[attr-defined]
        maximum, count = pooling._reduce_padded(activations, *slices(batch.bounds, CPU))
    for i, (a, b) in enumerate(zip(batch.bounds, batch.bounds[1:], strict=False)):
        assert torch.equal(maximum[i], activations[a:b].amax(0))
        assert torch.equal(count[i], (activations[a:b] > 0).sum(0))
