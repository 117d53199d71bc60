"""Requests in: protobuf to the engine's nouns, with every check that needs no model.

Invariants:
- What passes is well-formed: texts are bounded, turns are in an order that a chat template can render, numbers are
  finite, feature ids exist, tensors have the bytes that they say.
- Every refusal is an ``InvalidItem`` with the field's path, both numbers and the fix; none quotes a text of a pair.
- A pair's paths are relative to the pair (``chosen``), everything else's to the request
  (``options.concepts[2].direction``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from assay.v1 import pair_pb2, scoring_pb2

from assay_server.errors import EmptySpan, InvalidItem
from assay_server.ranking import WeightedStack, stack_weighted
from assay_server.rpc.concepts import Bounds, Concept, out_of_bounds, read_concepts, unknown_feature
from assay_server.scorer import Lane, ScoreOptions
from assay_server.subject.types import Message, Pair, Prompt, PromptedResponse, Truncation

T = TypeVar("T")

DEFAULT_TOP_K = 16
MAX_ID_BYTES = 256
MAX_METADATA_ENTRIES = 64
MAX_METADATA_BYTES = 16 * 1024

_TRUNCATIONS: Mapping[int, Truncation] = {
    scoring_pb2.TRUNCATION_UNSPECIFIED: Truncation.REFUSE,
    scoring_pb2.TRUNCATION_PROMPT_START: Truncation.PROMPT_START,
    scoring_pb2.TRUNCATION_RESPONSE_END: Truncation.RESPONSE_END,
}
_LANES: Mapping[int, Lane] = {scoring_pb2.LANE_INTERACTIVE: Lane.INTERACTIVE, scoring_pb2.LANE_BULK: Lane.BULK}
_CACHE_MODES: Mapping[int, bool] = {scoring_pb2.CACHE_MODE_UNSPECIFIED: False, scoring_pb2.CACHE_MODE_BYPASS: True}


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What a call asked for: the engine's part, and what to send back of its answer."""

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
        lane: where the work waits if the options do not say.
        path: where the options stand in the request.
    """
    top_k = options.top_k if options.HasField("top_k") else min(DEFAULT_TOP_K, bounds.limits.max_top_k)
    if not 0 <= top_k <= bounds.limits.max_top_k:
        raise out_of_bounds("top_k", top_k, bounds.limits.max_top_k, "max_top_k", f"{path}.top_k")
    truncation = _choose(_TRUNCATIONS, options.truncation, f"{path}.truncation")
    chosen_lane = _choose({scoring_pb2.LANE_UNSPECIFIED: lane, **_LANES}, options.lane, f"{path}.lane")
    bypass = _choose(_CACHE_MODES, options.cache_mode, f"{path}.cache_mode")
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
    _check_id(pair.id)
    if pair.metadata:
        _check_metadata(pair)
    prompt = _read_prompt(pair)
    if not pair.chosen:
        raise EmptySpan("The chosen response is empty; a pair needs two responses.", field="chosen")
    if not pair.rejected:
        raise EmptySpan("The rejected response is empty; a pair needs two responses.", field="rejected")
    return Pair(prompt, pair.chosen, pair.rejected, pair.id)


def read_response(item: pair_pb2.PromptedResponse, bounds: Bounds) -> PromptedResponse:
    """Checks and translates one prompted response."""
    _check_size(item.ByteSize(), item, bounds)
    _check_id(item.id)
    prompt = _read_prompt(item)
    if not item.response:
        raise EmptySpan("The response is empty.", field="response")
    return PromptedResponse(prompt, item.response, item.id)


def read_encode(request: scoring_pb2.EncodeTokensRequest, bounds: Bounds) -> tuple[Prompt, tuple[int, ...], Truncation]:
    """Checks and translates an EncodeTokens request: what to read, the features, and the truncation."""
    kind = request.WhichOneof("input")
    if kind is None:
        raise InvalidItem("Neither conversation nor text is set; set one.", reason="MISSING_INPUT", field="input")
    _check_text_bytes(_texts(request), request.ByteSize(), bounds, kind)
    if kind == "text":
        if not request.text:
            raise EmptySpan("The text is empty.", field="text")
        text: Prompt = request.text
    else:
        text = _read_turns(request.conversation.messages, "conversation.messages", last_may_answer=True)
    features = _read_feature_ids(request.features, bounds, "features")
    truncation = _choose(_TRUNCATIONS, request.truncation, "truncation")
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


def check_count(count: int, most: int, limit: str, path: str) -> None:
    """Refuses a request without items, or with more than the limit says."""
    if count == 0:
        raise InvalidItem(f"{path} is empty; send 1 to {most}.", reason="EMPTY_REQUEST", field=path, details={limit: most})
    if count > most:
        raise InvalidItem(
            f"{path} holds {count} items; {limit} is {most}. Split the request.",
            reason="TOO_MANY_PAIRS",
            field=path,
            details={"items": count, limit: most},
        )


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
        return _read_turns(item.conversation.messages, "conversation.messages", last_may_answer=False)
    if kind == "text":
        return item.text
    raise InvalidItem("The pair has no prompt; set conversation or text.", reason="MISSING_PROMPT", field="prompt")


def _read_turns(messages: Sequence[pair_pb2.Message], path: str, *, last_may_answer: bool) -> tuple[Message, ...]:
    """An optional system turn, then user and assistant in alternation; a tool turn may follow an assistant's or a tool's."""
    before = "start"
    for position, message in enumerate(messages):
        role = message.role
        if role not in _MAY_FOLLOW:
            raise InvalidItem(
                f"Turn {position} has an unknown role; the roles are system, user, assistant and tool.",
                reason="UNKNOWN_ROLE",
                field=f"{path}[{position}].role",
            )
        if before not in _MAY_FOLLOW[role]:
            after = "opens the conversation" if before == "start" else f"follows a {before} turn"
            raise InvalidItem(
                f"Turn {position} is the {role}'s and {after}; write an optional system turn first, "
                "then user and assistant in turn.",
                reason="ROLE_ORDER",
                field=f"{path}[{position}].role",
                details={"turn": position, "role": role},
            )
        before = role
    if before == "user" or (last_may_answer and before in ("assistant", "tool")):
        return tuple([Message(message.role, message.content) for message in messages])
    if before == "start":
        raise InvalidItem("The conversation has no turn; send at least one.", reason="EMPTY_CONVERSATION", field=path)
    raise InvalidItem(
        f"The last turn is the {before}'s; a prompt ends with a user turn, and the response answers it.",
        reason="ROLE_ORDER",
        field=f"{path}[{len(messages) - 1}].role",
        details={"turn": len(messages) - 1, "role": before},
    )


_MAY_FOLLOW = {
    "system": frozenset({"start"}),
    "user": frozenset({"start", "system", "assistant"}),
    "assistant": frozenset({"user", "tool"}),
    "tool": frozenset({"assistant", "tool"}),
}


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
        _check_text_bytes(_texts(item), size, bounds, "")


def _check_text_bytes(texts: list[str], size: int, bounds: Bounds, path: str) -> None:
    most = bounds.limits.max_text_bytes
    if size <= most:
        return
    total = sum(len(text.encode()) for text in texts)
    if total > most:
        raise InvalidItem(
            f"The texts take {total} bytes; max_text_bytes is {most}. Shorten them.",
            reason="TEXT_TOO_LONG",
            field=path,
            details={"text_bytes": total, "max_text_bytes": most},
        )


def _check_id(id: str) -> None:
    if len(id) > MAX_ID_BYTES // 4 and len(id.encode()) > MAX_ID_BYTES:
        raise InvalidItem(
            f"The id takes {len(id.encode())} bytes; at most {MAX_ID_BYTES} are allowed.",
            reason="ID_TOO_LONG",
            field="id",
            details={"id_bytes": len(id.encode()), "max_id_bytes": MAX_ID_BYTES},
        )


def _check_metadata(pair: pair_pb2.Pair) -> None:
    entries = len(pair.metadata)
    size = sum(len(key.encode()) + len(value.encode()) for key, value in pair.metadata.items())
    if entries > MAX_METADATA_ENTRIES or size > MAX_METADATA_BYTES:
        raise InvalidItem(
            f"The metadata has {entries} entries of {size} bytes; at most {MAX_METADATA_ENTRIES} entries "
            f"and {MAX_METADATA_BYTES} bytes are allowed.",
            reason="METADATA_TOO_LARGE",
            field="metadata",
            details={"entries": entries, "bytes": size},
        )


def _choose(known: Mapping[int, T], value: int, path: str) -> T:
    if value not in known:
        raise InvalidItem(
            f"{path.rsplit('.', maxsplit=1)[-1]} is {value}; the values are {min(known)} to {max(known)}.",
            reason="UNKNOWN_ENUM_VALUE",
            field=path,
            details={"value": value},
        )
    return known[value]
