"""Pairs and pooled features to store, made up from a seed."""

import numpy as np
from assay_server.subject.types import Message, Pair, Pooled, PooledSpan, SpanName, SubjectInfo

D_SAE = 50


def make_pairs(count: int, seed: int = 0, prompts: int = 7) -> list[Pair]:
    rng = np.random.default_rng(seed)
    pairs: list[Pair] = []
    for index in range(count):
        topic = int(rng.integers(prompts))
        prompt = f"raw {topic}: " if topic % 3 == 0 else (Message("system", "é"), Message("user", f"what of {topic}? \U0001f600"))
        metadata = {"topic": str(topic % 2), "source": f"s{index % 5}"} if index % 4 else {}
        pairs.append(Pair(prompt, f"**yes** {index}", f"no\n- {index}\n- b", f"id-{index}", metadata))
    return pairs


def make_pooled(rng: np.random.Generator, spans: tuple[SpanName, ...] = tuple(SpanName)) -> Pooled:
    return Pooled({name: _span(rng) for name in spans}, prompt_tokens=9, read=40, shared=9, truncated=0)


def _span(rng: np.random.Generator) -> PooledSpan:
    tokens = int(rng.integers(1, 300))
    indices = np.sort(rng.choice(D_SAE, int(rng.integers(0, 12)), replace=False)).astype(np.uint32)
    maxima = rng.lognormal(size=len(indices)).astype(np.float16)
    counts = rng.integers(1, tokens + 1, len(indices)).astype(np.uint32)
    return PooledSpan(tokens, indices, maxima, counts, int(rng.integers(-2, 3)), np.zeros(4, np.float16), 0)


def subject_info(**changes: object) -> SubjectInfo:
    about: dict[str, object] = dict.fromkeys(SubjectInfo.__slots__, "x")
    about |= dict.fromkeys(("blocks_run", "blocks_total", "d_in", "context_tokens", "calibration_tokens"), 1)
    about |= {"d_sae": D_SAE, "explained_variance": 1.0, "mean_l0": 1.0, "overrides": (), **changes}
    return SubjectInfo(**about)  # type: ignore[arg-type]


_WORDS = ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta", "many", "thanks", "sorry", "perhaps", "I", "cannot")
_SENTENCES = ("I'm sorry, I can't do that.", "Thank you so much!", "Would you like more?", "Perhaps it may rain.", "As an AI.")
_MARKUP = ("## Notes\n", "- one\n- two\n- three\n", "**mint** ", "1. a\n2. b\n", "```py\nx = 1\n```\n", "| a | b |\n|---|---|\n")
_ODD = (
    "\U0001f600 ok",
    "e\u0301t\u00e9 \u65e5\u672c\u8a9e",
    "\u202eabc\u0000",
    "na\u00efve \u00df\u0130",
    "\u200d\ufe0f\r\n\u2028",
)


def make_texts(count: int, seed: int = 0, prompts: int = 9) -> list[Pair]:
    """Pairs whose responses show descriptors of every kind, with odd Unicode, empty texts and prompts in several shards."""
    rng = np.random.default_rng(seed)

    def response() -> str:
        parts = [" ".join(rng.choice(_WORDS, int(rng.integers(1, 9)))) + "."]
        for some, share in ((_SENTENCES, 0.6), (_MARKUP, 0.5), (_ODD, 0.3)):
            if rng.random() < share:
                parts.insert(int(rng.integers(len(parts) + 1)), str(rng.choice(some)))
        return "\n".join(parts) if rng.random() < 0.95 else ""

    pairs: list[Pair] = []
    for index in range(count):
        topic = int(rng.integers(prompts))
        turns = (Message("system", "Be calm."), Message("user", f"Tell me of {_WORDS[topic]}?"), Message("assistant", "Which?"))
        prompt = f"Raw {topic}: " if topic % 3 == 0 else (*turns, Message("user", f"Number {topic}."))
        pairs.append(Pair(prompt, response(), response(), f"t{index}"))
    return pairs
