"""Families of tests: what is corrected together, and what could not pass any correction.

SAE features, text descriptors and words are vocabularies of their own; thousands of words must not cost the descriptors their
power, so each family is corrected by itself. A family is told by a concept's name alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

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
_Key = TypeVar("_Key", bound=Hashable)


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


def page_levels(least_q: Mapping[_Key, float], level: float) -> dict[_Key, float]:
    """The q up to which findings of each family are shown where the findings of several families share a page.

    A page of ten families, each false in 5% of datasets that teach nothing, says something false in up to 40% of them. So
    families are chosen first: the smallest Benjamini-Hochberg q of a family is Simes' p of "nothing in it", and Benjamini and
    Hochberg's procedure over families keeps R of m. In these, tests are made at R / m of the level (Benjamini and Bogomolov
    2014, J. R. Stat. Soc. B 76:297): the mean false discovery rate over the chosen families is then held, and where nothing
    is taught a page is empty in at least 1 − `level` of datasets. Where every family finds something nothing changes.

    Args:
        least_q: smallest q of each family that tested anything.
        level: of the page.

    Returns:
        By family: R / m of the level, or 0 where the family was not chosen.
    """
    many, in_order = len(least_q), sorted(least_q.values())
    chosen = max((k for k, q in enumerate(in_order, start=1) if q <= level * k / many), default=0)
    bound = level * chosen / max(many, 1)
    return {key: bound if q <= bound else 0.0 for key, q in least_q.items()}
