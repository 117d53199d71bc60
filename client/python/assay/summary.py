"""What a set of pairs teaches, as a description: for each feature, on which side it shows, how often and how strongly.

    totals = assay.summary.Summary()
    for result in totals.watch(client.score(pairs, ScoreOptions(include_features=True))):
        ...
    for row in totals.features(20):
        print(row.feature, row.disparity)

The disparity of feature g is the mean over scored pairs of METHOD.md section 3's signed difference,
``b[i,g] = 1{freq_chosen > tau} - 1{freq_rejected > tau}`` with tau = 0.01: +1 where it shows in every chosen response and
in no rejected one.

This describes, and tests nothing: no correction for the thousands of features looked at, none for length (a longer response
shows more of most features) and none for prompts that repeat. Where results carry rankings only (without
`include_features`), a feature outside a pair's k strongest by `freq` counts as showing on neither side; `exact` says which.

Invariant: memory grows with the number of features, not of pairs.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from assay.results import CacheState, PairResult, PairScore

TAU = 0.01
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class FeatureShare:
    """One feature over all scored pairs.

    Attributes:
        feature: its id.
        pairs: pairs that were scored.
        chosen_only: pairs in which it shows (freq > tau) in the chosen response alone.
        rejected_only: pairs in which it shows in the rejected response alone.
    """

    feature: int
    pairs: int
    chosen_only: int
    rejected_only: int

    @property
    def disparity(self) -> float:
        """Mean of b, in [-1, 1]: positive where the chosen responses show it more often."""
        return (self.chosen_only - self.rejected_only) / self.pairs

    @property
    def share(self) -> float:
        """Share of pairs in which it shows on one side alone, in [0, 1]."""
        return (self.chosen_only + self.rejected_only) / self.pairs

    @property
    def margin(self) -> float:
        """Half the width of the normal 95% interval of `disparity`, pairs taken as independent; of this feature alone."""
        return _Z95 * math.sqrt(max(0.0, self.share - self.disparity**2) / self.pairs)


@dataclass(slots=True)
class Summary:
    """Adds results up.

    Attributes:
        tau: the share of tokens over which a feature shows in a response.
        scored: pairs with a score.
        errors: pairs without one, by reason.
        unreadable: rows of a file that held no pair, by reason; set by callers that read files.
        tokens_read: tokens that the model had to read.
        tokens_shared: tokens that it did not read twice because both sides share them.
        tokens_cached: tokens that it did not read because the cache answered.
        tokens_truncated: tokens that truncation dropped.
        cache: scored pairs by what the cache did.
        exact: whether every result so far carried all its features.
    """

    tau: float = TAU
    scored: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    unreadable: Counter[str] = field(default_factory=Counter[str])
    tokens_read: int = 0
    tokens_shared: int = 0
    tokens_cached: int = 0
    tokens_truncated: int = 0
    cache: Counter[CacheState] = field(default_factory=Counter[CacheState])
    exact: bool = True
    chosen_only: Counter[int] = field(default_factory=Counter[int])
    rejected_only: Counter[int] = field(default_factory=Counter[int])

    def watch(self, results: Iterable[PairResult]) -> Iterator[PairResult]:
        """The results, added up on their way through."""
        for result in results:
            self.add(result)
            yield result

    def add(self, result: PairResult) -> None:
        """One more result."""
        score = result.score
        if score is None:
            self.errors[result.error.reason if result.error else ""] += 1
            return
        tokens = score.tokens
        self.add_counts(score.timings.cache_state, tokens.read, tokens.shared, tokens.truncated)
        self.add_sides(*self._sides(score))

    def add_counts(self, cache: CacheState, read: int, shared: int, truncated: int) -> None:
        """One more scored pair: what the cache did, and its token counts."""
        self.scored += 1
        self.cache[cache] += 1
        self.tokens_truncated += truncated
        if cache in (CacheState.HIT, CacheState.SHARED):
            self.tokens_cached += read
        else:
            self.tokens_read += read
            self.tokens_shared += shared

    def add_sides(self, chosen: set[int], rejected: set[int]) -> None:
        """Features that show in one pair's chosen and rejected response."""
        self.chosen_only.update(chosen - rejected)
        self.rejected_only.update(rejected - chosen)

    def features(self, count: int = 20) -> list[FeatureShare]:
        """The features of the largest ``|disparity|``, largest first; ties by ascending id."""
        if not self.scored:
            return []
        rows = [
            FeatureShare(one, self.scored, self.chosen_only[one], self.rejected_only[one])
            for one in self.chosen_only.keys() | self.rejected_only.keys()
        ]
        rows.sort(key=lambda row: (-abs(row.chosen_only - row.rejected_only), row.feature))
        return rows[:count]

    def _sides(self, score: PairScore) -> tuple[set[int], set[int]]:
        chosen, rejected = score.chosen_features, score.rejected_features
        if chosen is not None and rejected is not None:
            return self.showing(chosen.indices, chosen.freq), self.showing(rejected.indices, rejected.freq)
        self.exact = False
        by_freq = score.by_freq
        return self.showing(by_freq.features, by_freq.chosen), self.showing(by_freq.features, by_freq.rejected)

    def showing(self, features: Iterable[int], freq: Iterable[float]) -> set[int]:
        """Features that fire on more than `tau` of the tokens."""
        tau = self.tau
        return {feature for feature, share in zip(features, freq, strict=True) if share > tau}
