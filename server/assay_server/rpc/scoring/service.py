"""ScoringService: pairs, streams of pairs, single responses, and token-level activations. Translation only."""

import asyncio
from typing import Any

import grpc
from assay.v1 import scoring_pb2, scoring_pb2_grpc

from assay_server.rpc import messages as results
from assay_server.rpc.items import PAIRS, RESPONSES, Call, score_items
from assay_server.rpc.pairs import check_count, read_encode, read_options
from assay_server.rpc.state import ServerState, deadline_of
from assay_server.rpc.streams import PairStream
from assay_server.scorer import Lane


class ScoringServicer(scoring_pb2_grpc.ScoringServiceServicer):
    """Translates between the contract and the scorer."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def ScorePairs(
        self, request: scoring_pb2.ScorePairsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> scoring_pb2.ScorePairsResponse:
        """Scores a request's pairs, ahead of bulk streams."""
        call = self._call("ScorePairs", "pairs", len(request.pairs), request.options, context)
        return scoring_pb2.ScorePairsResponse(results=await score_items(PAIRS, request.pairs, call))

    async def StreamPairs(self, request_iterator: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Scores any number of pairs; answers come in order, a bounded number of batches behind."""
        self._state.enter_stream()
        try:
            await PairStream(self._state, context).run()
        finally:
            self._state.leave_stream()

    async def ScoreResponses(
        self, request: scoring_pb2.ScoreResponsesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> scoring_pb2.ScoreResponsesResponse:
        """Scores a request's single responses."""
        call = self._call("ScoreResponses", "responses", len(request.responses), request.options, context)
        return scoring_pb2.ScoreResponsesResponse(results=await score_items(RESPONSES, request.responses, call))

    async def EncodeTokens(
        self, request: scoring_pb2.EncodeTokensRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> scoring_pb2.EncodeTokensResponse:
        """Activations of named features on each token of one text."""
        loaded = self._state.loaded
        text, features, truncation = read_encode(request, loaded.bounds)
        encoded, timings = await loaded.scorer.encode_tokens(text, features, truncation=truncation, deadline=deadline_of(context))
        # A long text with many features takes tens of milliseconds to spell out: not on the event loop.
        return await asyncio.to_thread(results.encoded, encoded, features, timings)

    def _call(
        self,
        method: str,
        path: str,
        count: int,
        options: scoring_pb2.ScoreOptions,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Call:
        loaded = self._state.loaded
        check_count(count, loaded.bounds.limits.max_pairs_per_request, "max_pairs_per_request", path)
        read = read_options(options, loaded.bounds, lane=Lane.INTERACTIVE)
        return Call(method, path, loaded, read, deadline_of(context), self._state.metrics)
