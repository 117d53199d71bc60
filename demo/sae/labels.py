"""Labels for the demo SAE's features, made from evidence and scored on text that they were not made from.

Method ``evidence-tokens/1``: a label quotes the tokens that carry most of a feature's activation in the training text and
or the tokens that it follows, and says where in a response the feature tends to fire. Nothing else is claimed,
so a label can be checked against its own evidence. Labels never enter a test (METHOD.md, section 2).

Invariants: contexts come from responses that the model itself sampled to licence-clean prompts, never from HH; tokens are
shown only where they occur in licence-clean text as well; a text with an unwanted word is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demo.sae.activations import RESPONSE, Reading
from demo.sae.firing import Evidence, Firing, Firings, detection_auroc, token_evidence

METHOD = "evidence-tokens/1"
_UNWANTED = re.compile(
    r"sex|porn|rape|nude|naked|fuck|ucking|shit|bitch|whore|slut|cunt|dick|penis|vagin|kill|murder|suicid|nazi|jew|muslim|islam"
    r"|black|white|gay|lesbian|homo|trans|negro|nigg|fag|terror|bomb|weapon|drug|racis|slave|abus|hate|stupid|idiot|die\b"
    r"|dead|death|blood|tortur|http|www\.|@|\d{5,}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sources:
    """What labels are made of: firings on the training text, on held-out text, and on the model's own responses.

    `own_starts` [own tokens] counts tokens since the response began; `promoted` [d_sae, n] are token ids by the decoder's
    logit lens; `allowed` [vocabulary] marks the tokens that may be shown.
    """

    train: Firings
    held_out: Firings
    own: Firings
    own_rows: NDArray[np.int64]
    own_starts: NDArray[np.int64]
    promoted: Tensor
    allowed: NDArray[np.bool_]


def describe(feature: int, sources: Sources, tokenizer: Any) -> dict[str, Any]:
    """One feature's record: label, evidence, firing rate and detection score."""
    firing, unseen, own = sources.train.of(feature), sources.held_out.of(feature), sources.own.of(feature)
    on = token_evidence(firing, sources.train.ids, sources.allowed)
    after = token_evidence(firing, sources.train.before, sources.allowed)
    tops, previous = ([str(tokenizer.decode([i])) for i in evidence.ids] for evidence in (on, after))
    score = detection_auroc(on, after, unseen, sources.held_out)
    return {
        "id": feature,
        "label": write_label(tops, previous, on, after, opening_share(own, sources.own_starts)),
        "label_method": METHOD,
        "detection_score": None if score is None else round(score, 3),
        "detection_positives": len(unseen.positions),
        "top_tokens": tops,
        "top_token_rates": [round(rate, 3) for rate in on.rates],
        "top_tokens_mass": round(on.mass, 3),
        "previous_tokens": previous,
        "previous_token_rates": [round(rate, 3) for rate in after.rates],
        "previous_tokens_mass": round(after.mass, 3),
        "promoted_tokens": [str(tokenizer.decode([i])) for i in sources.promoted[feature].tolist()][:8],
        "contexts": contexts(own, sources, tokenizer),
        "firing_rate": round(len(firing.positions) / sources.train.tokens, 6),
        "max_activation": round(float(firing.values.max()), 2) if len(firing.values) else 0.0,
    }


def write_label(tops: Sequence[str], previous: Sequence[str], on: Evidence, after: Evidence, opening: float) -> str:
    """A label of a few words from the more telling of two kinds of evidence: tokens fired on, and tokens fired after."""
    if not tops and not previous:
        return "no evidence: fired on no token that can be shown"
    follows = after.weight > on.weight
    told = after if follows else on
    words = list(dict.fromkeys(_shown(t) for t in (previous if follows else tops)))[: 4 if told.mass >= 0.25 else 3]
    strength = "" if told.mass >= 0.25 else "mixed: " if told.mass >= 0.1 else "diffuse: "
    where = ", at the start of a response" if opening > 0.6 else ""
    return f"{strength}{'after ' if follows else ''}{', '.join(words)}{where}"


def opening_share(own: Firing, starts: NDArray[np.int64]) -> float:
    """The share of a feature's firings in sampled responses that lie in a response's first four tokens."""
    return float((starts[own.positions] < 4).mean()) if len(own.positions) >= 10 else 0.0


def contexts(own: Firing, sources: Sources, tokenizer: Any, limit: int = 3) -> list[str]:
    """The strongest firings in sampled responses, one a response, a dozen tokens each, the token between « and »."""
    shown: list[str] = []
    rows: set[int] = set()
    for i in np.argsort(-own.values, kind="stable")[:40]:
        at = int(own.positions[i])
        row = int(sources.own_rows[at])
        if row in rows:
            continue
        around = [p for p in range(at - 8, at + 5) if 0 <= p < len(sources.own_rows) and sources.own_rows[p] == row]
        ids = sources.own.ids
        before = tokenizer.decode([int(ids[p]) for p in around if p < at])
        after = tokenizer.decode([int(ids[p]) for p in around if p > at])
        text = f"{before}«{tokenizer.decode([int(ids[at])])}»{after}"
        if not _UNWANTED.search(text):
            rows.add(row)
            shown.append(text)
        if len(shown) == limit:
            break
    return shown


def allowed_tokens(clean_ids: Sequence[NDArray[np.int64]], tokenizer: Any) -> NDArray[np.bool_]:
    """The tokens [vocabulary] that occur in licence-clean text, decode to whole characters, and are not unwanted."""
    allowed = np.zeros(len(tokenizer), dtype=bool)
    for ids in clean_ids:
        allowed[np.unique(ids)] = True
    for i in np.flatnonzero(allowed):
        text = tokenizer.decode([int(i)])
        allowed[i] = "�" not in text and not _UNWANTED.search(text)
    return allowed


@torch.inference_mode()
def promoted_tokens(sae: Any, norm: Tensor, unembed: Tensor, allowed: NDArray[np.bool_], limit: int = 12) -> Tensor:
    """The logit lens of every decoder row through the final norm's gain: token ids [d_sae, limit], strongest first.

    `norm` [d_in] is the gain of the model's last RMSNorm, `unembed` [vocabulary, d_in] its output embedding.
    """
    directions = torch.nn.functional.normalize(sae.W_dec.float(), dim=-1) * norm.float()
    mean = directions.mean(0)
    hidden = torch.from_numpy(~allowed)
    logits = ((block - mean) @ unembed.float().T for block in directions.split(512))
    return torch.cat([block[:, : len(hidden)].masked_fill(hidden, -torch.inf).topk(limit).indices for block in logits])


def own_responses(reading: Reading) -> tuple[Reading, NDArray[np.int64], NDArray[np.int64]]:
    """The response tokens of a reading, with each token's conversation and its distance from the response's start."""
    kept = reading.where(reading.spans == RESPONSE)
    rows = kept.rows.numpy().astype(np.int64)
    first = np.r_[True, rows[1:] != rows[:-1]]
    starts = np.arange(len(rows)) - np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
    return kept, rows, starts


def _shown(token: str) -> str:
    text = token.strip()
    return f"“{text}”" if text else {"\n": "line break", "\n\n": "blank line"}.get(token, "space")
