"""Families of tests: what is corrected together, and what could not pass any correction.

SAE features, text descriptors and words are vocabularies of their own; thousands of words must not cost the descriptors their
power, so each family is corrected by itself. A family is told by a concept's name alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike

from assay_server.audit.matrices import Bools, Floats, Ints
from assay_server.audit.shards import BY_MAX


class Family(IntEnum):
    """What kind of concept a test is about."""

    SAE = 0  # features, clusters, response clusters, stored concepts
    LOCAL = 1  # features present by their maximum
    TEXT = 2  # descriptors of the text
    WORDS = 3  # n-grams
    SOURCE = 4  # which model wrote a response

    @property
    def title(self) -> str:
        """In words."""
        return _TITLES[self]


_TITLES = {
    Family.SAE: "SAE concepts",
    Family.LOCAL: "SAE features by their maximum",
    Family.TEXT: "text descriptors",
    Family.WORDS: "words",
    Family.SOURCE: "sources",
}
_PREFIXES = {"text/": Family.TEXT, "word/": Family.WORDS, "source/": Family.SOURCE}
_GIVEN = len(Family)


@dataclass(frozen=True, slots=True)
class FamilyCount:
    """What one family tested and found in a view.

    Attributes:
        family: which.
        given: whether under conditions that were named beforehand: a family of its own.
        tests: that its q-values are corrected over.
        findings_raw: by the raw effect.
        findings_controlled: once nuisances are controlled for.
    """

    family: Family
    given: bool
    tests: int
    findings_raw: int
    findings_controlled: int


def family_of(name: str) -> Family:
    """The family of a concept, by its name."""
    prefix = name[: name.find("/") + 1]
    return _PREFIXES.get(prefix, Family.LOCAL if name.endswith(BY_MAX) else Family.SAE)


def family_codes(names: Iterable[str], *, given: bool = False) -> Ints:
    """A code per concept: equal codes are corrected together."""
    return np.array([family_of(name) + _GIVEN * given for name in names], np.int64)


def counts(codes: Ints, tested: Bools, raw: Bools, controlled: Bools) -> tuple[FamilyCount, ...]:
    """Tests and findings by family, in the order of the codes; all arrays are [tests]."""
    result: list[FamilyCount] = []
    for code in np.unique(codes):
        here = codes == code
        sums = (int((here & which).sum()) for which in (tested, raw, controlled))
        result.append(FamilyCount(Family(int(code) % _GIVEN), bool(code >= _GIVEN), *sums))
    return tuple(result)


def attainable(least: ArrayLike, tested: Bools, codes: Ints, level: float) -> Bools:
    """Which tests could pass a correction at all, by the smallest p that each can reach: the others need not be counted.

    Tarone 1990: with the smallest K for which at most K tests can reach level / K, those tests alone are corrected over (Gilbert
    2005 carries this over to Benjamini and Hochberg). The smallest p must be known without the labels.

    Args:
        least: smallest p that each test can reach, [tests].
        tested: where a test was made, [tests].
        codes: family of each, [tests].
        level: of the correction.
    """
    floor, result = np.asarray(least, np.float64), np.zeros(len(codes), np.bool_)
    for code in np.unique(codes[tested]):
        here = np.flatnonzero(tested & (codes == code))
        sizes = np.arange(1, len(here) + 1)
        reach: Floats = level / sizes
        few = np.searchsorted(np.sort(floor[here]), reach, side="right") <= sizes
        result[here] = floor[here] <= reach[few.argmax()]
    return result
