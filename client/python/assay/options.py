"""What to compute: options of a request, and the concepts to score along.

ScoreOptions(top_k=8)                                          shorter rankings
ScoreOptions(concepts=[Concept.feature("warmth", 1042)])       one feature
ScoreOptions(concepts=[Concept.features("lists", {7: 1.0, 12: 0.5})])
ScoreOptions(concepts=[Concept.direction("praise", vector)])   a direction of the residual stream, length d_in
ScoreOptions(concepts=[Concept.stored("flattery", "concepts/flattery")])   one that the server keeps
ScoreOptions(truncation=Truncation.PROMPT_START)               cut long prompts instead of failing the pair
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from assay.tensors import Tensor
from assay.v1 import concept_pb2, pair_pb2, scoring_pb2


class Truncation(Enum):
    """What to do with a sequence longer than the context."""

    REFUSE = scoring_pb2.TRUNCATION_UNSPECIFIED
    PROMPT_START = scoring_pb2.TRUNCATION_PROMPT_START
    RESPONSE_END = scoring_pb2.TRUNCATION_RESPONSE_END


class Lane(Enum):
    """Which queue the work waits in; by default interactive for single calls and bulk for streams."""

    DEFAULT = scoring_pb2.LANE_UNSPECIFIED
    INTERACTIVE = scoring_pb2.LANE_INTERACTIVE
    BULK = scoring_pb2.LANE_BULK


class CacheMode(Enum):
    """How the server's cache is used."""

    READ_WRITE = scoring_pb2.CACHE_MODE_UNSPECIFIED
    BYPASS = scoring_pb2.CACHE_MODE_BYPASS


@dataclass(frozen=True, slots=True)
class Concept:
    """A named, scoreable thing. Make one with `feature`, `features`, `direction` or `stored`."""

    name: str
    kind: int | tuple[tuple[int, float], ...] | Tensor | str

    @classmethod
    def feature(cls, name: str, feature: int) -> "Concept":
        """One SAE feature: its score on a response is its `max` pooled activation."""
        return cls(name, feature)

    @classmethod
    def features(cls, name: str, weights: Mapping[int, float]) -> "Concept":
        """A weighted sum of features' `max` pooled activations."""
        return cls(name, tuple(sorted(weights.items())))

    @classmethod
    def direction(cls, name: str, vector: Iterable[float] | Tensor) -> "Concept":
        """A direction v of the residual stream at the hook, length d_in: max over t of <h_t, v>; not normalised."""
        return cls(name, vector if isinstance(vector, Tensor) else Tensor.from_values(vector))

    @classmethod
    def stored(cls, name: str, concept: str) -> "Concept":
        """One that the server keeps: "concepts/{id}"."""
        return cls(name, concept)

    def to_proto(self) -> concept_pb2.ConceptSpec:
        """The wire form."""
        spec = concept_pb2.ConceptSpec(name=self.name)
        if isinstance(self.kind, str):
            spec.stored = self.kind
        elif isinstance(self.kind, int):
            spec.feature = self.kind
        elif isinstance(self.kind, Tensor):
            spec.direction.CopyFrom(self.kind.to_proto())
        else:
            indices, values = [index for index, _ in self.kind], [value for _, value in self.kind]
            spec.features.CopyFrom(pair_pb2.SparseVector(indices=indices, values=values))
        return spec


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What to compute and send back; the defaults work.

    Attributes:
        top_k: features in each ranking; None leaves it to the server (16), 0 asks for none.
        concepts: concepts to score both responses along; names are unique.
        include_features: send every pooled feature of the responses, not only the strongest differences.
        include_prompt: encode the prompt's tokens too; with `include_features` its pooled features are sent.
        include_mean_residual: send the mean residual of each span with its pooled features, shape [d_in].
        truncation: what to do with a sequence longer than the context.
        lane: which queue the work waits in.
        cache_mode: how the server's cache is used.
    """

    top_k: int | None = None
    concepts: Sequence[Concept] = ()
    include_features: bool = False
    include_prompt: bool = False
    include_mean_residual: bool = False
    truncation: Truncation = Truncation.REFUSE
    lane: Lane = Lane.DEFAULT
    cache_mode: CacheMode = CacheMode.READ_WRITE

    def to_proto(self) -> scoring_pb2.ScoreOptions:
        """The wire form."""
        return scoring_pb2.ScoreOptions(
            top_k=self.top_k,
            concepts=[concept.to_proto() for concept in self.concepts],
            include_features=self.include_features,
            include_prompt=self.include_prompt,
            include_mean_residual=self.include_mean_residual,
            truncation=self.truncation.value,
            lane=self.lane.value,
            cache_mode=self.cache_mode.value,
        )


DEFAULT_OPTIONS = ScoreOptions()
