"""Results on the wire: packed by hand where that is faster, and the same message all the same."""

from dataclasses import replace

import numpy as np
import pytest
from assay.v1 import model_pb2, scoring_pb2
from assay_server.rpc import messages as results
from assay_server.rpc.pairs import CallOptions
from assay_server.scorer import CacheState, Scored, ScoreOptions, Timings
from assay_server.scorer.ranking import Ranker
from assay_server.subject.types import EncodedTokens, Pooled, PooledSpan, SpanName, TokenInfo
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_scorer import INFO

TIMINGS = Timings(0.001, 0.002, 0.003, 0.004, CacheState.HIT)
WIDE = 70_000


def span(ids: list[int], seed: int) -> PooledSpan:
    rng = np.random.default_rng(seed)
    return PooledSpan(
        tokens=40,
        indices=np.array(ids, dtype=np.uint32),
        max_f16=rng.gamma(2, 2, len(ids)).astype(np.float16),
        counts=rng.integers(1, 41, len(ids)).astype(np.uint32),
        exponent=seed % 3,
        mean_residual_f16=rng.standard_normal(5).astype(np.float16),
        residual_exponent=1,
    )


spans = st.builds(
    lambda ids, seed: span(sorted(ids), seed), st.sets(st.integers(0, WIDE - 1), max_size=200), st.integers(0, 1000)
)


@given(spans, spans, spans)
def test_pooled_features_survive_the_wire_bit_for_bit(chosen: PooledSpan, rejected: PooledSpan, prompt: PooledSpan) -> None:
    sides = {SpanName.CHOSEN: chosen, SpanName.REJECTED: rejected, SpanName.PROMPT: prompt}
    options = CallOptions(ScoreOptions(include_prompt=True), include_features=True, include_mean_residual=True)
    made = results.pair_result("p", Scored(Pooled(sides, 3, 50, 9, 0), TIMINGS), options, Ranker(WIDE))
    score = scoring_pb2.PairResult.FromString(made.SerializeToString()).score
    for sent, side in ((score.chosen_features, chosen), (score.rejected_features, rejected), (score.prompt_features, prompt)):
        plain = scoring_pb2.PooledFeatures(indices=side.indices.tolist(), max=side.max.tolist(), freq=side.freq.tolist())
        assert np.frombuffer(sent.mean_residual.data, "<f4").tolist() == side.mean_residual.tolist()
        assert list(sent.mean_residual.shape) == [5]
        sent.ClearField("mean_residual")
        assert sent == plain


@pytest.mark.parametrize(("features", "residual"), [(False, True), (True, False), (False, False)])
def test_each_part_is_sent_only_where_it_was_asked_for(features: bool, residual: bool) -> None:
    one = span([1, 5], 0)
    options = CallOptions(ScoreOptions(), include_features=features, include_mean_residual=residual)
    pooled = Pooled({SpanName.CHOSEN: one, SpanName.PROMPT: one}, 3, 50, 0, 0)
    score = results.response_result("r", Scored(pooled, TIMINGS), options, Ranker(WIDE)).score
    assert score.HasField("features") is (features or residual)
    assert (len(score.features.indices) > 0) is features
    assert score.features.HasField("mean_residual") is residual
    assert not score.HasField("prompt_features")


def test_an_answer_without_the_directions_that_were_asked_for_is_a_bug() -> None:
    from assay_server.rpc.specs import Concept

    one = span([1], 0)
    options = CallOptions(ScoreOptions(), concepts=(Concept("d", direction=0),))
    with pytest.raises(RuntimeError, match="directions"):
        results.response_result("r", Scored(Pooled({SpanName.CHOSEN: one}, 1, 1, 0, 0), TIMINGS), options, Ranker(WIDE))


def test_activations_are_sparse_along_the_tokens() -> None:
    tokens = tuple(TokenInfo(i, "x", 0, i, i + 1) for i in range(4))
    encoded = EncodedTokens(tokens, np.array([[0, 1.5, 0, 2], [0, 0, 0, 0]], dtype=np.float32))
    sent = results.encoded(encoded, (9, 4), TIMINGS)
    assert [(a.feature, list(a.tokens), list(a.values)) for a in sent.activations] == [(9, [1, 3], [1.5, 2.0]), (4, [], [])]
    assert sent.timings.cache_state == scoring_pb2.CACHE_STATE_HIT


def test_the_model_says_which_weights_make_log_probabilities_where_they_are_kept() -> None:
    info = replace(INFO, whole_model_fingerprint="e" * 64)
    assert results.model(info, model_pb2.Limits(), version="1", labelled=0).whole_model_fingerprint == "e" * 64
    assert results.model(INFO, model_pb2.Limits(), version="1", labelled=0).whole_model_fingerprint == ""
