from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.findings import AuditOptions, Effects, TestTable, ViewKind
from assay_server.audit.length import Direction, LengthVerdict, counted_verdicts, information_left, length_lesson, length_verdicts
from assay_server.audit.nuisance import fit_nuisance
from assay_server.audit.passes import survey
from assay_server.audit.reason import Reason
from assay_server.audit.run import run_views
from assay_server.audit.shards import PairShard
from scipy import stats

from tests.server.audit.small_datasets import concepts_of, dataset, express_more, length_preferring, split, swapped

ONLY = AuditOptions(views=(ViewKind.GLOBAL,), max_t_flips=0, evidence=0)


def audited(shard: PairShard) -> TestTable:
    return run_views(split(shard, []), concepts_of(shard), ONLY)[ViewKind.GLOBAL]


def verdicts_of(*rows: tuple[float, float, float, float], finding: bool = True, reason: Reason = Reason.NONE) -> list[int]:
    raw, estimate, low, high = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    none = np.zeros(len(raw))
    found = np.full(len(raw), finding)
    shown = Effects(estimate, low, high, none, none, none, none, None, np.full(len(raw), reason, np.uint8))
    before = Effects(raw, raw - 0.01, raw + 0.01, none, none, none, none, None, np.zeros(len(raw), np.uint8))
    return length_verdicts(before, shown, np.ones(len(raw), np.bool_), found).tolist()


def test_a_raw_finding_is_explained_unchanged_or_undecided_by_where_the_controlled_interval_lies() -> None:
    near, wide, kept = (0.3, 0.02, -0.05, 0.09), (0.3, 0.02, -0.2, 0.24), (0.3, 0.28, 0.2, 0.36)
    low, loose, turned = (0.3, 0.2, 0.16, 0.24), (0.3, 0.28, 0.1, 0.46), (0.3, -0.2, -0.25, -0.15)
    E, W, U = LengthVerdict.EXPLAINED, LengthVerdict.WEAKENED, LengthVerdict.UNCHANGED
    rows = [near, wide, kept, low, loose, turned]
    assert verdicts_of(*rows) == [E, W, U, W, W, W]
    mirrored = [(-raw, -estimate, -high, -below) for raw, estimate, below, high in rows]
    assert verdicts_of(*mirrored) == [E, W, U, W, W, W]
    assert verdicts_of(kept, near, finding=False) == [W, E], "what is no finding any more does not stand unchanged"
    assert verdicts_of(kept, near, reason=Reason.EXPLAINED) == [E, E]
    assert verdicts_of(kept, near, reason=Reason.SEPARATED) == [LengthVerdict.NONE] * 2
    assert counted_verdicts(np.array([E, W, W, U, 0], np.uint8)) == (1, 2, 1)


def test_where_length_alone_decides_no_finding_stands_and_most_are_explained_once_there_are_pairs_enough() -> None:
    draws = np.random.default_rng(1)
    few = audited(length_preferring(dataset(1, 800), draws, 1.5))
    many = audited(length_preferring(dataset(2, 8_000), draws, 1.5))
    for table in (few, many):
        assert table.findings_raw > 60
        assert table.length_counts[2] == 0
        assert sum(table.length_counts) == table.findings_raw
    assert few.length_counts[1] > few.length_counts[0], "few pairs cannot tell"
    assert many.length_counts[0] > 0.7 * many.findings_raw


def test_a_concept_that_has_nothing_to_do_with_length_stands_unchanged() -> None:
    draws = np.random.default_rng(5)
    base = dataset(5, 2_000)
    # Loose features, planted whatever the length: both sides of a swap by length alone keep them.
    shard = express_more(length_preferring(base, draws, 0.4), [76, 77], draws.random(2_000) < 0.5, draws)
    table = audited(shard)
    assert table.length_verdict is not None
    names = [table.concepts[c].name for c in table.concept]
    for name in ("feature/76", "feature/77"):
        row = names.index(name)
        assert table.raw.estimate[row] > 0.2
        assert table.length_verdict[row] == LengthVerdict.UNCHANGED
    assert (table.length_verdict[table.raw.q > 0.05] == LengthVerdict.NONE).all()


def test_lesson_zero_of_a_dataset_that_length_decides() -> None:
    shard = length_preferring(dataset(3, 1_500), np.random.default_rng(3), 1.5)
    known = survey(split(shard, [700]))
    lesson = length_lesson(known.tokens, known.prompts, fit=known.fit, nuisance=known.nuisance)
    chosen, rejected = shard.tokens[:, 1], shard.tokens[:, 2]
    assert lesson.direction is Direction.LONGER
    assert lesson.ratio.value == pytest.approx(np.median(chosen / rejected), rel=0.01)
    assert lesson.ratio.low > 1
    assert lesson.longer == (chosen > rejected).mean()
    assert lesson.accuracy == pytest.approx(((chosen > rejected) + 0.5 * (chosen == rejected)).mean())
    assert 0.75 < lesson.auc.low < lesson.auc.value < lesson.auc.high < 0.9
    assert lesson.p < 1e-10
    assert known.fit is not None
    s = 1 / (1 + np.exp(-known.nuisance @ known.fit.gamma))
    assert lesson.information_left == pytest.approx((4 * s * (1 - s)).mean())
    turned = length_lesson(known.tokens[:, [0, 2, 1]], known.prompts)
    assert turned.direction is Direction.SHORTER
    assert turned.auc.value == pytest.approx(1 - lesson.auc.value)
    assert turned.information_left is None


def test_swapped_labels_leave_length_without_a_direction_as_often_as_the_level_says() -> None:
    base, draws = dataset(4, 150), np.random.default_rng(4)
    _, inverse = np.unique(base.prompts, return_inverse=True)
    told = 0
    for _ in range(400):
        tokens = swapped_tokens(base, (draws.random(inverse.max() + 1) < 0.5)[inverse])
        told += length_lesson(tokens, base.prompts).direction is not Direction.NEITHER
    assert stats.binomtest(told, 400, 0.05, alternative="greater").pvalue > 0.01


def swapped_tokens(shard: PairShard, where: np.ndarray) -> np.ndarray:
    return swapped(replace(shard, nuisance=np.zeros((len(shard.rows), 1))), where).tokens


def test_what_cannot_be_said_of_length_has_a_reason() -> None:
    nothing = length_lesson(np.zeros((0, 3), int), np.zeros(0, int))
    assert (nothing.reason, nothing.direction, nothing.p) == (Reason.NO_PAIRS, Direction.NEITHER, 1.0)
    same = length_lesson(np.full((9, 3), 7), np.arange(9))
    assert (same.reason, same.direction, same.ratio.value, same.auc.value) == (Reason.NO_DIFFERENCE, Direction.NEITHER, 1.0, 0.5)
    one = length_lesson(np.array([[1, 9, 3], [1, 8, 2]]), np.zeros(2, int))
    assert (one.reason, one.direction) == (Reason.ONE_PROMPT, Direction.NEITHER)
    with pytest.raises(ValueError, match="tokens must be"):
        length_lesson(np.zeros((3, 2), int), np.zeros(3, int))


def test_the_information_that_is_left() -> None:
    draws = np.random.default_rng(0)
    unrelated = draws.normal(size=4_000) * draws.choice([-1, 1], 4_000)
    assert information_left(fit_nuisance(unrelated), unrelated[:, None]) == pytest.approx(1, abs=0.01)
    ones = np.ones(20)
    assert information_left(fit_nuisance(ones), ones[:, None]) == 0.0
    assert information_left(None, ones[:, None]) is None
