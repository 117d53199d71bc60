"""The blocking client.

    with assay.Client("127.0.0.1:50151") as client:
        print(client.model().hook)
        for result in client.score(pairs):                 any number of pairs, lazily, in order
            if result.ok:
                print(result.id, result.score.by_freq[0])

| method            | for                                           | lane        |
|-------------------|-----------------------------------------------|-------------|
| `score`           | any number of pairs, streamed and resumed     | bulk        |
| `score_pairs`     | a few pairs, one call                         | interactive |
| `score_responses` | single responses, one call                    | interactive |
| `encode_tokens`   | one text, token by token                      | interactive |
| `model`           | what is loaded, and the limits                |             |
| `features`        | labels and evidence by feature id             |             |
| `list_features`   | features whose label or tokens contain a text |             |

A client is one connection, safe to share between threads. Errors are those of `assay.errors`.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import grpc

from assay import calls
from assay.errors import AssayError, ConnectionFailed, DeadlineExceeded, NotReady, from_rpc_error
from assay.flow import Flow, RetryPolicy
from assay.model import Feature, ModelInfo
from assay.options import DEFAULT_OPTIONS, ScoreOptions, Truncation
from assay.pairs import Message, Pair, PromptedResponse
from assay.results import EncodedText, PairResult, ResponseResult
from assay.stream import PairStream
from assay.transport import DEFAULT_ADDRESS, MAX_RECEIVE_BYTES, Endpoint, Tls
from assay.v1 import model_pb2_grpc, scoring_pb2_grpc

Reply = TypeVar("Reply")


class Client:
    """A connection to one Assay server. Use it as a context manager, or call `close`.

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
        self._channel = endpoint.channel()
        self._models: Any = model_pb2_grpc.ModelServiceStub(self._channel)
        self._scoring: Any = scoring_pb2_grpc.ScoringServiceStub(self._channel)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls still under way end as cancelled."""
        self._channel.close()

    def model(self, *, timeout: float | None = None) -> ModelInfo:
        """What the server has loaded, and what it accepts."""
        return calls.model_info(self._call(self._models.GetModel, calls.model_request(), timeout, self._timeouts.lookup))

    def wait_until_ready(self, timeout: float = 120.0) -> ModelInfo:
        """What is loaded, as soon as it is loaded: for scripts that have just started the server.

        Raises:
            ConnectionFailed, NotReady, DeadlineExceeded: it was not there, or not ready, when the time was up.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                return self.model(timeout=max(0.1, min(5.0, end - time.monotonic())))
            except (ConnectionFailed, DeadlineExceeded, NotReady):
                if time.monotonic() >= end:
                    raise
                time.sleep(0.2)

    def score(self, pairs: Iterable[Pair], options: ScoreOptions = DEFAULT_OPTIONS) -> Generator[PairResult, None, None]:
        """Scores any number of pairs over one stream.

        The iterable is consumed lazily, in the caller's thread, with a bounded number of pairs in flight (`Flow`). A
        lost connection is opened again and goes on after the last answer (`RetryPolicy`). An iterable that waits for
        answers before it gives the next pair wants `score_pairs`, or `AsyncClient`.

        Yields:
            one result for each pair, in order; a bad pair has its `error`.
        """
        return PairStream(
            lambda requests: self._scoring.StreamPairs(requests, metadata=self._metadata),
            self.model,
            options.to_proto(),
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).results(pairs)

    def score_pairs(
        self, pairs: Sequence[Pair], options: ScoreOptions = DEFAULT_OPTIONS, *, timeout: float | None = None
    ) -> list[PairResult]:
        """Scores a few pairs in one call that overtakes bulk streams; at most `Limits.max_pairs_per_request`."""
        request = calls.score_pairs_request(pairs, options)
        return calls.pair_results(self._call(self._scoring.ScorePairs, request, timeout, self._timeouts.score))

    def score_responses(
        self,
        responses: Sequence[PromptedResponse],
        options: ScoreOptions = DEFAULT_OPTIONS,
        *,
        timeout: float | None = None,
    ) -> list[ResponseResult]:
        """Scores single responses in one call; rankings are by the response's own values."""
        request = calls.score_responses_request(responses, options)
        return calls.response_results(self._call(self._scoring.ScoreResponses, request, timeout, self._timeouts.score))

    def encode_tokens(
        self,
        text: str | Sequence[Message],
        features: Iterable[int],
        *,
        truncation: Truncation = Truncation.REFUSE,
        timeout: float | None = None,
    ) -> EncodedText:
        """Where in a text (raw, or a conversation) the given features fire, with character offsets."""
        request = calls.encode_request(text, features, truncation)
        return calls.encoded(self._call(self._scoring.EncodeTokens, request, timeout, self._timeouts.score))

    def features(self, ids: Iterable[int], *, timeout: float | None = None) -> dict[int, Feature]:
        """Labels and evidence by feature id, in the order asked; as many calls as the server's limit needs."""
        found: dict[int, Feature] = {}
        every = list(dict.fromkeys(ids))
        for chunk in calls.chunks(every, self.model().limits.max_features_per_request or len(every)) if every else []:
            request = calls.features_request(chunk)
            found |= calls.features_of(self._call(self._models.BatchGetFeatures, request, timeout, self._timeouts.lookup))
        return found

    def list_features(self, containing: str = "", *, timeout: float | None = None) -> Iterator[Feature]:
        """Features whose label, top tokens or promoted tokens contain the text, by ascending id, page by page."""
        token = ""
        while True:
            request = calls.page_request(containing, token)
            page = self._call(self._models.ListFeatures, request, timeout, self._timeouts.lookup)
            yield from map(Feature.from_proto, page.features)
            token = page.next_page_token
            if not token:
                return

    def _call(self, method: Callable[..., Reply], request: object, timeout: float | None, default: float) -> Reply:
        try:
            return method(request, timeout=default if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as failure:
            rpc: Any = failure
            raise self._error(rpc) from None
        except ValueError as error:
            if "closed" in str(error):
                raise AssayError("this client is closed; open another", reason="CLOSED") from None
            raise

    def _error(self, rpc: Any) -> AssayError:
        return from_rpc_error(rpc, address=self.address)
