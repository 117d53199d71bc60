"""What comes back: typed, frozen results, built once from the wire and free of it afterwards.

Reading a pair's result, in the terms of METHOD.md:

    result.ok                      whether there is a score
    result.error                   ItemError, or None
    result.score.by_max[0]         FeatureDifference(feature, chosen, rejected): the strongest by `max`
    result.score.by_freq.features  the ids alone, strongest first
    result.score.tokens.chosen     tokens of the chosen response
    result.unwrap()                the score, or the pair's error raised

Invariants:
- A result holds plain tuples of int and float, never a protobuf message: it pickles, compares and hashes, and keeping one
  does not keep the message alive that brought it.
- Floats are the wire's binary32 values, widened exactly.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import overload

from google.rpc import status_pb2

from assay.errors import FieldViolation, ItemError
from assay.tensors import Tensor
from assay.v1 import scoring_pb2


class CacheState(Enum):
    """Whether the cache answered: HIT (the model was not needed), MISS, SHARED (waited for an equal item), BYPASS."""

    UNSPECIFIED = "unspecified"
    HIT = "hit"
    MISS = "miss"
    SHARED = "shared"
    BYPASS = "bypass"


_PLACE = re.compile(r"^(batch\.)?(pairs|responses)\[\d+\]\.?")

_CACHE_STATES: dict[int, CacheState] = {
    scoring_pb2.CACHE_STATE_UNSPECIFIED: CacheState.UNSPECIFIED,
    scoring_pb2.CACHE_STATE_HIT: CacheState.HIT,
    scoring_pb2.CACHE_STATE_MISS: CacheState.MISS,
    scoring_pb2.CACHE_STATE_SHARED: CacheState.SHARED,
    scoring_pb2.CACHE_STATE_BYPASS: CacheState.BYPASS,
}


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of each span, and what sharing and truncation did. Template and special tokens count in no span.

    Attributes:
        prompt: tokens of the prompt's contents.
        chosen: tokens of the chosen response, or of the only one.
        rejected: tokens of the rejected response; 0 for a single response.
        read: tokens that the model reads for this item, template included, shared ones once.
        shared: tokens that it does not read twice because both sides share them.
        truncated: tokens that truncation dropped, a shared one once.
    """

    prompt: int
    chosen: int
    rejected: int
    read: int
    shared: int
    truncated: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where an item's time went, in seconds. Items of one message share steps, so these do not add up over items.

    Attributes:
        tokenize: to render and tokenise.
        queue: waiting for the device.
        forward: of the batch that it was read in; 0 where the cache answered.
        cache: to ask the cache.
        cache_state: whether the cache answered.
    """

    tokenize: float
    queue: float
    forward: float
    cache: float
    cache_state: CacheState


@dataclass(frozen=True, slots=True)
class FeatureDifference:
    """One feature's pooled value on both sides."""

    feature: int
    chosen: float
    rejected: float

    @property
    def difference(self) -> float:
        """``chosen - rejected``: positive where the chosen response shows more of it."""
        return self.chosen - self.rejected


@dataclass(frozen=True, slots=True)
class FeatureRanking:
    """Features by how much they separate the sides, strongest first: parallel tuples that iterate as differences.

    A slice is a shorter ranking: ``by_max[:5]`` holds the five strongest.

    For a single response `rejected` is empty on the wire, and zeros here.
    """

    features: tuple[int, ...]
    chosen: tuple[float, ...]
    rejected: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.features)

    @overload
    def __getitem__(self, index: int) -> FeatureDifference: ...
    @overload
    def __getitem__(self, index: slice) -> "FeatureRanking": ...
    def __getitem__(self, index: int | slice) -> "FeatureDifference | FeatureRanking":
        if isinstance(index, slice):
            return FeatureRanking(self.features[index], self.chosen[index], self.rejected[index])
        return FeatureDifference(self.features[index], self.chosen[index], self.rejected[index])

    def __iter__(self) -> Iterator[FeatureDifference]:
        return map(FeatureDifference, self.features, self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class PooledFeatures:
    """Pooled features of one span, nonzeros only: parallel tuples, ascending in `indices`.

    Attributes:
        indices: feature ids.
        max: largest activation over the span's tokens.
        freq: share of the span's tokens on which the feature fires, in (0, 1].
        mean_residual: mean of the residual stream over the span, shape [d_in]; None where not requested.
    """

    indices: tuple[int, ...]
    max: tuple[float, ...]
    freq: tuple[float, ...]
    mean_residual: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, slots=True)
