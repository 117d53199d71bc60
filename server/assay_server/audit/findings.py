"""What an audit asks and what it finds: options and result tables, plain data.

Invariants:
- Every option has the method's default; `resolved` fills in those that depend on the data, and nothing is decided elsewhere.
- A table is columns of equal length, one row per test, in rank order. No column holds a NaN: what could not be tested has
  p = q = 1, estimate 0 where there is none, and a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from assay_server.audit.families import FamilyCount
from assay_server.audit.matrices import Bools, Codes, Floats, Ints


class ViewKind(StrEnum):
    """METHOD.md 3.1 to 3.4."""

    GLOBAL = "global"
    FEATURE_CONDITIONED = "feature_conditioned"
    PROMPT_CONDITIONED = "prompt_conditioned"
    STATED = "stated"


@dataclass(frozen=True)
class AuditOptions:
    """Knobs of the statistics; 0 or None where the data decides. See AuditOptions in proto/assay/v1/audit.proto."""

    views: tuple[ViewKind, ...] = (ViewKind.GLOBAL, ViewKind.FEATURE_CONDITIONED, ViewKind.PROMPT_CONDITIONED)
    tau: float = 0.01
    q_level: float = 0.05
    interval_level: float = 0.95
    yekutieli: bool = False  # which q-value makes a finding
    max_t_flips: int = 1024
    data_clusters: int = 0
    silent_percentile: float = 5.0
    min_features: int = 10
    min_inside: int = 25
    min_firings: int = 0  # 0: min(200, a tenth of the pairs), at least 10
    prompt_clusters: int = 0
    response_clusters: int = 0  # 0: features singly under 20,000 pairs
    top_share: float = 0.1
    svd_rank: int = 128
    delta_of_freq: bool = False  # response deltas of freq instead of max
    prompt_values: bool = False  # a prompt's activity by the value of its features instead of whether they fire
    seed: int = 0
    keep: int = 1000
    evidence: int = 5
    local: bool = True  # features that tau hides are tested by their maximum too
    control_pairs: int = 0  # that are read once more, for dense and a random dictionary beside what explains the preference


def resolved(options: AuditOptions, pairs: int) -> AuditOptions:
    """The options with the defaults that depend on how many pairs there are filled in.

    Data clusters: 512 for 260,000 pairs ([A]), in proportion to the square root of the pairs, and at least 50 pairs a cluster on
    average. Firings: 200 ([A]), and at most a tenth of the pairs, but never under 10. The numbers of prompt and response
    clusters stay 0 where they are: they depend on the features that pass the filters.
    """
    clusters = options.data_clusters or max(1, min(round(512 * (pairs / 260_000) ** 0.5), pairs // 50))
    return replace(options, data_clusters=clusters, min_firings=options.min_firings or max(10, min(200, pairs // 10)))


@dataclass(frozen=True, eq=False)
class Effects:
    """Arrays [tests]; see Effect in audit.proto."""

    estimate: Floats
    low: Floats
    high: Floats
    z: Floats
    p: Floats
    q: Floats  # Benjamini-Hochberg over all tests of the view's family
    q_by: Floats  # Benjamini-Yekutieli
    p_max_t: Floats | None  # family-wise; None where it was not made
    reason: Codes  # Reason


@dataclass(frozen=True)
class Condition:
    """Where a conditioned hypothesis holds."""

    name: str  # "data-cluster/7", "prompt-cluster/2", or the given group's name
    features: tuple[int, ...] = ()  # that tell it apart, strongest first


@dataclass(frozen=True)
class TestedConcept:
    """What a row of a table is about."""

    __test__ = False  # the name is no test of pytest's

    name: str
    features: tuple[int, ...]  # its features, strongest first where there is an order, else ascending
    size: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """Pairs for and against one hypothesis, most telling first: the largest activation difference on each side."""

    supporting: Ints  # dataset rows
    supporting_u: Floats
    contradicting: Ints
    contradicting_u: Floats
    supporting_strength: Floats | None = None  # activation difference, chosen minus rejected; None in older results
    contradicting_strength: Floats | None = None


@dataclass(frozen=True, eq=False)
class TestTable:
    """One view's tests. Arrays are [tests], in rank order."""

    __test__ = False

    view: ViewKind
    concepts: tuple[TestedConcept, ...]
    conditions: tuple[Condition, ...]
    concept: Ints  # index into `concepts`
    condition: Ints  # index into `conditions`; -1 where there is none
    raw: Effects
    controlled: Effects | None  # None where nothing is controlled for
    finding: Bools
    cohen_d: Floats
    consistent: Bools
    delta_min: Floats
    inside: Ints
    outside: Ints
    prompts: Ints
    rank_first_half: Ints
    rank_second_half: Ints
    rank_stable: Bools
    tests: int  # that multiplicity was corrected over (may exceed the rows that are kept)
    findings_raw: int
    findings_controlled: int
    reason: str = ""  # why nothing was tested
    evidence: tuple[Evidence, ...] = field(default=())  # of the first `keep` rows
    note: str = ""  # what was done differently from the options, and why
    log_odds: Floats | None = None  # [tests] of a word, chosen against rejected (Monroe et al. 2008); 0 for what is no word
    log_odds_z: Floats | None = None
    lesson: Ints | None = None  # place of each row's lesson from 1; 0 for the rest and no finding; None where none was looked for
    lesson_z: Floats | None = None  # of the row that leads a lesson: beside the lessons before (global), its own; 0 elsewhere
    lesson_stability: Floats | None = None  # of each row's lesson, in [0, 1]; 0 where it belongs to none
    families: tuple[FamilyCount, ...] = ()  # tests and findings by family; () where there is one correction for all
    length_verdict: Codes | None = None  # length.LengthVerdict of each row; None where nothing is controlled for
    length_counts: tuple[int, int, int] = (0, 0, 0)  # raw findings explained, weakened, unchanged; over all tests, kept or not
    only_chosen: Ints | None = (
        None  # pairs (inside the condition, where there is one) with u > 0; -1 beyond the first `keep` rows
    )
    only_rejected: Ints | None = None  # with u < 0; likewise
    carried_by: Floats | None = None  # share of those pairs, strongest first, that makes half of the effect; -1: not known
    left_without_top: Floats | None = None  # share of the effect left without the strongest 5% of them; -1: not known
    members: tuple[Ints, ...] = ()  # [conditions] dataset rows inside each, ascending; () where the view forms no conditions

    @property
    def lessons(self) -> int:
        """Lessons among the findings; 0 where none was looked for."""
        return 0 if self.lesson is None else int(self.lesson.max(initial=0))
