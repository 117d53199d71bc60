# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it, which asyncio.timeout cannot do
"""The asyncio client: `assay.Client` with ``await``.

    async with assay.AsyncClient("127.0.0.1:50151") as client:
        print((await client.model()).hook)
        async for result in client.score(pairs):           pairs: an iterable, or an async iterable
            ...

A client belongs to the event loop that it was made in. A loop that leaves `score` early should close it:
``async with contextlib.aclosing(client.score(pairs)) as results``.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence

from assay import calls
from assay.aio_audit_methods import AsyncAuditMethods
from assay.aio_comparison_methods import AsyncComparisonMethods
from assay.aio_concept_methods import AsyncConceptMethods
from assay.aio_intervention_methods import AsyncInterventionMethods
from assay.aio_stream import AsyncPairStream
from assay.flow import scoring
from assay.model import Feature
from assay.options import DEFAULT_OPTIONS, ScoreOptions, Truncation
from assay.pairs import Message, Pair, PromptedResponse
from assay.results import EncodedText, PairResult, ResponseResult


class AsyncClient(AsyncAuditMethods, AsyncConceptMethods, AsyncInterventionMethods, AsyncComparisonMethods):
    """A connection to one Assay server. Use it as an async context manager, or await `close`.

    Arguments are those of `assay.aio_connection.AsyncConnection`: address, token, tls, timeouts, flow, retry, and their limits.
    """

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
            scoring(options.to_proto()),
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
