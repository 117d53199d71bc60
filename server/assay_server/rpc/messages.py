"""Messages that rooms share: scores of an item, ranked and cut to what the call asked for; the model, features, times, tensors.

Invariant: one item's translation never awaits, so that a ``Ranker``'s scratch is never seen half-used; callers yield
between items.
"""

from dataclasses import asdict

import numpy as np
from assay.v1 import audit_pb2, concept_pb2, model_pb2, pair_pb2, scoring_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from assay_server.labelling.labels import FeatureLabel
from assay_server.rpc.enums import EnumMap
from assay_server.rpc.pairs import CallOptions
from assay_server.scorer import CacheState, Scored, Timings
from assay_server.scorer.ranking import Ranker, Ranking
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import EncodedTokens, Pooled, SpanName, SubjectInfo

MODEL_NAME = "models/default"

_CACHE_STATES = EnumMap(scoring_pb2.CacheState, CacheState)


def pair_result(id: str, scored: Scored, options: CallOptions, ranker: Ranker) -> scoring_pb2.PairResult:
    """What separates the two sides of a pair."""
    pooled = scored.pooled
    chosen, rejected = pooled.spans[SpanName.CHOSEN], pooled.spans[SpanName.REJECTED]
    by_max, by_freq = ranker.pair(chosen, rejected, options.top_k)
    result = scoring_pb2.PairResult(
        id=id,
        score=scoring_pb2.PairScore(
            tokens=_tokens(pooled, chosen.tokens, rejected.tokens),
            by_max=_ranking(by_max),
            by_freq=_ranking(by_freq),
            concepts=_concepts(pooled, options, ranker),
            timings=timings(scored.timings),
        ),
    )
    score = result.score
    _fill(score.chosen_features, SpanName.CHOSEN, pooled, options)
    _fill(score.rejected_features, SpanName.REJECTED, pooled, options)
    _fill(score.prompt_features, SpanName.PROMPT, pooled, options)
    return result


def response_result(id: str, scored: Scored, options: CallOptions, ranker: Ranker) -> scoring_pb2.ResponseResult:
    """What a single response expresses."""
    pooled = scored.pooled
    span = pooled.spans[SpanName.CHOSEN]
    by_max, by_freq = ranker.single(span, options.top_k)
    result = scoring_pb2.ResponseResult(
        id=id,
        score=scoring_pb2.ResponseScore(
            tokens=_tokens(pooled, span.tokens, 0),
            by_max=_ranking(by_max),
            by_freq=_ranking(by_freq),
            concepts=_concepts(pooled, options, ranker),
            timings=timings(scored.timings),
        ),
    )
    score = result.score
    _fill(score.features, SpanName.CHOSEN, pooled, options)
    _fill(score.prompt_features, SpanName.PROMPT, pooled, options)
    return result


def encoded(tokens: EncodedTokens, features: tuple[int, ...], took: Timings) -> scoring_pb2.EncodeTokensResponse:
    """Tokens and the features' activations on them, zeros left out."""
    response = scoring_pb2.EncodeTokensResponse(
        tokens=[
            scoring_pb2.Token(id=token.id, text=token.text, message=token.message, start=token.start, end=token.end)
            for token in tokens.tokens
        ],
        timings=timings(took),
    )
    for feature, row in zip(features, tokens.activations, strict=True):
        fires = np.flatnonzero(row)
        response.activations.add(feature=feature, tokens=fires.tolist(), values=row[fires].tolist())
    return response


def timings(took: Timings) -> scoring_pb2.Timings:
    """An item's timings."""
    return scoring_pb2.Timings(
        tokenize_seconds=took.tokenize_seconds,
        queue_seconds=took.queue_seconds,
        forward_seconds=took.forward_seconds,
        cache_seconds=took.cache_seconds,
        cache_state=_CACHE_STATES.number(took.cache_state),
    )


def feature(label: FeatureLabel) -> concept_pb2.Feature:
    """A feature's label and evidence."""
    return concept_pb2.Feature(name=f"{MODEL_NAME}/features/{label.id}", **asdict(label))


