"""Labels from evidence: the tokens on which a feature fires, or after which it does (METHOD.md §2).

    label_from_evidence(made, unseen, firing_of)     # one record: label, evidence, detection score

Method ``evidence-tokens/1``: a label quotes the tokens that carry most of a feature's activation, or those that it follows, and
says where in a response it tends to fire. Nothing else is claimed, so a label can be checked against its own evidence. The demo
SAE's labels (demo/README.md) are made by the same method.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.metrics import auroc
from assay_server.labelling.contexts import marked_contexts
from assay_server.labelling.firings import Firing, Ids, TokenFirings

METHOD = "evidence-tokens/1"
SHOWN_TOKENS = 20
SHOWN_CONTEXTS = 3
_UNSEEN_FIRINGS = 5  # occurrences without firing that every token is given, so that one seen once does not come first
_TOKEN = re.compile(r"(?:“.+?”|line break|blank line|space)(?=,|$)")  # see `quoted`
_OPENING = 4  # tokens that count as the start of a response

FiringOf = Callable[[TokenFirings], Firing]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Tokens that tell of a feature, most telling first.

    Attributes:
        ids: token ids.
        rates: for each the share of its occurrences at which the feature fires.
        mass: share of the feature's whole activation that they carry together, in [0, 1].
    """

    ids: tuple[int, ...]
    rates: tuple[float, ...]
    mass: float

    @property
    def weight(self) -> float:
        """How much they tell: mass times mean rate."""
        return self.mass * sum(self.rates) / len(self.rates) if self.rates else 0.0


@dataclass(frozen=True, slots=True)
class EvidenceLabel:
    """A label from evidence.

    Attributes:
        label: a few words; "" where it never fired.
        detection_score: AUROC over tokens of unseen texts of predicting whether it fires, from the evidence alone; None where it
            fires on none or all of them.
        top_tokens: texts of the tokens that it fires on.
        firing_rate: share of tokens that it fires on, in the texts that the label was made from.
        contexts: strongest firings, the token between « and ».
    """

    label: str
    detection_score: float | None
    top_tokens: tuple[str, ...]
    firing_rate: float
    contexts: tuple[str, ...]


def label_from_evidence(made: TokenFirings, unseen: TokenFirings, firing_of: FiringOf) -> EvidenceLabel:
    """Label what ``firing_of`` picks out of firings: one feature, or several together.

    Args:
        made: texts that the label is made from.
        unseen: texts that it is measured on.
        firing_of: for example ``lambda firings: firings.firing(17)``.
    """
    firing = firing_of(made)
    on, after = token_evidence(firing, made.ids), token_evidence(firing, made.before)
    label = write_label(words_of(on, made), words_of(after, made), on, after, opening_share(firing, made))
    return EvidenceLabel(
        label=label,
        detection_score=detection_auroc(on, after, firing_of(unseen), unseen) if label else None,
        top_tokens=tuple(words_of(on, made)),
        firing_rate=len(firing.positions) / made.tokens if made.tokens else 0.0,
        contexts=marked_contexts(made, firing, limit=SHOWN_CONTEXTS),
    )


def token_evidence(firing: Firing, ids: Ids, limit: int = SHOWN_TOKENS) -> Evidence:
    """The most telling tokens among ``ids`` [tokens], which the firing's positions index; id -1 is no token.

    A token tells by its activation mass times its rate, so that neither a word that is everywhere nor one that was seen once
    comes first.
    """
    if not len(firing.positions):
        return Evidence((), (), 0.0)
    size = int(ids.max()) + 2
    fired = ids[firing.positions] + 1
    mass = np.bincount(fired, weights=firing.values, minlength=size)
    counts = np.bincount(fired, minlength=size)
    seen = np.bincount(ids + 1, minlength=size)
    total = float(mass.sum())
    telling = mass * counts / (seen + _UNSEEN_FIRINGS)
    telling[0] = 0.0
    shown = [int(i) for i in np.argsort(-telling, kind="stable")[:limit] if telling[i] > 0]
    rates = tuple(float(counts[i] / seen[i]) for i in shown)
    return Evidence(tuple(i - 1 for i in shown), rates, float(mass[shown].sum()) / total if total else 0.0)


def detection_auroc(on: Evidence, after: Evidence, firing: Firing, firings: TokenFirings) -> float | None:
    """AUROC of predicting, token by token, whether a feature fires, from evidence alone; 0.5 is chance.

    A token's score is the larger of ``on``'s rate for it and ``after``'s rate for the token before it, 0 for tokens that neither
    shows. None where the feature fires on no token, or on all.
    """
    fires = np.zeros(firings.tokens, dtype=np.bool_)
    fires[firing.positions] = True
    if not fires.any() or fires.all():
        return None
    return auroc(np.maximum(_looked_up(on, firings.ids), _looked_up(after, firings.before)), fires)


def write_label(tops: Sequence[str], previous: Sequence[str], on: Evidence, after: Evidence, opening: float) -> str:
    """A few words from the more telling of two kinds of evidence; "" where there is neither."""
    follows = after.weight > on.weight
    told = after if follows else on
    words = list(dict.fromkeys(quoted(token) for token in (previous if follows else tops)))[: 4 if told.mass >= 0.25 else 3]
    if not words:
        return ""
    strength = "" if told.mass >= 0.25 else "mixed: " if told.mass >= 0.1 else "diffuse: "
    where = ", at the start of a response" if opening > 0.6 else ""
    return f"{strength}{'after ' if follows else ''}{', '.join(words)}{where}"


def opening_share(firing: Firing, firings: TokenFirings) -> float:
    """The share of a feature's firings that lie in the first tokens of their text; 0 where there are under ten."""
    if len(firing.positions) < 10:
        return 0.0
    text = np.searchsorted(firings.starts, firing.positions, side="right") - 1
    return float((firing.positions - firings.starts[text] < _OPENING).mean())


def words_of(evidence: Evidence, firings: TokenFirings) -> list[str]:
    """The texts of its tokens."""
    return [firings.words[id] for id in evidence.ids]


def quoted(token: str) -> str:
    """A token as a label shows it."""
    text = token.strip()
    return f"“{text}”" if text else {"\n": "line break", "\n\n": "blank line"}.get(token, "space")


def listed_tokens(text: str) -> list[str]:
    """The tokens of a list that `quoted` made, as it made them; [] where the text is anything else."""
    return _TOKEN.findall(text) if re.fullmatch(f"{_TOKEN.pattern}(?:, {_TOKEN.pattern})*", text) else []


def _looked_up(evidence: Evidence, ids: Ids) -> NDArray[np.float64]:
    table = np.zeros(max(int(ids.max(initial=-1)), *evidence.ids, -1) + 2)
    table[np.array(evidence.ids, dtype=np.int64) + 1] = evidence.rates
    table[0] = 0.0
    return table[ids + 1]
