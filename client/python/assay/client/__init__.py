# Generated from assay/aio/__init__.py by `make client`. Do not edit.
"""The blocking client.

    with assay.Client("127.0.0.1:50151") as client:
        print(client.model().hook)
        for result in client.score(pairs):           any number of pairs, lazily, in order
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
| `cards`                                          | what one found, in sentences, as its report begins              |
| `hypotheses`, `hypothesis`                       | what one found, and the evidence for it                         |
| `decide`, `decisions`                            | decisions on the concepts that were found                       |
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

from assay.client.audits import AuditMethods
from assay.client.comparisons import ComparisonMethods
from assay.client.concepts import ConceptMethods
from assay.client.interventions import InterventionMethods
from assay.flow import scoring
from assay.model import DEFAULT_MODEL, Feature
from assay.names import PAGE_SIZE
from assay.options import DEFAULT_OPTIONS, ScoreOptions, Truncation
from assay.pairs import Message, Pair, PromptedResponse, conversation
from assay.results import EncodedText, PairResult, ResponseResult, encoded_text, pair_result, response_result
from assay.stream import PairStream
from assay.v1 import model_pb2, scoring_pb2


class Client(AuditMethods, ConceptMethods, InterventionMethods, ComparisonMethods):
    """A connection to one Assay server. Use it as a context manager, or call `close`.

    Arguments are those of `assay.client.connection.Connection`: address, token, tls, timeouts, flow, retry, and their limits.
    """

    def score(self, pairs: Iterable[Pair], options: ScoreOptions = DEFAULT_OPTIONS) -> Generator[PairResult, None, None]:
        """Scores any number of pairs over one stream.

        The iterable is consumed lazily, in the caller's thread, with a bounded number of pairs in flight (`Flow`). A lost
        connection is opened again and goes on after the last answer (`RetryPolicy`). An iterable that waits for
        answers before it gives the next pair needs `score_pairs`, or the asyncio client.

        Yields:
            one result per pair, in order; a bad pair has its `error`.
        """
        return PairStream(
            self._scoring.StreamPairs,
            self.model,
            scoring(options.to_proto()),
            metadata=self._metadata,
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).results(pairs)

    def score_pairs(
        self, pairs: Sequence[Pair], options: ScoreOptions = DEFAULT_OPTIONS, *, timeout: float | None = None
    ) -> list[PairResult]:
        """Scores a few pairs in one call that overtakes bulk streams; at most `Limits.max_pairs_per_request`."""
        request = scoring_pb2.ScorePairsRequest(pairs=[pair.to_proto() for pair in pairs], options=options.to_proto())
        answer = self._call(self._scoring.ScorePairs, request, timeout, self._timeouts.score)
        return [pair_result(index, result) for index, result in enumerate(answer.results)]

    def score_responses(
        self,
        responses: Sequence[PromptedResponse],
        options: ScoreOptions = DEFAULT_OPTIONS,
        *,
        timeout: float | None = None,
    ) -> list[ResponseResult]:
        """Scores single responses in one call; rankings are by the response's own values."""
        messages = [response.to_proto() for response in responses]
        request = scoring_pb2.ScoreResponsesRequest(responses=messages, options=options.to_proto())
        answer = self._call(self._scoring.ScoreResponses, request, timeout, self._timeouts.score)
        return [response_result(index, result) for index, result in enumerate(answer.results)]

    def encode_tokens(
        self,
        text: str | Sequence[Message],
        features: Iterable[int],
        *,
        truncation: Truncation = Truncation.REFUSE,
        timeout: float | None = None,
    ) -> EncodedText:
        """Where in a text (raw, or a conversation) the given features fire, with character offsets."""
        request = scoring_pb2.EncodeTokensRequest(features=features, truncation=truncation.value)
        if isinstance(text, str):
            request.text = text
        else:
            request.conversation.CopyFrom(conversation(text))
        return encoded_text(self._call(self._scoring.EncodeTokens, request, timeout, self._timeouts.score))

    def features(self, ids: Iterable[int], *, timeout: float | None = None) -> dict[int, Feature]:
        """Labels and evidence by feature id, in the order given; as many calls as the server's limit needs."""
        found: dict[int, Feature] = {}
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return found
        model = self.model()
        size = model.limits.max_features_per_request or len(wanted)
        for at in range(0, len(wanted), size):
            request = model_pb2.BatchGetFeaturesRequest(parent=DEFAULT_MODEL, ids=wanted[at : at + size])
            answer = self._ask(self._models.BatchGetFeatures, request, timeout)
            found |= {message.id: Feature.from_proto(message) for message in answer.features}
        return found

    def list_features(self, containing: str = "", *, timeout: float | None = None) -> Iterator[Feature]:
        """Features whose label, top tokens or promoted tokens contain the text, by ascending id, page by page."""
        request = model_pb2.ListFeaturesRequest(parent=DEFAULT_MODEL, page_size=PAGE_SIZE, filter=containing)
        for message in self._pages(self._models.ListFeatures, request, "features", timeout):
            yield Feature.from_proto(message)
