from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.disparity import membership
from assay_server.audit.matrices import Csr
from assay_server.audit.passes import blocks, concept_subset, disparities, strengths, survey
from assay_server.audit.shards import ConceptSet, PairShard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.audit.small_datasets import concepts_of, dataset, everything, split

PLAIN = dataset(3, 60)
SHARD = replace(PLAIN, direction_strengths=Csr(PLAIN.directions.toarray() * np.linspace(0.5, 2, 60)[:, None]))


def same(left: PairShard, right: PairShard) -> bool:
    arrays = [
        (a, b) if isinstance(a, np.ndarray) else (a.toarray(), b.toarray())
        for a, b in ((getattr(left, name), getattr(right, name)) for name in PairShard.__dataclass_fields__)
        if a is not None
    ]
    return all(np.array_equal(a, b) for a, b in arrays)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), size=st.integers(1, 70))
def test_blocks_are_the_same_whatever_the_shards(cuts: list[int], size: int) -> None:
    whole, parts = list(blocks(split(SHARD, []), size=size)), list(blocks(split(SHARD, cuts), size=size))
    assert [len(block.rows) for block in parts] == [min(size, 60 - first) for first in range(0, 60, size)]
    assert all(same(a, b) for a, b in zip(whole, parts, strict=True))


def test_progress_counts_pairs_up_to_all_of_them() -> None:
    seen: list[tuple[str, int, int]] = []
    list(blocks(split(SHARD, [7, 7, 30]), "reading", lambda *said: seen.append(said), size=25))
    assert seen == [("reading", 25, 60), ("reading", 50, 60), ("reading", 60, 60)]


def test_a_survey_knows_every_pair_the_length_fit_and_which_prompts_blocks_split() -> None:
    known = survey(split(SHARD, [13]))
    assert np.array_equal(known.rows, SHARD.rows)
    assert np.array_equal(known.prompts, SHARD.prompts)
    assert known.fit is not None
    assert known.fit.gamma.shape == (1,)
    assert len(known.open_prompts) == 0
    right = (SHARD.nuisance @ known.fit.gamma > 0).mean()
    assert known.nuisance_accuracy == pytest.approx(right)
    far = dataset(0, 4_100)
    far.prompts[[0, 1, 4_099]] = 7
    assert survey(split(far, [])).open_prompts.tolist() == sorted(
        {7} | (set(far.prompts[:2048].tolist()) & set(far.prompts[2048:4096].tolist()))
    )


def test_a_dataset_without_pairs_has_an_empty_survey() -> None:
    known = survey(split(dataset(0, 60), []).__class__((), 80))
    assert (known.pairs, known.fit, known.nuisance_accuracy) == (0, None, 0.5)


def test_directions_stand_behind_the_concepts_made_of_features() -> None:
    concepts = concepts_of(SHARD)
    u = disparities(SHARD, concepts, 0.01)
    assert u.numerators.shape == (60, len(concepts.names))
    assert np.array_equal(u.numerators.toarray()[:, -1:], SHARD.directions.toarray())
    assert u.sizes[-1] == 1
    b = (SHARD.freq_chosen.toarray() > 0.01).astype(int) - (SHARD.freq_rejected.toarray() > 0.01)
    assert np.array_equal(u.numerators.toarray()[:, :-1], b @ concepts.members.toarray())
    assert len(everything(u)) == 1


def test_some_concepts_are_computed_as_they_are_among_all() -> None:
    concepts = concepts_of(SHARD)
    columns = np.array([3, 80, 83, len(concepts.names) - 1])
    some = concept_subset(concepts, columns)
    assert some.names == ("feature/3", "cluster/0", "cluster/3", "concepts/direction-0")
    whole, part = (disparities(SHARD, chosen, 0.01) for chosen in (concepts, some))
    assert np.array_equal(whole.numerators.toarray()[:, columns], part.numerators.toarray())
    assert np.array_equal(whole.sizes[columns], part.sizes)
    with pytest.raises(ValueError, match="must ascend"):
        concept_subset(concepts, np.array([3, 1]))


def test_other_columns_may_be_left_out_and_taken_again() -> None:
    others = np.stack([np.arange(60) % 3 - 1, np.zeros(60, np.int64), (np.arange(60) % 2)], axis=1)
    shard = replace(SHARD, directions=Csr(others))
    concepts = ConceptSet(("feature/3", "text/a", "text/b", "word/c"), membership([[3]], SHARD.freq_chosen.shape[1]))
    few = concept_subset(concept_subset(concepts, np.array([1, 3])), np.array([1]))
    assert few.names == ("word/c",)
    assert np.array_equal(disparities(shard, few, 0.01).numerators.toarray(), others[:, 2:])


def test_strengths_are_scaled_differences_of_maxima_over_a_concepts_features_and_what_directions_say() -> None:
    concepts, scale = concepts_of(SHARD), np.linspace(0.5, 4.0, 80)
    found = strengths(SHARD, concepts, scale).toarray()
    difference = (SHARD.max_chosen.toarray().astype(float) - SHARD.max_rejected.toarray()) / scale
    assert np.allclose(found[:, :80], difference)
    assert np.allclose(found[:, 82], difference[:, 24:36].sum(axis=1))
    assert np.array_equal(found[:, -1], SHARD.direction_strengths.toarray()[:, 0])
    assert np.array_equal(strengths(PLAIN, concepts, scale).toarray()[:, -1], SHARD.directions.toarray()[:, 0])
