"""The frozen random dictionary: the SAE's shape, input and sparsity, and nothing of what it learnt."""

import numpy as np
import torch
from assay_server.subject.pooling import PooledRows
from assay_server.subject.random_dictionary import RandomDictionary, read_spans
from assay_server.subject.sae import TopKEncoder
from assay_server.subject.types import Pooled, SpanName

from tests.support.tiny_subject import FEATURES, WIDTH, K, build_subject, tiny_subject, tree_request


def test_it_is_random_unit_directions_of_the_saes_shape_under_the_saes_input_and_k() -> None:
    subject = tiny_subject()
    residual = torch.from_numpy(np.random.default_rng(0).normal(3.0, 5.0, (40, WIDTH)).astype(np.float32))
    dictionary, again, other = (RandomDictionary(subject, seed) for seed in (7, 7, 8))
    assert (dictionary.d_in, dictionary.d_sae, dictionary.k) == (WIDTH, FEATURES, K)
    x = dictionary.inputs(residual)
    assert torch.equal(x, subject.encoder.inputs(residual))
    every = dictionary.encode_features(x, torch.arange(FEATURES))
    assert torch.equal(every, again.encode_features(x, torch.arange(FEATURES)))
    assert not torch.equal(every, other.encode_features(x, torch.arange(FEATURES)))
    assert torch.allclose(dictionary.directions.norm(dim=0), torch.ones(FEATURES), atol=1e-5)
    highest = torch.topk(x @ dictionary.directions, K, dim=1)
    assert torch.equal((every > 0).sum(dim=1), (highest.values > 0).sum(dim=1))
    assert torch.allclose(every.sum(dim=1), highest.values.clamp(min=0).sum(dim=1), rtol=1e-3)
    assert isinstance(subject.encoder, TopKEncoder)
    assert dictionary.k == subject.encoder.k


def test_the_decoders_bias_is_taken_off_where_the_saes_configuration_leaves_it_in() -> None:
    subject, size = build_subject(), 40
    sae, draws = subject.sae, np.random.default_rng(1)
    mean = torch.from_numpy(draws.normal(0, 20.0, WIDTH).astype(np.float32))
    residual = mean + torch.from_numpy(draws.normal(0, 1.0, (size, WIDTH)).astype(np.float32))
    sae.b_dec.data.copy_(mean)
    sae.cfg.apply_b_dec_to_input = True
    taken_off = RandomDictionary(subject, 0).inputs(residual)
    sae.cfg.apply_b_dec_to_input = False
    dictionary = RandomDictionary(subject, 0)
    x = dictionary.inputs(residual)
    assert torch.equal(x, taken_off)
    assert not torch.equal(x, subject.encoder.inputs(residual)), "the SAE's own input keeps the mean"
    fires = dictionary.encode_features(x, torch.arange(FEATURES)) > 0
    assert fires.sum(dim=0).max() < size, "no direction wins on every token"


def test_one_pass_gives_what_scoring_gives_and_the_residual_unrounded() -> None:
    subject = tiny_subject()
    requests = [tree_request(size, seed=size) for size in (9, 24, 60)]
    read = read_spans(subject, [subject.encoder, RandomDictionary(subject, 0)], [request.tree for request in requests])
    scored = subject.read(subject.prepare(requests))
    for place, pooled in enumerate(scored):
        assert isinstance(pooled, Pooled)
        for side, name in enumerate((SpanName.CHOSEN, SpanName.REJECTED)):
            span, row = pooled.spans[name], 2 * place + side
            assert read.tokens[row] == span.tokens
            features, count = of_span(read.pooled[0], row)
            assert np.array_equal(features, span.indices)
            assert np.array_equal(count, span.counts)
            assert np.allclose(read.means[row], span.mean_residual, rtol=1e-3, atol=1e-3)
    assert read.means.dtype == np.float32
    assert not np.array_equal(read.means, read.means.astype(np.float16).astype(np.float32))
    features, count = of_span(read.pooled[1], 0)
    assert count.sum() <= K * read.tokens[0]
    assert not np.array_equal(features, of_span(read.pooled[0], 0)[0])


def of_span(pooled: PooledRows, span: int) -> tuple[np.ndarray, np.ndarray]:
    mine = pooled.span == span
    return pooled.feature[mine], pooled.count[mine]
