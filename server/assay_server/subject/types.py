"""The nouns of the engine: pairs as text, token trees, pooled spans. Plain data, no behaviour that needs a model.

Invariants:
- A *tree* is one trunk of tokens and the branches that continue it. A pair is a tree with two branches, a single sequence a
  tree with none. Every root-to-leaf path is exactly the token sequence that the model would read alone.
- Tokens of a tree are numbered flat: trunk first, then each branch in turn. A span is a set of flat positions.
- Pooled values are stored as they are sent: float16 ``max`` under a power-of-two scale, integer firing counts. A cold answer
  and a cached one are therefore the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: ``role`` as the chat template spells it, and its text."""

    role: str
    content: str


Prompt = tuple[Message, ...] | str  # chat turns, or raw text


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt, the first preferred."""

    prompt: Prompt
    chosen: str
    rejected: str
    id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class PromptedResponse:
    """One response to one prompt."""

    prompt: Prompt
    response: str
    id: str = ""


class SpanName(Enum):
    """The spans of METHOD.md §1. A single response is CHOSEN."""

    PROMPT = "prompt"
    CHOSEN = "chosen"
    REJECTED = "rejected"


class Truncation(Enum):
    """What to do with a sequence longer than the context."""

    REFUSE = "refuse"
    PROMPT_START = "prompt_start"
    RESPONSE_END = "response_end"


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Token ids of a pair or a sequence, shared prefix once.

    Attributes:
        trunk: ids that every path starts with, int32 [n_trunk].
        branches: ids of each continuation, int32 [n_branch] each; () for a single sequence.
        spans: flat positions of each span's tokens, int32, ascending; position 0 (the outlier token) is in none.
        shared: tokens that are not read twice: (branches - 1) * n_trunk, 0 without branches.
        truncated: tokens that truncation dropped, a shared one counted once.
    """

    trunk: NDArray[np.int32]
    branches: tuple[NDArray[np.int32], ...]
    spans: Mapping[SpanName, NDArray[np.int32]]
    truncated: int = 0

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return len(self.trunk) + sum(len(branch) for branch in self.branches)

    @property
    def shared(self) -> int:
        """Tokens that are not read again for every further branch."""
        return max(0, len(self.branches) - 1) * len(self.trunk)


@dataclass(frozen=True, slots=True)
class PooledSpan:
    """Pooled features of one span (METHOD.md §1), nonzeros only.

    Attributes:
        tokens: tokens in the span, at least 1.
        indices: feature ids, strictly ascending, uint32 [nnz].
        max_f16: largest activation over the tokens divided by 2**exponent, float16 [nnz].
        counts: tokens on which the feature fires (> 0), uint32 [nnz], each in [1, tokens].
        exponent: power of two that keeps ``max_f16`` finite; 0 unless an activation reaches 65,504.
        mean_residual: mean of the residual over the tokens, float16 under the same kind of scale [d_in].
        residual_exponent: its power of two.
    """

    tokens: int
    indices: NDArray[np.uint32]
    max_f16: NDArray[np.float16]
    counts: NDArray[np.uint32]
    exponent: int
    mean_residual_f16: NDArray[np.float16]
    residual_exponent: int

    @property
    def max(self) -> NDArray[np.float32]:
        """Largest activation over the span's tokens, float32 [nnz]."""
        values = self.max_f16.astype(np.float32)
        return np.ldexp(values, self.exponent) if self.exponent else values

    @property
    def freq(self) -> NDArray[np.float32]:
        """Share of the span's tokens on which the feature fires, float32 [nnz]."""
        return self.counts.astype(np.float32) / np.float32(self.tokens)

    @property
    def mean_residual(self) -> NDArray[np.float32]:
        """Mean residual over the span's tokens, float32 [d_in]."""
        return np.ldexp(self.mean_residual_f16.astype(np.float32), self.residual_exponent)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.indices.nbytes + self.max_f16.nbytes + self.counts.nbytes + self.mean_residual_f16.nbytes


@dataclass(frozen=True, slots=True)
class Pooled:
    """What the engine knows of one tree: its spans pooled, and the scores along the requested directions.

    Attributes:
        spans: pooled spans; PROMPT only where it was requested.
        prompt_tokens: tokens of the prompt span, whether or not it was pooled.
        read: tokens that the model read, shared ones once.
        shared: tokens saved by sharing.
        truncated: tokens dropped by truncation.
        directions: score max_t <h_t, v> of each direction, float32 [n_directions], by response span; empty without directions.
    """

    spans: Mapping[SpanName, PooledSpan]
    prompt_tokens: int
    read: int
    shared: int
    truncated: int
    directions: Mapping[SpanName, NDArray[np.float32]] = field(default_factory=dict[SpanName, NDArray[np.float32]])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(span.nbytes for span in self.spans.values()) + sum(d.nbytes for d in self.directions.values())


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Directions of the residual stream that a call wants scores along.

    Attributes:
        vectors: float32 [n, d_in].
        digest: SHA-256 over shape and bytes: part of the cache key.
    """

    vectors: NDArray[np.float32]
    digest: bytes


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One token of a text that was encoded: its id, text, and the turn and code-point offsets that it covers.

    ``message`` is -1 (and both offsets 0) for template and special tokens; offsets count Unicode code points of the turn's
    content.
    """

    id: int
    text: str
    message: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class EncodedTokens:
    """Token-level values of one text, float32.

    Attributes:
        tokens: of the text.
        activations: ``activations[j, t]`` of feature j (in the order requested) on token t.
        along: ``along[j, t]``, the inner product of direction j (in the order requested) with token t's residual.
    """

    tokens: tuple[TokenInfo, ...]
    activations: NDArray[np.float32]
    along: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))


@dataclass(frozen=True, slots=True)
class SubjectInfo:
    """What is loaded and how well it fits together; the fields mean what ``assay.v1.Model`` says of them."""

    model_id: str
    model_fingerprint: str
    model_architecture: str
    tokenizer_fingerprint: str
    template_fingerprint: str
    hook: str
    hook_module: str
    blocks_run: int
    blocks_total: int
    d_in: int
    d_sae: int
    sae_architecture: str
    sae_id: str
    sae_fingerprint: str
    dtype: str
    device: str
    context_tokens: int
    explained_variance: float
    mean_l0: float
    calibration_tokens: int
    overrides: tuple[str, ...] = ()
    whole_model_fingerprint: str = ""  # of all weights, where the whole model is kept; "" otherwise
