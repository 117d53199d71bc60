"""Requests of scoring: from protobuf to the engine's types, with every check that needs no model.

Invariants:
- What passes is well-formed: texts are bounded, turns are in an order that a chat template can render, numbers are
  finite, feature ids exist, tensors have the bytes that their shapes need.
- Every refusal is an ``InvalidItem`` with the field's path, both numbers and the fix; none quotes a text of a pair.
- A pair's paths are relative to the pair (``chosen``), everything else's to the request
  (``options.concepts[2].direction``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from assay.v1 import pair_pb2, scoring_pb2

from assay_server.errors import EmptySpan, InvalidItem
from assay_server.rpc.enums import EnumMap
from assay_server.rpc.fields import out_of_bounds
from assay_server.rpc.specs import Bounds, Concept, read_concepts, unknown_feature
from assay_server.scorer import Lane, ScoreOptions
from assay_server.scorer.ranking import WeightedStack, stack_weighted
from assay_server.subject.pair_checks import check_id, check_metadata, check_responses, check_text_bytes, check_turns
from assay_server.subject.types import Message, Pair, Prompt, PromptedResponse, Truncation

DEFAULT_TOP_K = 16

TRUNCATIONS = EnumMap(scoring_pb2.Truncation, Truncation, Truncation.REFUSE)
LANES = EnumMap(scoring_pb2.Lane, Lane)


class CacheMode(Enum):
    """Whether a call uses the cache."""

    USE = 0
    BYPASS = 1


_CACHE_MODES = EnumMap(scoring_pb2.CacheMode, CacheMode, CacheMode.USE)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """A call's options: the engine's part, and which parts of its answer to send."""

    engine: ScoreOptions
    top_k: int = DEFAULT_TOP_K
    concepts: tuple[Concept, ...] = ()
    include_features: bool = False
    include_mean_residual: bool = False
    weighted: WeightedStack | None = None  # those of `concepts`, in their order


def read_options(options: scoring_pb2.ScoreOptions, bounds: Bounds, *, lane: Lane, path: str = "options") -> CallOptions:
    """Checks and translates the options of a call.

    Args:
        options: as received.
        bounds: limits and widths.
        lane: the lane where the options name none.
        path: where the options stand in the request.
    """
    top_k = options.top_k if options.HasField("top_k") else min(DEFAULT_TOP_K, bounds.limits.max_top_k)
    if not 0 <= top_k <= bounds.limits.max_top_k:
        raise out_of_bounds("top_k", top_k, bounds.limits.max_top_k, "max_top_k", f"{path}.top_k")
    truncation = TRUNCATIONS.read(options.truncation, f"{path}.truncation")
    chosen_lane = LANES.read(options.lane, f"{path}.lane", lane)
    bypass = _CACHE_MODES.read(options.cache_mode, f"{path}.cache_mode") is CacheMode.BYPASS
    concepts, directions = read_concepts(options.concepts, bounds, f"{path}.concepts")
    engine = ScoreOptions(options.include_prompt, directions, truncation, chosen_lane, bypass)
    return CallOptions(
        engine=engine,
        top_k=top_k,
        concepts=concepts,
        include_features=options.include_features,
        include_mean_residual=options.include_mean_residual,
        weighted=stack_weighted([concept.weighted for concept in concepts if concept.weighted is not None]),
    )


def read_pair(pair: pair_pb2.Pair, bounds: Bounds) -> Pair:
    """Checks and translates one pair."""
    _check_size(pair.ByteSize(), pair, bounds)
    check_id(pair.id)
    check_metadata(pair.metadata)
    prompt = _read_prompt(pair)
    check_responses(pair.chosen, pair.rejected)
    return Pair(prompt, pair.chosen, pair.rejected, pair.id)


def read_stored_pair(pair: pair_pb2.Pair) -> Pair:
    """Translates one pair unchecked, to store: ``check_pair`` refuses bad ones when they are scored.

    A pair without a prompt becomes one whose conversation has no turn.
    """
    prompt: Prompt = pair.text if pair.WhichOneof("prompt") == "text" else _messages(pair.conversation.messages)
    return Pair(prompt, pair.chosen, pair.rejected, pair.id, dict(pair.metadata))


def read_response(item: pair_pb2.PromptedResponse, bounds: Bounds) -> PromptedResponse:
    """Checks and translates one prompted response."""
    _check_size(item.ByteSize(), item, bounds)
    check_id(item.id)
    prompt = _read_prompt(item)
    if not item.response:
        raise EmptySpan("The response is empty.", field="response")
    return PromptedResponse(prompt, item.response, item.id)


def read_encode(request: scoring_pb2.EncodeTokensRequest, bounds: Bounds) -> tuple[Prompt, tuple[int, ...], Truncation]:
    """Checks and translates an EncodeTokens request: what to read, the features, and the truncation."""
    kind = request.WhichOneof("input")
    if kind is None:
        raise InvalidItem("Neither conversation nor text is set; set one.", reason="MISSING_INPUT", field="input")
    if request.ByteSize() > bounds.limits.max_text_bytes:
        check_text_bytes(_texts(request), bounds.limits.max_text_bytes, kind)
    if kind == "text":
        if not request.text:
            raise EmptySpan("The text is empty.", field="text")
        text: Prompt = request.text
    else:
        check_turns(request.conversation.messages, "conversation.messages", last_may_answer=True)
        text = _messages(request.conversation.messages)
    features = _read_feature_ids(request.features, bounds, "features")
    truncation = TRUNCATIONS.read(request.truncation, "truncation")
    if truncation is Truncation.PROMPT_START:
        raise InvalidItem(
            "TRUNCATION_PROMPT_START has no meaning for one text; use TRUNCATION_RESPONSE_END, which drops its end.",
            reason="INVALID_TRUNCATION",
            field="truncation",
        )
    return text, features, truncation


def check_feature_ids(ids: Sequence[int], bounds: Bounds, path: str) -> None:
    """Refuses too many ids, and ids that the SAE does not have."""
    most = bounds.limits.max_features_per_request
    if len(ids) > most:
        raise InvalidItem(
            f"{len(ids)} features are asked for; max_features_per_request is {most}. Split the request.",
            reason="TOO_MANY_FEATURES",
            field=path,
            details={"features": len(ids), "max_features_per_request": most},
        )
    for position, id in enumerate(ids):
        if id >= bounds.d_sae:
            raise unknown_feature(id, bounds, f"{path}[{position}]")


def _read_feature_ids(ids: Sequence[int], bounds: Bounds, path: str) -> tuple[int, ...]:
    if not ids:
        most = bounds.limits.max_features_per_request
        raise InvalidItem(
            f"{path} is empty; name 1 to {most} features.",
            reason="NO_FEATURES",
            field=path,
            details={"max_features_per_request": most},
        )
    check_feature_ids(ids, bounds, path)
    seen: set[int] = set()
    for position, id in enumerate(ids):
        if id in seen:
            raise InvalidItem(
                f"Feature {id} is named twice; name it once.",
                reason="DUPLICATE_FEATURE",
                field=f"{path}[{position}]",
                details={"feature": id},
            )
        seen.add(id)
    return tuple(ids)


def _read_prompt(item: pair_pb2.Pair | pair_pb2.PromptedResponse) -> Prompt:
    kind = item.WhichOneof("prompt")
    if kind == "conversation":
        check_turns(item.conversation.messages, "conversation.messages", last_may_answer=False)
        return _messages(item.conversation.messages)
    if kind == "text":
        return item.text
    raise InvalidItem("The pair has no prompt; set conversation or text.", reason="MISSING_PROMPT", field="prompt")


def _messages(messages: Sequence[pair_pb2.Message]) -> tuple[Message, ...]:
    return tuple([Message(message.role, message.content) for message in messages])


def _texts(item: pair_pb2.Pair | pair_pb2.PromptedResponse | scoring_pb2.EncodeTokensRequest) -> list[str]:
    texts = [message.content for message in item.conversation.messages]
    texts.append(item.text)
    if isinstance(item, pair_pb2.Pair):
        texts += (item.chosen, item.rejected)
    elif isinstance(item, pair_pb2.PromptedResponse):
        texts.append(item.response)
    return texts


def _check_size(size: int, item: pair_pb2.Pair | pair_pb2.PromptedResponse, bounds: Bounds) -> None:
    if size > bounds.limits.max_text_bytes:  # the whole message is longer than its texts: most pairs pass here
        check_text_bytes(_texts(item), bounds.limits.max_text_bytes, "")
