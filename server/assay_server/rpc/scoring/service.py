"""ScoringService: pairs, streams of pairs, single responses, and token-level activations. Translation only."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from assay.v1 import scoring_pb2, scoring_pb2_grpc

from assay_server.rpc import messages as results
from assay_server.rpc.fields import check_count
from assay_server.rpc.items import AnyCall, Call, answer_items
from assay_server.rpc.pairs import CallOptions, read_encode, read_options, read_pair, read_response
from assay_server.rpc.state import Context, Loaded, ServerState, deadline_of
from assay_server.rpc.streams import PairStream
from assay_server.scorer import Lane

_Form = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]  # reads an item; an answer's result; an error's
_PAIRS: _Form = (read_pair, results.pair_result, scoring_pb2.PairResult)
_RESPONSES: _Form = (read_response, results.response_result, scoring_pb2.ResponseResult)


class ScoringServicer(scoring_pb2_grpc.ScoringServiceServicer):
    """Translates between the contract and the scorer."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def ScorePairs(self, request: scoring_pb2.ScorePairsRequest, context: Context) -> scoring_pb2.ScorePairsResponse:
        """Scores a request's pairs, ahead of bulk streams."""
        call = self._unary("ScorePairs", "pairs", len(request.pairs), request.options, context, _PAIRS)
        return scoring_pb2.ScorePairsResponse(results=await answer_items(request.pairs, call))

    async def StreamPairs(self, request_iterator: object, context: Context) -> None:
        """Scores any number of pairs; answers come in order, a bounded number of batches behind."""
        options = "StreamOptions, empty if the defaults are right"
        await PairStream(self._state, context, self._open, scoring_pb2.StreamPairsResponse, options).run()

    async def ScoreResponses(
        self, request: scoring_pb2.ScoreResponsesRequest, context: Context
    ) -> scoring_pb2.ScoreResponsesResponse:
        """Scores a request's single responses."""
        call = self._unary("ScoreResponses", "responses", len(request.responses), request.options, context, _RESPONSES)
        return scoring_pb2.ScoreResponsesResponse(results=await answer_items(request.responses, call))

    async def EncodeTokens(self, request: scoring_pb2.EncodeTokensRequest, context: Context) -> scoring_pb2.EncodeTokensResponse:
        """Activations of named features on each token of one text."""
        loaded = self._state.loaded
        text, features, truncation = read_encode(request, loaded.bounds)
        encoded, timings = await loaded.scorer.encode_tokens(text, features, truncation=truncation, deadline=deadline_of(context))
        # A long text with many features takes tens of milliseconds to spell out: not on the event loop.
        return await asyncio.to_thread(results.encoded, encoded, features, timings)

    def _unary(
        self, method: str, path: str, count: int, options: scoring_pb2.ScoreOptions, context: Context, form: _Form
    ) -> AnyCall:
        loaded = self._state.loaded
        check_count(count, loaded.bounds.limits.max_pairs_per_request, "max_pairs_per_request", path)
        read = read_options(options, loaded.bounds, lane=Lane.INTERACTIVE)
        return self._call(method, path, loaded, read, deadline_of(context), form)

    async def _open(self, options: scoring_pb2.StreamOptions, loaded: Loaded, deadline: float | None) -> AnyCall:
        read = read_options(options.score, loaded.bounds, lane=Lane.BULK, path="options.score")
        # A stream's batches keep their places in the line for room: what a stream has under way is bounded already.
        patient = replace(read, engine=replace(read.engine, patient=True))
        return self._call("StreamPairs", "batch.pairs", loaded, patient, deadline, _PAIRS)

    def _call(self, method: str, path: str, loaded: Loaded, options: CallOptions, deadline: float | None, form: _Form) -> AnyCall:
        read, result, failed = form
        return Call(
            method,
            path,
            loaded.bounds,
            self._state.metrics,
            read=read,
            answer=lambda items, _: loaded.scorer.score(items, options.engine, deadline=deadline),
            result=partial(result, options=options, ranker=loaded.ranker),
            failed=failed,
        )
