"""The reference: what a practitioner's plain script computes, one sequence at a time, in float32.

transformers with eager attention and ``output_hidden_states``, then ``sae_lens.SAE.encode``, then pooling in plain loops.
Nothing here imports the engine, except the nouns that it compares with. Spans are found by construction of the template and,
for byte-level tokenizers, by the bytes of each token, never by offsets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from assay_server.subject.types import Message, Pair, Pooled, PooledSpan, Prompt, SpanName
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.support.chat_tokenizers import Kind

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}


@dataclass(frozen=True, slots=True)
class Sequence_:
    """One tokenised path and the positions of its spans, as the reference finds them."""

    ids: list[int]
    prompt: list[int]
    response: list[int]


def render(kind: Kind, tokenizer: Any, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
    """A conversation's text and each content's character range, by construction; held to the tokenizer's own template."""
    assert kind.builder is not None
    text, ranges = "", [(0, 0)] * len(messages)
    for piece, message in kind.builder(messages):
        if message >= 0:
            ranges[message] = (len(text), len(text) + len(piece))
        text += piece
    dicts = [{"role": m.role, "content": m.content} for m in messages]
    assert text == tokenizer.apply_chat_template(dicts, tokenize=False)
    return text, ranges


def tokenise(kind: Kind, tokenizer: Any, prompt: Prompt, response: str) -> Sequence_:
    """Tokens of prompt and response read as one text, and which of them carry the contents. The first token is in no span."""
    raw = isinstance(prompt, str)
    if raw:
        text, ranges = prompt + response, [(0, len(prompt)), (len(prompt), len(prompt) + len(response))]
    else:
        text, ranges = render(kind, tokenizer, [*prompt, Message("assistant", response)])
    ids, covers = _tokens(kind, tokenizer, text, raw)
    inside = [[t for t, (a, b) in enumerate(covers) if t > 0 and start < end and a < end and b > start] for start, end in ranges]
    answer = inside[-1]
    first = answer[0] if answer else len(ids)
    asked = sorted({t for positions in inside[:-1] for t in positions if t < first})
    return Sequence_(ids, asked, answer)