class ConceptScore:
    """One concept's score on both sides; `rejected` is 0 for a single response."""

    name: str
    chosen: float
    rejected: float

    @property
    def difference(self) -> float:
        """``chosen - rejected``."""
        return self.chosen - self.rejected


@dataclass(frozen=True, slots=True)
class PairScore:
    """What separates chosen from rejected.

    Attributes:
        tokens: token counts.
        by_max: the features with the largest ``|max_chosen - max_rejected|``.
        by_freq: the features with the largest ``|freq_chosen - freq_rejected|``.
        concepts: one per requested concept, in that order.
        timings: where the time went.
        chosen_features: every pooled feature of the chosen response, with `include_features`; else None.
        rejected_features: the same of the rejected response.
        prompt_features: the same of the prompt, with `include_prompt` too.
    """

    tokens: TokenCounts
    by_max: FeatureRanking
    by_freq: FeatureRanking
    concepts: tuple[ConceptScore, ...]
    timings: Timings
    chosen_features: PooledFeatures | None = None
    rejected_features: PooledFeatures | None = None
    prompt_features: PooledFeatures | None = None

    def concept(self, name: str) -> ConceptScore:
        """The score of the concept of that name; KeyError where it was not requested."""
        for score in self.concepts:
            if score.name == name:
                return score
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class PairResult:
    """One pair's outcome: exactly one of `score` and `error` is set.

    Attributes:
        index: position of the pair in what was given, from 0.
        id: the pair's own id.
        score: what separates chosen from rejected.
        error: why there is no score.
    """

    index: int
    id: str
    score: PairScore | None
    error: ItemError | None

    @property
    def ok(self) -> bool:
        """Whether the pair has a score."""
        return self.error is None

    def unwrap(self) -> PairScore:
        """The score; raises the pair's error where it has none."""
        if self.score is None:
            raise _exception(self.error)
        return self.score


@dataclass(frozen=True, slots=True)
class ResponseScore:
    """What a response expresses: rankings by its own values. Fields as in `PairScore`."""

    tokens: TokenCounts
    by_max: FeatureRanking
    by_freq: FeatureRanking
    concepts: tuple[ConceptScore, ...]
    timings: Timings
    features: PooledFeatures | None = None
    prompt_features: PooledFeatures | None = None


@dataclass(frozen=True, slots=True)
class ResponseResult:
    """One response's outcome; fields and methods as in `PairResult`."""

    index: int
    id: str
    score: ResponseScore | None
    error: ItemError | None

    @property
    def ok(self) -> bool:
        """Whether the response has a score."""
        return self.error is None

    def unwrap(self) -> ResponseScore:
        """The score; raises the response's error where it has none."""
        if self.score is None:
            raise _exception(self.error)
        return self.score


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text that was read.

    Attributes:
        id: the tokenizer's id.
        text: the token's own text.
        message: index of the turn it belongs to; -1 for a template or special token, 0 for raw text.
        start: offset of its first character in that turn's content, in Unicode code points.
        end: offset past its last character.
    """

    id: int
    text: str
    message: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TokenActivations:
    """One feature along the tokens: where it fires (indices into the tokens, ascending), and how strongly."""

    feature: int
    tokens: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Every token that was read, and each asked feature's activations on them, in the order asked."""

    tokens: tuple[Token, ...]
    activations: tuple[TokenActivations, ...]
    timings: Timings


