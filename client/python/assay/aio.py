# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it, which asyncio.timeout cannot do
"""The asyncio client: `assay.Client` with ``await``.

    async with assay.AsyncClient("127.0.0.1:50151") as client:
        print((await client.model()).hook)
        async for result in client.score(pairs):           pairs: an iterable, or an async iterable
            ...

A client belongs to the event loop that it was made in. A loop that leaves `score` early should close it:
``async with contextlib.aclosing(client.score(pairs)) as results``.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import grpc
import grpc.aio

from assay import calls
from assay.aio_stream import AsyncPairStream
from assay.errors import AssayError, ConnectionFailed, DeadlineExceeded, NotReady, from_rpc_error
from assay.flow import Flow, RetryPolicy
from assay.model import Feature, ModelInfo
from assay.options import DEFAULT_OPTIONS, ScoreOptions, Truncation
from assay.pairs import Message, Pair, PromptedResponse
from assay.results import EncodedText, PairResult, ResponseResult
from assay.transport import DEFAULT_ADDRESS, MAX_RECEIVE_BYTES, Endpoint, Tls
from assay.v1 import model_pb2_grpc, scoring_pb2_grpc


class AsyncClient:
    """A connection to one Assay server. Use it as an async context manager, or await `close`.

    Args:
        address: host:port.
        token: bearer token; travels only encrypted or over loopback unless `allow_insecure_token`.
        tls: how to encrypt; None sends plain text.
        timeouts: seconds for single calls where a call does not say otherwise.
        flow: how much `score` sends at once.
        retry: when `score` gives up on a lost connection.
        max_receive_bytes: the largest answer that this client takes.
        allow_insecure_token: send the token unencrypted to another machine.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        timeouts: calls.Timeouts | None = None,
        flow: Flow | None = None,
        retry: RetryPolicy | None = None,
        max_receive_bytes: int = MAX_RECEIVE_BYTES,
        allow_insecure_token: bool = False,
    ) -> None:
        endpoint = Endpoint(address, token, tls, max_receive_bytes, allow_insecure_token)
        self.address = address
        self._timeouts = timeouts or calls.Timeouts()
        self._flow = flow or Flow()
        self._retry = retry or RetryPolicy()
        self._metadata = endpoint.metadata()
        self._channel: Any = endpoint.aio_channel()
        self._models: Any = model_pb2_grpc.ModelServiceStub(self._channel)
        self._scoring: Any = scoring_pb2_grpc.ScoringServiceStub(self._channel)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls still under way end as cancelled."""
        await self._channel.close()

    async def model(self, *, timeout: float | None = None) -> ModelInfo:
        """What the server has loaded, and what it accepts."""
        return calls.model_info(await self._call(self._models.GetModel, calls.model_request(), timeout, self._timeouts.lookup))

    async def wait_until_ready(self, timeout: float = 120.0) -> ModelInfo:
        """What is loaded, as soon as it is loaded: for scripts that have just started the server.

        Raises:
            ConnectionFailed, NotReady, DeadlineExceeded: it was not there, or not ready, when the time was up.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                return await self.model(timeout=max(0.1, min(5.0, end - time.monotonic())))
            except (ConnectionFailed, DeadlineExceeded, NotReady):
                if time.monotonic() >= end:
                    raise
                await asyncio.sleep(0.2)

    def score(
        self, pairs: Iterable[Pair] | AsyncIterable[Pair], options: ScoreOptions = DEFAULT_OPTIONS
    ) -> AsyncGenerator[PairResult, None]:
        """Scores any number of pairs over one stream.

        The iterable is consumed lazily, in a task of its own, with a bounded number of pairs in flight (`Flow`); answers
        do not wait for it. A lost connection is opened again and goes on after the last answer (`RetryPolicy`).

        Yields:
            one result for each pair, in order; a bad pair has its `error`.
        """
        return AsyncPairStream(
            lambda: self._scoring.StreamPairs(metadata=self._metadata),
            self.model,
            options.to_proto(),
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).results(pairs)

    async def score_pairs(
        self, pairs: Sequence[Pair], options: ScoreOptions = DEFAULT_OPTIONS, *, timeout: float | None = None
    ) -> list[PairResult]:
        """Scores a few pairs in one call that overtakes bulk streams; at most `Limits.max_pairs_per_request`."""
        request = calls.score_pairs_request(pairs, options)
        return calls.pair_results(await self._call(self._scoring.ScorePairs, request, timeout, self._timeouts.score))

    async def score_responses(
        self,
        responses: Sequence[PromptedResponse],
        options: ScoreOptions = DEFAULT_OPTIONS,
        *,
        timeout: float | None = None,
    ) -> list[ResponseResult]:
        """Scores single responses in one call; rankings are by the response's own values."""
        request = calls.score_responses_request(responses, options)
        return calls.response_results(await self._call(self._scoring.ScoreResponses, request, timeout, self._timeouts.score))

    async def encode_tokens(
        self,
        text: str | Sequence[Message],
        features: Iterable[int],
        *,
        truncation: Truncation = Truncation.REFUSE,
        timeout: float | None = None,
    ) -> EncodedText:
        """Where in a text (raw, or a conversation) the given features fire, with character offsets."""
        request = calls.encode_request(text, features, truncation)
        return calls.encoded(await self._call(self._scoring.EncodeTokens, request, timeout, self._timeouts.score))

    async def features(self, ids: Iterable[int], *, timeout: float | None = None) -> dict[int, Feature]:
        """Labels and evidence by feature id, in the order asked; as many calls as the server's limit needs."""
        found: dict[int, Feature] = {}
        every = list(dict.fromkeys(ids))
        for chunk in calls.chunks(every, (await self.model()).limits.max_features_per_request or len(every)) if every else []:
            request = calls.features_request(chunk)
            found |= calls.features_of(await self._call(self._models.BatchGetFeatures, request, timeout, self._timeouts.lookup))
        return found

    async def list_features(self, containing: str = "", *, timeout: float | None = None) -> AsyncIterator[Feature]:
        """Features whose label, top tokens or promoted tokens contain the text, by ascending id, page by page."""
        token = ""
        while True:
            request = calls.page_request(containing, token)
            page = await self._call(self._models.ListFeatures, request, timeout, self._timeouts.lookup)
            for message in page.features:
                yield Feature.from_proto(message)
            token = page.next_page_token
            if not token:
                return

    async def _call(self, method: Callable[..., Any], request: object, timeout: float | None, default: float) -> Any:
        try:
            return await method(request, timeout=default if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as failure:
            rpc: Any = failure
            raise from_rpc_error(rpc, address=self.address) from None
        except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise AssayError(f"this client is closed; open another ({error})", reason="CLOSED") from None