def _tokens(kind: Kind, tokenizer: Any, text: str, raw: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and the characters each token covers; (0, 0) for a token that stands for no character."""
    if not kind.byte_level:
        encoded = tokenizer(text, add_special_tokens=raw, return_offsets_mapping=True)
        return list(encoded["input_ids"]), [tuple(pair) for pair in encoded["offset_mapping"]]
    ids = list(tokenizer(text, add_special_tokens=raw)["input_ids"])
    covers: list[tuple[int, int]] = []
    at = 0  # bytes
    first_byte = np.cumsum([0] + [len(c.encode()) for c in text])  # of every character
    for position, token in enumerate(ids):
        piece = _token_bytes(tokenizer, token)
        if raw and position == 0 and token == tokenizer.bos_token_id and not text.encode().startswith(piece):
            covers.append((0, 0))
            continue
        end = at + len(piece)
        covers.append((int(np.searchsorted(first_byte, at, "right")) - 1, int(np.searchsorted(first_byte, end, "left"))))
        at = end
    assert at == first_byte[-1], "tokens do not add up to the text"
    return ids, covers


def _token_bytes(tokenizer: Any, token: int) -> bytes:
    text = tokenizer.convert_ids_to_tokens(token)
    if token in tokenizer.added_tokens_decoder:
        return text.encode()
    return bytes(_BYTES[character] for character in text)


class Reader:
    """Residuals of single sequences, kept by their ids.

    Args:
        model: the whole causal model, eager attention.
        layer: block whose output is read; not the last, whose entry in ``hidden_states`` has the final norm on it.
    """

    def __init__(self, model: Any, layer: int) -> None:
        assert layer < model.config.num_hidden_layers - 1
        self._model, self._layer = model, layer
        self._known: dict[tuple[int, ...], Tensor] = {}

    @torch.inference_mode()
    def residual(self, ids: Sequence[int]) -> Tensor:
        """Output of the block, float32 [tokens, width]."""
        key = tuple(ids)
        if key not in self._known:
            out = self._model(input_ids=torch.tensor([key]), output_hidden_states=True, use_cache=False)
            self._known[key] = out.hidden_states[self._layer + 1][0].float()
        return self._known[key]


@torch.inference_mode()
def margins(sae: Any, h: Tensor) -> Tensor:
    """How far each activation [tokens, d_sae] is from its firing boundary: positive where it fires.

    Rounding may move what lies within a tolerance of the boundary; how much does is counted by the comparison.
    """
    x = sae.process_sae_in(h)
    product = x @ sae.W_enc
    kind = sae.cfg.architecture()
    if kind == "gated":
        return torch.minimum(product + sae.b_gate, product * sae.r_mag.exp() + sae.b_mag)
    pre = product + sae.b_enc
    if kind == "jumprelu":
        return torch.minimum(pre - sae.threshold, pre)
    if kind == "standard":
        return pre
    assert kind == "topk"
    if sae.cfg.rescale_acts_by_decoder_norm:
        pre = pre * sae.W_dec.norm(dim=-1)
    best = pre.topk(sae.cfg.k + 1, dim=-1).values
    kth, next_ = best[:, -2:-1], best[:, -1:]
    rank = torch.where(pre >= kth, pre - next_, pre - kth)
    return torch.minimum(rank, pre)


def pool(acts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Largest activation and firing count of every feature over a span's tokens [tokens, d_sae]: a plain loop."""
    maximum, count = np.zeros(acts.shape[1], np.float32), np.zeros(acts.shape[1], np.int64)
    for row in acts.float().numpy():
        maximum = np.maximum(maximum, row)
        count += row > 0
    return maximum, count


@dataclass(slots=True)
class Comparison:
    """Compares engine spans with the reference and counts what tolerance had to excuse.

    Attributes:
        rtol, atol: on ``max``, on top of half a unit of the float16 that it is stored in; ``atol`` is relative to the
            residual's own scale.
        entries: (span, feature) cells that fire in the reference.
        excused: cells with a token within tolerance of the firing boundary.
    """

    rtol: float = 1e-4
    atol: float = 1e-5
    entries: int = 0
    excused: int = 0
    worst: float = 0.0
    spans: int = 0
    _seen: list[int] = field(default_factory=list[int])

    def span(self, got: PooledSpan, sae: Any, h: Tensor) -> None:
        """Hold one span, its mean residual too, to its tokens' residuals [span tokens, width]."""
        self.features(got, sae, h)
        mean = h.float().mean(dim=0).numpy()
        room = 2.0**-11 * np.abs(mean) + 2.0**-24 + self.rtol * np.abs(mean).max() + self.atol
        assert np.all(np.abs(got.mean_residual - mean) <= room), "mean residual differs"

    def features(self, got: PooledSpan, sae: Any, h: Tensor) -> None:
        """Hold one span's features to its tokens' residuals [span tokens, width]."""
        acts, margin = sae.encode(h).float(), margins(sae, h).float()
        assert torch.equal(acts > 0, margin > 0), "the reference contradicts itself"
        assert got.tokens == len(h)
        assert np.all(np.diff(got.indices.astype(np.int64)) > 0), "feature ids must ascend"
        maximum, count = pool(acts)
        scale = float(acts.max().clamp(min=1.0))
        close = (margin.abs() <= self.atol * scale + self.rtol * acts.abs()).any(dim=0).numpy()
        dense_max, dense_count = np.zeros_like(maximum), np.zeros_like(count)
        dense_max[got.indices], dense_count[got.indices] = got.max, got.counts
        self.entries += int((count > 0).sum())
        self.excused += int(close.sum())
        self.spans += 1
        sure = ~close
        assert np.array_equal(dense_count[sure], count[sure]), _report("counts", dense_count, count, sure)
        half_unit = np.maximum(np.abs(maximum) * 2.0**-11, 2.0**-25 * 2.0**got.exponent)
        off = np.abs(dense_max - maximum) - half_unit
        self.worst = max(self.worst, float((off[sure] / scale).max(initial=0.0)))
        assert np.all(off[sure] <= self.atol * scale + self.rtol * maximum[sure]), _report("max", dense_max, maximum, sure)

    def finish(self, share: float = 0.004) -> None:
        """Something was compared, and next to nothing was excused."""
        assert self.spans > 0
        assert self.entries > 20 * self.spans, f"only {self.entries} cells fire in {self.spans} spans: nothing is being tested"
        assert self.excused <= 2 + share * self.entries, f"{self.excused} of {self.entries} cells excused"


def _report(what: str, got: np.ndarray, want: np.ndarray, where: np.ndarray) -> str:
    worst = int(np.argmax(np.where(where, np.abs(got.astype(float) - want), -1)))
    return f"{what} of feature {worst}: engine {got[worst]}, reference {want[worst]}"


def pair_spans(kind: Kind, tokenizer: Any, pair: Pair) -> tuple[dict[SpanName, tuple[list[int], list[int]]], int]:
    """For each span the ids of the sequence that it is read from and its positions; and the tokens both sides share."""
    chosen = tokenise(kind, tokenizer, pair.prompt, pair.chosen)
    rejected = tokenise(kind, tokenizer, pair.prompt, pair.rejected)
    shared = 0
    a, b = chosen.ids[: chosen.response[-1] + 1], rejected.ids[: rejected.response[-1] + 1]
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    spans = {
        SpanName.PROMPT: (chosen.ids, chosen.prompt),
        SpanName.CHOSEN: (chosen.ids, chosen.response),
        SpanName.REJECTED: (rejected.ids, rejected.response),
    }
    return spans, shared


def hold_pair(
    comparison: Comparison,
    kind: Kind,
    tokenizer: Any,
    reader: Reader,
    sae: Any,
    pair: Pair,
    pooled: Pooled,
    include_prompt: bool = True,
) -> None:
    """Hold a pooled pair to the reference: every span, and the counts of tokens read and shared."""
    spans, shared = pair_spans(kind, tokenizer, pair)
    wanted = {name for name, (_, positions) in spans.items() if positions and (include_prompt or name is not SpanName.PROMPT)}
    assert set(pooled.spans) == wanted
    for name in wanted:
        ids, positions = spans[name]
        comparison.span(pooled.spans[name], sae, reader.residual(ids)[positions])
    lengths = [spans[name][1][-1] + 1 for name in (SpanName.CHOSEN, SpanName.REJECTED)]
    assert pooled.shared == shared
    assert pooled.read == sum(lengths) - shared
    assert pooled.prompt_tokens == len(spans[SpanName.PROMPT][1])
    assert pooled.truncated == 0