def pair_result(index: int, message: scoring_pb2.PairResult) -> PairResult:
    """From the wire. A result with neither score nor error is an error of the contract, told in its place."""
    outcome = message.WhichOneof("outcome")
    if outcome == "score":
        return PairResult(index, message.id, _pair_score(message.score), None)
    return PairResult(index, message.id, None, _item_error(outcome, message))


def response_result(index: int, message: scoring_pb2.ResponseResult) -> ResponseResult:
    """From the wire, as `pair_result`."""
    outcome = message.WhichOneof("outcome")
    if outcome != "score":
        return ResponseResult(index, message.id, None, _item_error(outcome, message))
    score = message.score
    return ResponseResult(
        index,
        message.id,
        ResponseScore(
            _tokens(score.tokens),
            _ranking(score.by_max),
            _ranking(score.by_freq),
            tuple(ConceptScore(one.name, one.chosen, one.rejected) for one in score.concepts),
            _timings(score.timings),
            _pooled(score.features) if score.HasField("features") else None,
            _pooled(score.prompt_features) if score.HasField("prompt_features") else None,
        ),
        None,
    )


def encoded_text(message: scoring_pb2.EncodeTokensResponse) -> EncodedText:
    """From the wire."""
    return EncodedText(
        tuple(Token(one.id, one.text, one.message, one.start, one.end) for one in message.tokens),
        tuple(TokenActivations(one.feature, tuple(one.tokens), tuple(one.values)) for one in message.activations),
        _timings(message.timings),
    )


def item_error(message: status_pb2.Status) -> ItemError:
    """One item's error from the wire, its fields named within the item."""
    error = ItemError.from_proto(message)
    # Where the item lay in its message is this client's doing, and nothing that the caller could look up.
    relative = (FieldViolation(_PLACE.sub("", one.field), one.description) for one in error.violations)
    return dataclasses.replace(error, violations=tuple(relative)) if error.violations else error


def _pair_score(score: scoring_pb2.PairScore) -> PairScore:
    has = score.HasField
    return PairScore(
        _tokens(score.tokens),
        _ranking(score.by_max),
        _ranking(score.by_freq),
        tuple(ConceptScore(one.name, one.chosen, one.rejected) for one in score.concepts),
        _timings(score.timings),
        _pooled(score.chosen_features) if has("chosen_features") else None,
        _pooled(score.rejected_features) if has("rejected_features") else None,
        _pooled(score.prompt_features) if has("prompt_features") else None,
    )


def _tokens(counts: scoring_pb2.TokenCounts) -> TokenCounts:
    return TokenCounts(counts.prompt, counts.chosen, counts.rejected, counts.read, counts.shared, counts.truncated)


def _timings(timings: scoring_pb2.Timings) -> Timings:
    return Timings(
        timings.tokenize_seconds,
        timings.queue_seconds,
        timings.forward_seconds,
        timings.cache_seconds,
        _CACHE_STATES.get(timings.cache_state, CacheState.UNSPECIFIED),
    )


def _ranking(ranking: scoring_pb2.FeatureRanking) -> FeatureRanking:
    features = tuple(ranking.features)
    return FeatureRanking(features, tuple(ranking.chosen), tuple(ranking.rejected) or (0.0,) * len(features))


def _pooled(pooled: scoring_pb2.PooledFeatures) -> PooledFeatures:
    residual = Tensor.from_proto(pooled.mean_residual) if pooled.HasField("mean_residual") else None
    return PooledFeatures(tuple(pooled.indices), tuple(pooled.max), tuple(pooled.freq), residual)


def _item_error(outcome: str | None, message: scoring_pb2.PairResult | scoring_pb2.ResponseResult) -> ItemError:
    if outcome == "error":
        return item_error(message.error)
    return ItemError("INTERNAL", "PROTOCOL", "the server sent neither a score nor an error for this item")


def _exception(error: ItemError | None) -> Exception:
    return (error or ItemError("INTERNAL", "PROTOCOL", "this result holds neither a score nor an error")).exception()
