"""A server of the contract with scripted manners, for what only the wire can show: lost connections, refusals, slowness.

It scores nothing. A pair's "score" is a function of its text, so that a test can tell a right result from a misplaced
one; the numbers mean nothing. The engine has its own tests, and the whole its own end-to-end ones.
"""

import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from assay.v1 import concept_pb2, model_pb2, model_pb2_grpc, pair_pb2, scoring_pb2, scoring_pb2_grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tests.client.support.audits import Shelf, add_audits

LABELLED = 1200


def rich_status(
    code: str,
    message: str,
    *,
    reason: str = "",
    details: dict[str, str] | None = None,
    fields: dict[str, str] | None = None,
    retry_seconds: float | None = None,
) -> status_pb2.Status:
    """A google.rpc.Status as the server makes them."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)

    def pack(detail: Any) -> None:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)

    if reason:
        pack(error_details_pb2.ErrorInfo(reason=reason, domain="assay", metadata=details or {}))
    if fields:
        violations = [error_details_pb2.BadRequest.FieldViolation(field=key, description=value) for key, value in fields.items()]
        pack(error_details_pb2.BadRequest(field_violations=violations))
    if retry_seconds is not None:
        delay = duration_pb2.Duration(seconds=int(retry_seconds), nanos=int(retry_seconds % 1 * 1e9))
        pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


@dataclass
class Manners:
    """How the server behaves, and what it has seen.

    Attributes:
        refusals: statuses with which the next calls fail, whatever they are, one each; streams at their first message.
        stream_ends: how the next streams end, one each: (batches answered before, status or None for an early good end).
        seconds_a_batch: how long it takes over each batch.
        hold: while set, batches are read and not answered.
        model_fingerprint: as GetModel tells it.
    """

    refusals: deque[status_pb2.Status] = field(default_factory=deque)
    stream_ends: deque[tuple[int, status_pb2.Status | None]] = field(default_factory=deque)
    seconds_a_batch: float = 0.0
    hold: threading.Event = field(default_factory=threading.Event)
    model_fingerprint: str = "a" * 64
    template_fingerprint: str = "c" * 64
    limits: model_pb2.Limits = field(
        default_factory=lambda: model_pb2.Limits(
            max_pairs_per_request=256,
            max_pairs_per_message=100,
            max_message_bytes=1 << 20,
            max_text_bytes=1 << 18,
            max_sequence_tokens=2048,
            max_top_k=256,
            max_concepts=64,
            max_concept_features=1024,
            max_tokens_in_flight=1 << 20,
            max_streams=8,
            batch_tokens=2048,
            max_features_per_request=64,
        )
    )
    tamper: Any = None  # applied to each StreamPairsResponse before it leaves
    calls: list[str] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    streams: list[list[int]] = field(default_factory=list)  # sequences received, by stream
    stream_outcomes: list[str] = field(default_factory=list)  # how each stream ended on this side
    batch_sizes: list[tuple[int, int]] = field(default_factory=list)  # pairs, bytes
    options: list[scoring_pb2.ScoreOptions] = field(default_factory=list)
    received: int = 0
    answered: int = 0


def fail(context: grpc.ServicerContext, status: status_pb2.Status) -> None:
    """Ends the call with a rich status, with the pushback that RetryInfo asks for."""
    trailers: list[tuple[str, Any]] = [("grpc-status-details-bin", status.SerializeToString())]
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(retry):
            milliseconds = retry.retry_delay.seconds * 1000 + retry.retry_delay.nanos // 1_000_000
            trailers.append(("grpc-retry-pushback-ms", str(milliseconds)))
    context.set_trailing_metadata(tuple(trailers))
    code = next(one for one in grpc.StatusCode if one.value[0] == status.code)
    context.abort(code, status.message)


def features_of(text: str, count: int) -> list[tuple[int, float]]:
    """A text's pretended features: distinct ids with values in (0, 1], strongest first."""
    seed = zlib.crc32(text.encode())
    ids = sorted({(seed * (step + 1) + step * 7919) % 4096 for step in range(count)})
    values = [(zlib.crc32(f"{seed}:{one}".encode()) % 1000 + 1) / 1000 for one in ids]
    return sorted(zip(ids, values, strict=True), key=lambda item: -item[1])


