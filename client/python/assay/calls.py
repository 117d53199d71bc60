"""Requests of the unary methods, and how their answers are read: what the blocking and the async client share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.model import DEFAULT_MODEL, Feature, ModelInfo
from assay.options import ScoreOptions, Truncation
from assay.pairs import Message, Pair, PromptedResponse, conversation
from assay.results import EncodedText, PairResult, ResponseResult, encoded_text, pair_result, response_result
from assay.v1 import model_pb2, scoring_pb2

PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a call may take in all, retries included, where the call does not say otherwise.

    Attributes:
        lookup: for what the server has at hand: the model's info, features.
        score: for what the model has to read.
    """

    lookup: float = 30.0
    score: float = 120.0


def score_pairs_request(pairs: Sequence[Pair], options: ScoreOptions) -> scoring_pb2.ScorePairsRequest:
    """Raises ValueError where a text is no Unicode."""
    return scoring_pb2.ScorePairsRequest(pairs=[pair.to_proto() for pair in pairs], options=options.to_proto())


def pair_results(response: scoring_pb2.ScorePairsResponse) -> list[PairResult]:
    """In the order of the request."""
    return [pair_result(index, result) for index, result in enumerate(response.results)]


def score_responses_request(responses: Sequence[PromptedResponse], options: ScoreOptions) -> scoring_pb2.ScoreResponsesRequest:
    """Raises ValueError where a text is no Unicode."""
    return scoring_pb2.ScoreResponsesRequest(
        responses=[response.to_proto() for response in responses], options=options.to_proto()
    )


def response_results(response: scoring_pb2.ScoreResponsesResponse) -> list[ResponseResult]:
    """In the order of the request."""
    return [response_result(index, result) for index, result in enumerate(response.results)]


def encode_request(
    text: str | Sequence[Message], features: Iterable[int], truncation: Truncation
) -> scoring_pb2.EncodeTokensRequest:
    """Raises ValueError where a text is no Unicode."""
    request = scoring_pb2.EncodeTokensRequest(features=features, truncation=truncation.value)
    if isinstance(text, str):
        request.text = text
    else:
        request.conversation.CopyFrom(conversation(text))
    return request


def encoded(response: scoring_pb2.EncodeTokensResponse) -> EncodedText:
    """Tokens and activations."""
    return encoded_text(response)


def model_request() -> model_pb2.GetModelRequest:
    """The one model there is."""
    return model_pb2.GetModelRequest(name=DEFAULT_MODEL)


def model_info(response: model_pb2.GetModelResponse) -> ModelInfo:
    """What is loaded."""
    return ModelInfo.from_proto(response.model)


def chunks(ids: Iterable[int], size: int) -> list[list[int]]:
    """Ids in requests that the server accepts."""
    every = list(ids)
    return [every[at : at + max(1, size)] for at in range(0, len(every), max(1, size))]


def features_request(ids: Sequence[int]) -> model_pb2.BatchGetFeaturesRequest:
    """One chunk of ids."""
    return model_pb2.BatchGetFeaturesRequest(parent=DEFAULT_MODEL, ids=ids)


def features_of(response: model_pb2.BatchGetFeaturesResponse) -> Mapping[int, Feature]:
    """By id, in the order asked."""
    return {message.id: Feature.from_proto(message) for message in response.features}


def page_request(containing: str, token: str) -> model_pb2.ListFeaturesRequest:
    """One page."""
    return model_pb2.ListFeaturesRequest(parent=DEFAULT_MODEL, page_size=PAGE_SIZE, page_token=token, filter=containing)
