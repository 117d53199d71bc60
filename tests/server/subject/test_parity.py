"""Parity: pooled features equal those of a plain float32 loop of transformers and ``sae_lens.SAE.encode`` (DESIGN.md).

Tolerance in float32: firing counts exactly, ``max`` within 1e-4 of itself and 1e-5 of the span's largest activation, on top of
half a unit of the float16 that it is stored in. Cells with a token closer than that to its firing boundary are excused, counted,
and must stay under 0.4% of what fires (see ``reference.Comparison``).
"""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from assay_server.subject.subject import TreeRequest
from assay_server.subject.types import Directions, Pair, PromptedResponse, SpanName
from sae_lens import SAE

from tests.server.subject.conftest import LONG, PAIRS, Bench, chat, for_family, hold_pair
from tests.support.models import LAYER, SHARING, WIDTH
from tests.support.reference import Comparison, Reader, pair_spans, pool
from tests.support.saes import MAKERS

VARIANTS = [
    ("standard", False, "none"),
    ("gated", False, "layer_norm"),
    ("jumprelu", True, "layer_norm"),
    ("topk", False, "constant_norm_rescale"),
    ("topk_rescaled", True, "layer_norm"),
]


def read(bench: Bench, which: tuple[Any, ...], pairs: list[Pair], include_prompt: bool = True) -> list[Any]:
    subject = bench.subject(*which)
    return subject.read(subject.prepare([TreeRequest(subject.tokenizer.pair(pair), include_prompt) for pair in pairs]))


@pytest.mark.parametrize("sae", MAKERS)
@pytest.mark.parametrize("family", SHARING)
def test_every_architecture_on_every_family_equals_the_plain_loop_alone_and_batched(bench: Bench, family: str, sae: str) -> None:
    assert bench.subject(family, sae).shares_prefixes
    pairs = [for_family(PAIRS[name], family) for name in ("several turns", "very long against short", "one turn")]
    comparison = Comparison()
    for pair in pairs:
        hold_pair(comparison, bench, (family, sae), pair, read(bench, (family, sae), [pair])[0])
    for pair, pooled in zip(pairs, read(bench, (family, sae), pairs), strict=True):
        hold_pair(comparison, bench, (family, sae), pair, pooled)
    comparison.finish()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v[0]}-bias_{v[1]}-{v[2]}")
@pytest.mark.parametrize("family", ["qwen2", "gemma3", "gpt_neox"])
def test_input_bias_and_normalisation_follow_the_saes_own_configuration(
    bench: Bench, family: str, variant: tuple[str, bool, str]
) -> None:
    which, pair = (family, *variant), for_family(PAIRS["one turn"], family)
    comparison = Comparison()
    hold_pair(comparison, bench, which, pair, read(bench, which, [pair])[0])
    comparison.finish()


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("family", "sae"), [("llama", "topk"), ("gemma2", "jumprelu"), ("gpt2", "gated"), ("mistral", "standard")]
)
def test_every_shape_of_pair_equals_the_plain_loop(bench: Bench, family: str, sae: str, name: str) -> None:
    pair = for_family(PAIRS[name], family)
    comparison = Comparison()
    hold_pair(comparison, bench, (family, sae), pair, read(bench, (family, sae), [pair])[0])
    comparison.finish(share=0.01)


@pytest.mark.parametrize("block_elements", [1, 7_000, 50_000])
@pytest.mark.parametrize("sae", MAKERS)
def test_the_size_of_a_block_of_features_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, sae: str, block_elements: int
) -> None:
    which = ("qwen3", sae)
    pairs = [PAIRS["one turn"], PAIRS["single tokens"], PAIRS["several turns"]]
    monkeypatch.setattr("assay_server.subject.sae.BLOCK_ELEMENTS", block_elements)
    comparison = Comparison()
    for pair, pooled in zip(pairs, read(bench, which, pairs), strict=True):
        hold_pair(comparison, bench, which, pair, pooled)
    comparison.finish()


@pytest.mark.parametrize("family", SHARING)
def test_a_batch_of_uneven_pairs_gives_each_what_it_gets_alone(bench: Bench, family: str) -> None:
    which = (family, "topk")
    pairs = [for_family(pair, family) for pair in PAIRS.values()]
    comparison = Comparison()
    for pair, pooled in zip(pairs, read(bench, which, pairs, include_prompt=False), strict=True):
        hold_pair(comparison, bench, which, pair, pooled, include_prompt=False)
    comparison.finish()


@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt_neox"])
def test_raw_text_equals_the_plain_loop(bench: Bench, family: str) -> None:
    which = (family, "gated")
    pairs = [
        Pair(f"Question: {LONG}\n\nAnswer:", " a list", " a tuple, which cannot be changed"),
        Pair("", "Two words", "Three more words"),
    ]
    comparison = Comparison()
    for pair, pooled in zip(pairs, read(bench, which, pairs), strict=True):
        hold_pair(comparison, bench, which, pair, pooled)
    comparison.finish()


@pytest.mark.parametrize("include_prompt", [True, False])
def test_the_prompt_is_pooled_where_it_was_asked_for_and_counted_always(bench: Bench, include_prompt: bool) -> None:
    pair = PAIRS["long prompt"]
    pooled = read(bench, ("llama", "standard"), [pair], include_prompt)[0]
    assert (SpanName.PROMPT in pooled.spans) is include_prompt
    hold_pair(comparison := Comparison(), bench, ("llama", "standard"), pair, pooled, include_prompt)
    comparison.finish()