def score_pair(pair: pair_pb2.Pair, options: scoring_pb2.ScoreOptions) -> scoring_pb2.PairResult:
    """A function of the pair's text; an empty response is its error."""
    result = scoring_pb2.PairResult(id=pair.id)
    for name in ("chosen", "rejected"):
        if not getattr(pair, name):
            status = rich_status(
                "INVALID_ARGUMENT",
                f"the {name} response holds no token",
                reason="EMPTY_SPAN",
                details={"span": name},
                fields={name: "must not be empty"},
            )
            result.error.CopyFrom(status)
            return result
    top_k = options.top_k if options.HasField("top_k") else 16
    score = result.score
    score.tokens.prompt = len(pair.text) or sum(len(message.content) for message in pair.conversation.messages)
    score.tokens.chosen, score.tokens.rejected = len(pair.chosen), len(pair.rejected)
    score.tokens.read = score.tokens.prompt + len(pair.chosen) + len(pair.rejected)
    score.tokens.shared = score.tokens.prompt
    for ranking in (score.by_max, score.by_freq):
        for feature, value in features_of(pair.chosen + pair.rejected, top_k):
            ranking.features.append(feature)
            ranking.chosen.append(value if feature % 2 else 0.0)
            ranking.rejected.append(0.0 if feature % 2 else value)
    if options.include_features:
        for pooled, text in ((score.chosen_features, pair.chosen), (score.rejected_features, pair.rejected)):
            for feature, value in sorted(features_of(text, 24)):
                pooled.indices.append(feature)
                pooled.max.append(value * 4)
                pooled.freq.append(value)
    for concept in options.concepts:
        score.concepts.add(name=concept.name, chosen=len(pair.chosen), rejected=len(pair.rejected))
    hit = zlib.crc32(pair.chosen.encode()) % 2 == 0
    score.timings.cache_state = scoring_pb2.CACHE_STATE_HIT if hit else scoring_pb2.CACHE_STATE_MISS
    score.timings.tokenize_seconds = 0.001
    return result


class _Models(model_pb2_grpc.ModelServiceServicer):
    def __init__(self, manners: Manners) -> None:
        self._manners = manners

    def GetModel(self, request: Any, context: grpc.ServicerContext) -> model_pb2.GetModelResponse:
        _enter(self._manners, "GetModel", context)
        model = model_pb2.Model(
            name=request.name,
            model_id="tests/scripted",
            model_fingerprint=self._manners.model_fingerprint,
            tokenizer_fingerprint="b" * 64,
            template_fingerprint=self._manners.template_fingerprint,
            sae_fingerprint="d" * 64,
            hook="blocks.1.hook_resid_post",
            d_in=64,
            d_sae=4096,
            sae_architecture="topk",
            sae_id="tests/none",
            dtype="float32",
            device="cpu",
            context_tokens=2048,
            explained_variance=0.8125,
            mean_l0=32.5,
            calibration_tokens=1000,
            overrides=["a check that the operator overrode"],
            limits=self._manners.limits,
            server_version="0.0.1",
            labelled_features=LABELLED,
            whole_model_fingerprint="e" * 64,
        )
        return model_pb2.GetModelResponse(model=model)

    def BatchGetFeatures(self, request: Any, context: grpc.ServicerContext) -> model_pb2.BatchGetFeaturesResponse:
        _enter(self._manners, "BatchGetFeatures", context)
        if len(request.ids) > self._manners.limits.max_features_per_request:
            fail(context, rich_status("INVALID_ARGUMENT", "too many", reason="TOO_MANY_FEATURES"))
        return model_pb2.BatchGetFeaturesResponse(features=[_feature(one) for one in request.ids])

    def ListFeatures(self, request: Any, context: grpc.ServicerContext) -> model_pb2.ListFeaturesResponse:
        _enter(self._manners, "ListFeatures", context)
        ids = [one for one in range(LABELLED) if request.filter in f"label {one}"]
        at = int(request.page_token or 0)
        page = ids[at : at + request.page_size]
        more = str(at + len(page)) if at + len(page) < len(ids) else ""
        return model_pb2.ListFeaturesResponse(features=[_feature(one) for one in page], next_page_token=more, total_size=len(ids))


