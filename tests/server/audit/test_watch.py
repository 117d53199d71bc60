"""Statistics that are asked to end do so at the next step, and watching them changes no bit of what they say."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from assay_server.audit import run
from assay_server.audit.feature_clusters import cluster_features
from assay_server.audit.findings import AuditOptions, Condition
from assay_server.audit.grouping import group_pairs
from assay_server.audit.maxt import add_flip_sums, max_t, no_flip_sums
from assay_server.audit.moments import moments
from assay_server.audit.passes import BLOCK
from assay_server.audit.shards import PairShard
from assay_server.audit.signflip import sign_flip
from assay_server.audit.watch import Watch

from tests.server.audit.small_datasets import Dataset, concepts_of, dataset, everything, split
from tests.server.audit.worlds import world

PAIRS, SHARD = 5_000, 500
OPTIONS = AuditOptions(max_t_flips=256, min_firings=20, data_clusters=6, svd_rank=16, keep=50, evidence=2)
WHOLE = dataset(0, PAIRS, blocks=3, width=12, loose=4)
CONCEPTS = concepts_of(WHOLE, blocks=3)
GIVEN = tuple(Condition(f"metadata/topic={topic}") for topic in range(3))


class Ended(Exception):
    pass


@dataclass
class Asking:
    """Counts questions, and what was read between them; ends the work at question ``last``."""

    last: int = 1 << 40
    asked: int = 0
    read: int = 0
    between: list[int] = field(default_factory=list)

    def check(self) -> None:
        self.asked += 1
        self.between.append(self.read)
        self.read = 0
        if self.asked >= self.last:
            raise Ended

    @property
    def watch(self) -> Watch:
        return Watch(lambda *_: self.check(), self.check)

    def shards(self) -> Any:
        return _Counted(split(WHOLE, list(range(SHARD, PAIRS, SHARD))), self)


@dataclass
class _Counted:
    whole: Dataset
    by: Asking

    @property
    def pairs(self) -> int:
        return self.whole.pairs

    @property
    def d_sae(self) -> int:
        return self.whole.d_sae

    def __iter__(self) -> Iterator[PairShard]:
        for part in self.whole:
            self.by.read += len(part.rows)
            yield part


@pytest.fixture(scope="module")
def calm() -> Asking:
    asking = Asking()
    tables = run.run_views(asking.shards(), CONCEPTS, OPTIONS, given=GIVEN, watch=asking.watch)
    unwatched = run.run_views(split(WHOLE, []), CONCEPTS, OPTIONS, given=GIVEN)
    assert all(
        np.array_equal(a, b) for a, b in zip(everything(list(tables.values())), everything(list(unwatched.values())), strict=True)
    )
    return asking


def test_an_audit_reads_one_block_between_questions_and_asks_in_its_fits_too(calm: Asking) -> None:
    assert max(calm.between) <= 4 * BLOCK + SHARD  # the widest pass has blocks of 8,192 pairs
    assert np.median([read for read in calm.between if read]) <= BLOCK + SHARD
    assert sum(read == 0 for read in calm.between) > 100


@pytest.mark.parametrize("share", [0.001, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.999])
def test_an_audit_that_is_asked_to_end_ends_at_the_next_question(calm: Asking, share: float) -> None:
    asking = Asking(last=max(1, int(share * calm.asked)))
    with pytest.raises(Ended):
        run.run_views(asking.shards(), CONCEPTS, OPTIONS, given=GIVEN, watch=asking.watch)
    assert asking.asked == asking.last
    assert asking.between == calm.between[: asking.last]


def test_a_stated_hypothesis_that_is_asked_to_end_does() -> None:
    one = concepts_of(WHOLE, blocks=0, directions=1)
    direction = type(one)(one.names[-1:], one.members[:, :0])
    for inside in (None, 1, [3, 4]):
        asking = Asking(last=4)
        with pytest.raises(Ended):
            run.test_stated(asking.shards(), direction, OPTIONS, inside=inside, watch=asking.watch)
        assert asking.asked == 4


def test_every_fit_asks_between_its_steps() -> None:
    draws = np.random.default_rng(0)
    grouping, clustering, testing, flipping, adjusting = (Asking() for _ in range(5))
    found = group_pairs(draws.gamma(1.0, size=(9_000, 6)), 4, check=grouping.check)
    assert grouping.asked >= 4 + 3 * (found.steps + 1)  # a centroid each, and three blocks of rows a step

    cluster_features(draws.normal(size=(3_000, 8)), 5, 0, check=clustering.check)
    assert clustering.asked > 5  # one before, and one a mini-batch

    drawn = world(1)
    sums = moments(drawn.disparity, drawn.prompts)
    sign_flip(sums, check=testing.check)
    assert testing.asked == int((np.diff(sums.closed().magnitudes.indptr) > 1).sum()) > 0

    flips = no_flip_sums(drawn.disparity.numerators, flips=512, seed=0)
    add_flip_sums(flips, drawn.disparity.numerators, drawn.prompts, check=flipping.check)
    assert flipping.asked == 512 // 128
    max_t(flips, sums.total, np.ones(len(sums.sizes)), check=adjusting.check)
    assert adjusting.asked == 512 // 64