def test_identical_responses_pool_to_the_same_bits_and_are_read_once(bench: Bench) -> None:
    pooled = read(bench, ("qwen2", "topk"), [PAIRS["identical responses"]])[0]
    chosen, rejected = pooled.spans[SpanName.CHOSEN], pooled.spans[SpanName.REJECTED]
    for field in ("indices", "max_f16", "counts", "mean_residual_f16"):
        np.testing.assert_array_equal(getattr(chosen, field), getattr(rejected, field))
    assert pooled.read == pooled.shared


def test_one_response_alone_equals_the_same_response_in_a_pair(bench: Bench) -> None:
    subject, pair = bench.subject("llama", "jumprelu"), PAIRS["several turns"]
    alone = subject.read(subject.prepare([TreeRequest(subject.tokenizer.response(PromptedResponse(pair.prompt, pair.chosen)))]))[
        0
    ]
    comparison = Comparison()
    ids, positions = pair_spans(bench.kind("llama"), bench.tokenizer("llama"), pair)[0][SpanName.CHOSEN]
    comparison.span(alone.spans[SpanName.CHOSEN], bench.sae("llama", "jumprelu"), bench.reader("llama").residual(ids)[positions])
    comparison.finish()
    assert set(alone.spans) == {SpanName.CHOSEN}
    assert alone.shared == 0


def test_scores_along_directions_are_the_largest_projection_of_the_spans_residuals(bench: Bench) -> None:
    subject, pairs = bench.subject("gemma2", "standard"), [PAIRS["one turn"], PAIRS["several turns"], PAIRS["single tokens"]]
    vectors = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(5)).numpy()
    asked = [Directions(vectors, b"a"), None, Directions(vectors[:1] * 2, b"b")]
    trees = [subject.tokenizer.pair(pair) for pair in pairs]
    got = subject.read(subject.prepare([TreeRequest(tree, True, d) for tree, d in zip(trees, asked, strict=True)]))
    assert got[1].directions == {}
    for pair, pooled, directions in zip(pairs, got, asked, strict=True):
        if directions is None:
            continue
        spans, _ = pair_spans(bench.kind("gemma2"), bench.tokenizer("gemma2"), pair)
        assert set(pooled.directions) == {SpanName.CHOSEN, SpanName.REJECTED}
        for name, scores in pooled.directions.items():
            ids, positions = spans[name]
            h = bench.reader("gemma2").residual(ids).numpy()
            want = [max(float(h[t] @ v) for t in positions) for v in directions.vectors]
            np.testing.assert_allclose(scores, want, rtol=1e-4, atol=1e-4 * np.abs(h).max())


def test_token_activations_equal_the_saes_own_on_every_token(bench: Bench) -> None:
    for sae in ("topk", "gated", "jumprelu"):
        subject = bench.subject("qwen2", sae)
        encoded = subject.tokenizer.text(chat(LONG, "Yes."))
        features = [5, 0, 200, 383, 17]
        got = subject.activations(encoded.ids, features)
        acts = bench.sae("qwen2", sae).encode(bench.reader("qwen2").residual(encoded.ids.tolist())).numpy()
        np.testing.assert_allclose(got, acts[:, features].T, rtol=1e-4, atol=1e-4)
        assert (got > 0).any()


@pytest.mark.parametrize("sae", ["standard", "topk_rescaled", "jumprelu", "gated"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_bfloat16_is_as_close_to_float32_as_the_plain_loop_in_bfloat16(bench: Bench, family: str, sae: str) -> None:
    """Errors in L2 over a pair's ``max`` and mean over its firing shares: at most 1.2 of the plain loop's own, plus 0.01."""
    subject = bench.load(family, sae, dtype="bfloat16")
    assert subject.info.dtype == "bfloat16"
    plain_sae = SAE.load_from_disk(str(bench.sae_folder(family, sae)), dtype="bfloat16").requires_grad_(False)
    plain_model = Reader(copy.deepcopy(bench.model(family)).bfloat16(), LAYER)
    engine: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    for pair in (for_family(pair, family) for pair in PAIRS.values()):
        pooled = subject.read(subject.prepare([TreeRequest(subject.tokenizer.pair(pair))]))[0]
        for name, span in pooled.spans.items():
            ids, positions = pair_spans(bench.kind(family), bench.tokenizer(family), pair)[0][name]
            truth = pool(bench.sae(family, sae).encode(bench.reader(family).residual(ids)[positions]))
            dense = np.zeros((2, len(truth[0])))
            dense[0, span.indices], dense[1, span.indices] = span.max, span.counts
            engine.append(_errors(dense[0], dense[1], truth, len(positions)))
            loop = pool(plain_sae.encode(plain_model.residual(ids)[positions].bfloat16()))
            plain.append(_errors(loop[0], loop[1], truth, len(positions)))
    for ours, theirs in zip(np.mean(engine, axis=0), np.mean(plain, axis=0), strict=True):
        assert 0 < ours <= 1.2 * theirs + 0.01


def _errors(maximum: Any, count: Any, truth: Any, tokens: int) -> tuple[float, float]:
    fired = (truth[1] > 0) | (count > 0)
    error = np.linalg.norm(maximum - truth[0]) / np.linalg.norm(truth[0])
    return float(error), float((np.abs(count - truth[1])[fired] / tokens).mean())
