"""Greedy continuations of prompts, each row steered by its own vector, a few tokens at a time.

A long generation would hold the device for seconds; ``advance`` writes a few tokens and returns, so that other work has its turn
in between. The key-value cache is kept from one call to the next. The device's thread only.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay_server.subject.logprobs import LogprobReader, changing


class Continuation:
    """Rows of text under way.

    Args:
        logprobs: has the whole model.
        prompts: token ids of each row's beginning.
        edited_from: position in each from which the residual is edited.
        deltas: what is added to each row's residual at the hook, float32 [rows, width].
        length: tokens to write at most.
    """

    def __init__(
        self,
        logprobs: LogprobReader,
        prompts: Sequence[NDArray[np.int32]],
        edited_from: Sequence[int],
        deltas: NDArray[np.float32],
        length: int,
    ) -> None:
        self._logprobs = logprobs
        device = logprobs.device
        longest = max(len(ids) for ids in prompts)
        ids = np.zeros((len(prompts), longest), np.int64)
        mask, edited = np.zeros_like(ids), np.zeros(ids.shape, np.bool_)
        for row, (prompt, first) in enumerate(zip(prompts, edited_from, strict=True)):
            pad = longest - len(prompt)
            ids[row, pad:], mask[row, pad:], edited[row, pad + first :] = prompt, 1, True
        self._next = torch.from_numpy(ids).to(device)
        self._mask = torch.from_numpy(mask).to(device)
        self._edited = torch.from_numpy(edited).to(device)
        self._deltas = torch.from_numpy(deltas).to(device)
        self._ends = torch.tensor(sorted(logprobs.end_tokens), dtype=torch.int64, device=device)
        self._done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        self._past: Any = None
        self._length = length
        self._written: list[Tensor] = []

    @property
    def finished(self) -> bool:
        """Whether every row has ended or is long enough."""
        return len(self._written) >= self._length or bool(self._done.all())

    @torch.inference_mode()
    def advance(self, steps: int) -> None:
        """Write up to ``steps`` more tokens of every row."""
        whole, hook = self._logprobs.whole, self._logprobs.hook
        with whole.restored() as causal, changing(whole.blocks[hook.block], hook, self._steer):
            whole.decoder.config._attn_implementation = "eager"
            accepted = inspect.signature(causal.forward).parameters
            for _ in range(steps):
                if self.finished:
                    return
                positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -self._next.shape[1] :]
                extra: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
                out = causal(
                    input_ids=self._next,
                    attention_mask=self._mask,
                    past_key_values=self._past,
                    use_cache=True,
                    **{name: value for name, value in extra.items() if name in accepted},
                )
                self._take(out.logits[:, -1], out.past_key_values)

    def tokens(self) -> list[NDArray[np.int64]]:
        """What each row wrote, its end token left out."""
        if not self._written:
            return [np.zeros(0, np.int64) for _ in range(len(self._done))]
        table = torch.stack(self._written, dim=1).cpu().numpy()
        ends = set(self._ends.tolist())
        return [row[: next((place for place, id in enumerate(row.tolist()) if id in ends), len(row))] for row in table]

    def _take(self, logits: Tensor, past: Any) -> None:
        token = logits.argmax(dim=-1)
        if len(self._ends):
            token = torch.where(self._done, self._ends[0], token)
            self._done |= torch.isin(token, self._ends)
        self._written.append(token)
        self._past = past
        self._next = token[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._next)], dim=1)
        self._edited = torch.ones_like(self._next, dtype=torch.bool)

    def _steer(self, residual: Tensor) -> Tensor:
        moved = residual.float() + self._deltas[:, None, :] * self._edited[:, :, None]
        return moved.to(residual.dtype)
