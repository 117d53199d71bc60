"""Parity: pooled features equal those of a plain float32 loop of transformers and ``sae_lens.SAE.encode`` (DESIGN.md).

Tolerance in float32: firing counts exactly, ``max`` within 1e-4 of itself and 1e-5 of the span's largest activation, on top of
half a unit of the float16 that it is stored in. Cells with a token closer than that to its firing boundary are excused, counted,
and must stay under 0.4% of what fires (see ``reference.Comparison``).
"""

from typing import Any

import numpy as np
import pytest
import torch
from assay_server.subject.reader import TreeReader
from assay_server.subject.subject import TreeRequest
from assay_server.subject.types import Directions, Pair, PromptedResponse, SpanName, Truncation

from tests.server.subject.conftest import LONG, PAIRS, Bench, chat, for_family, hold_pair, hold_precision
from tests.support.models import SHARING, WIDTH
from tests.support.reference import Comparison, pair_spans
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
    assert isinstance(bench.subject(family, sae).reader, TreeReader)
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
    comparison.finish(share=0.01)


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
    hold_precision(bench, family, sae, "bfloat16")


@pytest.mark.parametrize("how", [Truncation.PROMPT_START, Truncation.RESPONSE_END])
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_a_truncated_pair_pools_as_its_shortened_sequences_do(bench: Bench, family: str, how: Truncation) -> None:
    """The plain loop on the ids that are left, cut here by hand: the prompt's start after the first token, or the end."""
    which, pair = (family, "topk"), Pair(chat(LONG[:260]), LONG[:200], "A list can be changed after it is made.")
    spans, _ = pair_spans(bench.kind(family), bench.tokenizer(family), pair)
    lengths = [spans[name][1][-1] + 1 for name in (SpanName.CHOSEN, SpanName.REJECTED)]
    excess, context = 30, max(lengths) - 30
    subject = bench.load(*which, max_sequence_tokens=context)
    pooled = subject.read(subject.prepare([TreeRequest(subject.tokenizer.pair(pair, how), include_prompt=True)]))[0]
    comparison = Comparison()
    for name, (ids, positions) in spans.items():
        if how is Truncation.PROMPT_START:
            left, kept = [ids[0], *ids[1 + excess :]], [p - excess for p in positions if p > excess]
        else:
            left, kept = ids[:context], [p for p in positions if p < context]
        comparison.span(pooled.spans[name], bench.sae(*which), bench.reader(family).residual(left)[kept])
    comparison.finish(share=0.01)
    dropped = sum(max(0, length - context) for length in lengths)  # the ends are not shared, the prompt's start is
    assert pooled.truncated == (excess if how is Truncation.PROMPT_START else dropped)
    assert pooled.prompt_tokens == pooled.spans[SpanName.PROMPT].tokens
