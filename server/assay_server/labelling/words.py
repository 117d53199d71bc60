"""Labels of groups of features (clusters, data clusters, topics of prompts), from the features' own labels and tokens.

    words = GroupWords(labels)
    words.of([17, 512, 44], [0.9, 0.5, 0.4])      # GroupLabel: label, method

Method ``members/1``: where the members show tokens, the tokens that most of the group's weight shares, and that few other
features of the SAE show; where prose labels carry more of the weight, those of the strongest. A prose label that detects too
little to be a name counts as none. It says what the members are called and measures nothing, so it carries no detection score.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from assay_server.labelling.evidence import METHOD as EVIDENCE
from assay_server.labelling.evidence import quoted
from assay_server.labelling.labels import FeatureLabel, GroupLabel, Labels

METHOD = "members/1"
_TOKENS_A_MEMBER = 8
_TOKENS_SHOWN = 4
_LABELS_SHOWN = 2
_MEMBERS_READ = 64


class GroupWords:
    """Words for groups of one SAE's features. Counts the labels' tokens once; make a new one when labels change.

    It keeps the labels as they are, so that a thread may use it while others change them.

    Args:
        labels: of the features.
    """

    def __init__(self, labels: Labels) -> None:
        self._entries = {entry.id: entry for entry in labels.known()}
        self._holders: Counter[str] = Counter()
        self._features = len(self._entries)
        for entry in self._entries.values():
            self._holders.update({plain for plain, _ in _tokens(entry)})

    def of(self, features: Sequence[int], weights: Sequence[float] | None = None) -> GroupLabel:
        """Words for a group, strongest feature first where no weights are given; an empty label where nothing is known.

        Args:
            features: ids, any number; the 64 strongest are read.
            weights: weight of each, by absolute value. None: 1/(1 + rank).
        """
        given = [1 / (1 + rank) for rank in range(len(features))] if weights is None else [abs(weight) for weight in weights]
        order = sorted(range(len(features)), key=lambda i: -given[i])[:_MEMBERS_READ]
        members = [(self._entries.get(features[i]) or FeatureLabel(features[i]), given[i]) for i in order]
        told = [(entry, weight) for entry, weight in members if entry.label and (not entry.weak or entry.top_tokens)]
        prose = [(entry, weight) for entry, weight in told if entry.label_method != EVIDENCE and not entry.weak]
        spoken = sum(weight for _, weight in prose)
        shown = sum(weight for entry, weight in told if (entry.label_method == EVIDENCE or entry.weak) and entry.top_tokens)
        if not told:
            return GroupLabel()
        text = _joined(prose) if spoken > shown else self._shared_tokens(told)
        return GroupLabel(text or _joined(prose or told), METHOD)

    def _shared_tokens(self, members: Iterable[tuple[FeatureLabel, float]]) -> str:
        """The tokens that most of the weight shares, rarer ones first where equal."""
        mass: Counter[str] = Counter()
        spelling: dict[str, str] = {}
        for entry, weight in members:
            for rank, (plain, token) in enumerate(_tokens(entry)):
                rarity = math.log((1 + self._features) / self._holders[plain])
                mass[plain] += weight * rarity / (1 + 0.25 * rank)  # pyright: ignore[reportArgumentType]
                spelling.setdefault(plain, token)
        best = sorted(mass, key=lambda plain: (-mass[plain], plain))[:_TOKENS_SHOWN]
        return ", ".join(quoted(spelling[plain]) for plain in best)


def _tokens(entry: FeatureLabel) -> list[tuple[str, str]]:
    """A member's first tokens, as they compare (no case, no space around) and as they are spelt, each once."""
    found: dict[str, str] = {}
    for token in entry.top_tokens[:_TOKENS_A_MEMBER]:
        found.setdefault(token.strip().casefold() or token, token)
    return list(found.items())


def _joined(members: Sequence[tuple[FeatureLabel, float]]) -> str:
    """The labels of the strongest members."""
    return "; ".join(dict.fromkeys(entry.label for entry, _ in members[:_LABELS_SHOWN]))
