"""Which tokens of a forward pass an edit of the residual stream touches, told from what the model is given (`EditedSpan`).

| span            | tokens                                                              | told from                          |
|-----------------|---------------------------------------------------------------------|------------------------------------|
| `ALL`           | every token                                                         | attention_mask                     |
| `RESPONSE`      | the response's, and the one before it                               | labels (not -100), `Edit.response` |
| `FINAL_TURN_ON` | from the first token of the last user turn's content to the end     | input_ids and the chat template    |

Invariants:
- The first token of a sequence, which is the residual stream's outlier, and padding are never touched.
- While a model generates with a cache, all that it writes is touched; of a prompt, `RESPONSE` touches the last token.
- The server's spans end with the response's content; here the tokens that close the turn are touched as well. Causal attention
  keeps that from changing any response token.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.errors import InvalidRequest
from assay.interventions import EditedSpan

_A, _B, _C = "\ue0a5a\ue0a6", "\ue0a5b\ue0a6", "\ue0a5c\ue0a6"  # contents that no template holds


@dataclass(frozen=True, slots=True)
class Given:
    """What one forward pass was given.

    Attributes:
        input_ids: [rows, tokens]; None where embeddings were given.
        attention_mask: [rows, tokens], or None for no padding.
        labels: [rows, tokens], -100 outside responses; None where there are none.
        response: [rows, tokens], true on responses, where given; takes precedence over labels.
        cached: tokens before these that a cache holds; None without a cache.
    """

    input_ids: Tensor | None
    attention_mask: Tensor | None
    labels: Tensor | None
    response: Tensor | None
    cached: int | None


class Sequences:
    """Rows that an edit applies to, known by their token ids, so that no trainer has to hand flags through its collator.

    Two rows of equal ids are one sequence: both are edited or neither.
    """

    def __init__(self, sequences: Iterable[Sequence[int]]) -> None:
        self._digests = {_digest(torch.as_tensor(list(ids), dtype=torch.int64)) for ids in sequences}

    def __len__(self) -> int:
        return len(self._digests)

    def rows(self, ids: Tensor, real: Tensor) -> Tensor:
        """Which rows of a batch they are, bool [rows]; `real` is false on padding."""
        ids_here, real_here = ids.detach().cpu().to(torch.int64), real.cpu()
        hit = [_digest(row[keep]) in self._digests for row, keep in zip(ids_here, real_here, strict=True)]
        return torch.tensor(hit, dtype=torch.bool, device=ids.device)


class Where:
    """Tells the touched tokens of a forward pass.

    Args:
        span: which tokens.
        rows: which rows; None for all.
        tokenizer: the policy's, with its chat template; FINAL_TURN_ON needs it.

    Raises:
        InvalidRequest: TOKENIZER_REQUIRED, or TEMPLATE_UNSUPPORTED: its user turns have no header to be found by.
    """

    def __init__(self, span: EditedSpan, rows: Sequences | None, tokenizer: Any) -> None:
        self._span = span
        self._rows = rows
        self._headers = user_headers(tokenizer) if span is EditedSpan.FINAL_TURN_ON else ()

    def mask(self, given: Given, like: Tensor) -> Tensor:
        """bool [rows, tokens] for a residual [rows, tokens, d_in].

        Raises:
            InvalidRequest: the span cannot be told from what was given; the message says what is missing.
        """
        real = _real(given, like)
        written = given.cached  # what follows cached tokens is being generated
        touched = real[:, -like.shape[1] :] if written else self._of(given, real) & _after_first(real)
        if self._rows is not None:
            if given.input_ids is None or given.cached:
                raise InvalidRequest("rows are known by their token ids, which this pass was not given", reason="ROWS_UNKNOWN")
            touched = touched & self._rows.rows(given.input_ids, real)[:, None]
        return touched

    def _of(self, given: Given, real: Tensor) -> Tensor:
        if self._span is EditedSpan.ALL:
            return real
        response = given.response
        if response is None and given.labels is not None:
            response = given.labels != -100
        if self._span is EditedSpan.RESPONSE:
            return _response(response, given, real)
        return self._final_turn_on(given, response, real)

    def _final_turn_on(self, given: Given, response: Tensor | None, real: Tensor) -> Tensor:
        if given.input_ids is None:
            raise InvalidRequest("the final user turn is found by token ids, and embeddings were given", reason="SPAN_UNKNOWN")
        starts = torch.tensor(
            [self._start(row, keep, at, response) for at, (row, keep) in enumerate(zip(given.input_ids, real, strict=True))],
            device=real.device,
        )
        places = torch.arange(real.shape[1], device=real.device)
        return real & (places[None, :] >= starts[:, None])

    def _start(self, ids: Tensor, real: Tensor, row: int, response: Tensor | None) -> int:
        """Place of the first token after the last user header that stands before the response."""
        tokens: list[int] = ids.tolist()
        places: list[int] = torch.nonzero(real).flatten().tolist()
        end = places[-1] + 1 if places else 0
        if response is not None and bool(response[row].any()):
            end = int(torch.nonzero(response[row]).flatten()[0])
        for at in range(end - 1, places[0] - 1 if places else end, -1):
            for header in self._headers:
                if tokens[at : at + len(header)] == header and at + len(header) <= end:
                    return at + len(header)
        raise InvalidRequest(
            f"row {row} of this pass has no user turn before token {end}, so the final one is not found; for raw text give "
            "span=EditedSpan.ALL",
            reason="SPAN_UNKNOWN",
            details={"row": str(row), "tokens": str(len(places))},
        )


def user_headers(tokenizer: Any) -> tuple[list[int], ...]:
    """Token ids that stand before the content of every user turn: as they are, and without white space at their end.

    A content that begins with white space may merge with the header's; the token of both is then the content's first.
    """
    if tokenizer is None:
        raise InvalidRequest(
            "the span FINAL_TURN_ON is found by the chat template: give tokenizer=, or another span=", reason="TOKENIZER_REQUIRED"
        )

    def render(*contents: str) -> str:
        roles = ("user", "assistant", "user")
        turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False))

    before_first = render(_A).partition(_A)[0]
    before_second = render(_A, _B, _C).partition(_B)[2].partition(_C)[0]
    headers = [
        _common_end(tokenizer, *pair) for pair in ((before_first, before_second), (before_first.rstrip(), before_second.rstrip()))
    ]
    if not headers[1]:
        raise InvalidRequest(
            "the chat template puts nothing before a user turn, so the final one is not found; give another span=",
            reason="TEMPLATE_UNSUPPORTED",
        )
    return tuple(headers)


def _common_end(tokenizer: Any, one: str, other: str) -> list[int]:
    """The token ids that both texts end with."""
    first, second = (list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (one, other))
    size = 0
    while size < min(len(first), len(second)) and first[-1 - size] == second[-1 - size]:
        size += 1
    return first[len(first) - size :]


def _response(response: Tensor | None, given: Given, real: Tensor) -> Tensor:
    places = torch.arange(real.shape[1], device=real.device)[None, :]
    if response is None:
        if given.cached is None:
            raise InvalidRequest(
                "the response's tokens are not known: call the model with labels (-100 on the prompt), or set Edit.response",
                reason="SPAN_UNKNOWN",
            )
        return places == torch.where(real, places, -1).amax(dim=1, keepdim=True)  # the first is predicted from a prompt's last
    response = response.to(real.device).bool()
    beyond = real.shape[1]
    first = torch.where(response, places, beyond).amin(dim=1, keepdim=True)
    last = torch.where(response, places, -1).amax(dim=1, keepdim=True)
    return real & (places >= first - 1) & (places <= last)


def _real(given: Given, like: Tensor) -> Tensor:
    """False on padding, bool [rows, tokens]; with a cache, of the cached tokens too."""
    mask = given.attention_mask
    if mask is None or mask.ndim != 2:
        return torch.ones(like.shape[:2], dtype=torch.bool, device=like.device)
    if mask.shape[1] != like.shape[1] + (given.cached or 0):
        raise InvalidRequest(
            f"the attention mask covers {mask.shape[1]} tokens and the residual has {like.shape[1]}: tokens were put in on the "
            "way (prefix tuning?), and none can be told apart",
            reason="SPAN_UNKNOWN",
        )
    return mask.to(like.device).bool()


def _after_first(real: Tensor) -> Tensor:
    return real & (real.long().cumsum(dim=1) > 1)


def _digest(ids: Tensor) -> bytes:
    return hashlib.blake2b(ids.contiguous().numpy().tobytes(), digest_size=16).digest()