def _feature(one: int) -> concept_pb2.Feature:
    feature = concept_pb2.Feature(id=one, label=f"label {one}", label_method="none", top_tokens=["a", "b"])
    if one % 2:
        feature.detection_score = 0.75
    return feature


class _Scoring(scoring_pb2_grpc.ScoringServiceServicer):
    def __init__(self, manners: Manners) -> None:
        self._manners = manners

    def ScorePairs(self, request: Any, context: grpc.ServicerContext) -> scoring_pb2.ScorePairsResponse:
        _enter(self._manners, "ScorePairs", context)
        time.sleep(self._manners.seconds_a_batch)
        return scoring_pb2.ScorePairsResponse(results=[score_pair(pair, request.options) for pair in request.pairs])

    def ScoreResponses(self, request: Any, context: grpc.ServicerContext) -> scoring_pb2.ScoreResponsesResponse:
        _enter(self._manners, "ScoreResponses", context)
        response = scoring_pb2.ScoreResponsesResponse()
        for item in request.responses:
            result = response.results.add(id=item.id)
            if item.response:
                result.score.tokens.chosen = len(item.response)
                result.score.by_max.features.append(7)
                result.score.by_max.chosen.append(0.5)
            else:
                result.error.CopyFrom(rich_status("INVALID_ARGUMENT", "no token", reason="EMPTY_SPAN"))
        return response

    def EncodeTokens(self, request: Any, context: grpc.ServicerContext) -> scoring_pb2.EncodeTokensResponse:
        _enter(self._manners, "EncodeTokens", context)
        response = scoring_pb2.EncodeTokensResponse()
        for at, character in enumerate(request.text):
            response.tokens.add(id=ord(character), text=character, start=at, end=at + 1)
        for feature in request.features:
            response.activations.add(feature=feature, tokens=[0], values=[1.5])
        return response

    def StreamPairs(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        manners = self._manners
        first = next(requests)
        _enter(manners, "StreamPairs", context)
        assert first.WhichOneof("payload") == "options"
        manners.options.append(first.options.score)
        sequences: list[int] = []
        manners.streams.append(sequences)
        end = manners.stream_ends.popleft() if manners.stream_ends else None
        outcome = "cancelled"
        try:
            for answered, request in enumerate(requests):
                if end is not None and answered >= end[0]:
                    outcome = "scripted"
                    if end[1] is not None:
                        fail(context, end[1])
                    return
                sequences.append(request.batch.sequence)
                manners.batch_sizes.append((len(request.batch.pairs), request.ByteSize()))
                manners.received += len(request.batch.pairs)
                time.sleep(manners.seconds_a_batch)
                while manners.hold.is_set() and context.is_active():
                    time.sleep(0.01)
                results = [score_pair(pair, first.options.score) for pair in request.batch.pairs]
                response = scoring_pb2.StreamPairsResponse(sequence=request.batch.sequence, results=results)
                yield manners.tamper(response) if manners.tamper else response
                manners.answered += len(results)
            outcome = "finished" if context.is_active() else "cancelled"
        finally:
            manners.stream_outcomes.append(outcome)


def _enter(manners: Manners, name: str, context: grpc.ServicerContext) -> None:
    manners.calls.append(name)
    manners.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
    if manners.refusals:
        fail(context, manners.refusals.popleft())


class ScriptedServer:
    """A real gRPC server on loopback; `manners` may be changed while it runs."""

    def __init__(self, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        self.manners = Manners()
        self.shelf = Shelf()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16),
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 1 << 20)],
        )
        model_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self.manners), self._server)
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(_Scoring(self.manners), self._server)
        add_audits(self.shelf, self._server, fail, rich_status)
        where = f"127.0.0.1:{port}"
        bound = self._server.add_secure_port(where, credentials) if credentials else self._server.add_insecure_port(where)
        self.port = bound
        self.address = f"127.0.0.1:{bound}"
        self._server.start()

    def stop(self) -> None:
        """Ends every call."""
        self.manners.hold.clear()
        self._server.stop(0).wait()
