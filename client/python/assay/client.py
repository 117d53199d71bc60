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

| for audits, in the order of use                  | for                                                             |
|--------------------------------------------------|-----------------------------------------------------------------|
| `upload_pairs`, `import_pairs`                   | a dataset that the server keeps; goes on where it stopped       |
| `datasets`, `dataset`, `delete_dataset`          | what it keeps                                                   |
| `audit`, `test`                                  | everything that a dataset teaches, or one stated hypothesis     |
| `operation`, `operations`                        | long work that goes on on the server, found again by its name   |
| `audits`, `get_audit`, `delete_audit`            | audits that were made                                           |
| `hypotheses`, `hypothesis`                       | what one found, and the evidence for it                         |
| `decide`, `decisions`                            | what is wanted of the concepts that were found                  |
| `export_audit`                                   | the report as HTML, all hypotheses as Parquet                   |
| `create_concept`, `concepts`, `concept`, ...     | named, scoreable things of your own (`assay.concepts`)          |
| `compute_clusters`, `clusters`, `create_labels`  | the SAE's feature clusters, and labels                          |

| for training, from what was decided              | for                                                             |
|--------------------------------------------------|-----------------------------------------------------------------|
| `create_plan`, `plans`, `plan`, `delete_plan`    | interventions compiled for a dataset, with what to expect       |
| `offsets`                                        | what goes inside the sigmoid of any number of pairs, streamed   |
| `intervention`, `measure_intervention`           | a vector, basis or clamp to put into the model; its curve       |
| `data_plan`, `export_data_plan`                  | weights, flips, masks and texts, pair by pair                   |
| `rank_inoculation_prompts`, `score_rewards`      | prompts that explain a preference; rewards of fresh responses   |
| `compare_rollouts`                               | whether training did what its data predicted                    |

A client is one connection, safe to share between threads. Errors are those of `assay.errors`.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence

from assay import calls
from assay.audit_methods import AuditMethods
from assay.comparison_methods import ComparisonMethods
from assay.concept_methods import ConceptMethods
from assay.flow import scoring
from assay.intervention_methods import InterventionMethods
from assay.model import Feature
from assay.options import DEFAULT_OPTIONS, ScoreOptions, Truncation
from assay.pairs import Message, Pair, PromptedResponse
from assay.results import EncodedText, PairResult, ResponseResult
from assay.stream import PairStream


class Client(AuditMethods, ConceptMethods, InterventionMethods, ComparisonMethods):
    """A connection to one Assay server. Use it as a context manager, or call `close`.

    Arguments are those of `assay.connection.Connection`: address, token, tls, timeouts, flow, retry, and their limits.
    """

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
            scoring(options.to_proto()),
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