def model(info: SubjectInfo, limits: model_pb2.Limits, *, version: str, labelled: int) -> model_pb2.Model:
    """The loaded subject and what this server accepts."""
    return model_pb2.Model(name=MODEL_NAME, limits=limits, server_version=version, labelled_features=labelled, **asdict(info))


def subject(ref: SubjectRef) -> audit_pb2.SubjectRef:
    """The subject that work belongs to."""
    return audit_pb2.SubjectRef(**asdict(ref))


def instant(seconds: float) -> Timestamp:
    """A UNIX time, to the microsecond."""
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    return Timestamp(seconds=whole, nanos=micros * 1000)


def tensor(values: NDArray[np.float32]) -> pair_pb2.Tensor:
    """A float32 tensor."""
    data = np.ascontiguousarray(values, "<f4").tobytes()
    return pair_pb2.Tensor(dtype=pair_pb2.Tensor.DTYPE_FLOAT32, shape=values.shape, data=data)


def _tokens(pooled: Pooled, chosen: int, rejected: int) -> scoring_pb2.TokenCounts:
    return scoring_pb2.TokenCounts(
        prompt=pooled.prompt_tokens,
        chosen=chosen,
        rejected=rejected,
        read=pooled.read,
        shared=pooled.shared,
        truncated=pooled.truncated,
    )


def _ranking(ranking: Ranking) -> scoring_pb2.FeatureRanking:
    return scoring_pb2.FeatureRanking(
        features=ranking.features.tolist(), chosen=ranking.chosen.tolist(), rejected=ranking.rejected.tolist()
    )


def _concepts(pooled: Pooled, options: CallOptions, ranker: Ranker) -> list[scoring_pb2.ConceptScore]:
    if not options.concepts:
        return []
    chosen = _side(pooled, SpanName.CHOSEN, options, ranker)
    rejected = _side(pooled, SpanName.REJECTED, options, ranker) if SpanName.REJECTED in pooled.spans else [0.0] * len(chosen)
    return [
        scoring_pb2.ConceptScore(name=concept.name, chosen=a, rejected=b)
        for concept, a, b in zip(options.concepts, chosen, rejected, strict=True)
    ]


def _side(pooled: Pooled, side: SpanName, options: CallOptions, ranker: Ranker) -> list[float]:
    """Each concept's score on one side, in the order of the options."""
    stack = options.weighted
    weighted = iter(() if stack is None else ranker.weighted(pooled.spans[side], stack).tolist())
    directions = pooled.directions.get(side)
    scores: list[float] = []
    for concept in options.concepts:
        if concept.weighted is not None:
            scores.append(next(weighted))
        elif directions is not None:
            scores.append(float(directions[concept.direction]))
        else:
            raise RuntimeError("the scorer answered without the directions that it was given")
    return scores


def _fill(features: scoring_pb2.PooledFeatures, name: SpanName, pooled: Pooled, options: CallOptions) -> None:
    """Fills in what the call asked for of a span, in place: large fields are not copied."""
    span = pooled.spans.get(name)
    if span is None or (name is SpanName.PROMPT and not options.engine.include_prompt):
        return
    if options.include_features:
        features.indices.extend(span.indices.tolist())
        # On the wire a packed float field is its little-endian bytes, which is what numpy holds: 3x faster than Python floats.
        features.MergeFromString(
            _packed(scoring_pb2.PooledFeatures.MAX_FIELD_NUMBER, span.max)
            + _packed(scoring_pb2.PooledFeatures.FREQ_FIELD_NUMBER, span.freq)
        )
    if options.include_mean_residual:
        values = span.mean_residual.astype("<f4", copy=False)
        residual = features.mean_residual
        residual.dtype = pair_pb2.Tensor.DTYPE_FLOAT32
        residual.shape.extend(values.shape)
        residual.data = values.tobytes()


def _packed(field: int, values: NDArray[np.float32]) -> bytes:
    """A packed float field in protobuf's wire format: tag, length, elements."""
    data = values.astype("<f4", copy=False).tobytes()
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
