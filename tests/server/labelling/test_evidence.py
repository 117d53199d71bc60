"""Labels from evidence say where a feature fires, and are measured on texts that they were not made from."""

import numpy as np
import pytest
from assay_server.labelling.evidence import Evidence, detection_auroc, label_from_evidence, token_evidence
from assay_server.labelling.firings import FiringsBuilder, TokenFirings
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tests.support.firings import after, on, sentences, texts_with

WORDS = ["sorry", "great", "the", "cat", "sat", "and", "ran", "home"]


def world(seed: int, count: int = 60) -> TokenFirings:
    return texts_with(
        [on("sorry"), after("the"), lambda words, at: 1.0 if at == 0 else 0.0], sentences(count, seed=seed, vocabulary=WORDS)
    )


def test_a_feature_is_labelled_by_the_token_that_it_fires_on() -> None:
    found = label_from_evidence(world(0), world(1), lambda firings: firings.firing(0))
    assert found.label == "“sorry”"
    assert found.top_tokens == (" sorry",)
    assert found.detection_score == 1.0
    assert found.firing_rate == pytest.approx(1 / len(WORDS), abs=0.03)
    assert all("« sorry»" in context for context in found.contexts)
    assert len(found.contexts) == 3


def test_a_feature_that_follows_a_token_is_labelled_by_what_it_follows() -> None:
    found = label_from_evidence(world(0), world(1), lambda firings: firings.firing(1))
    assert found.label == "after “the”"
    assert found.detection_score == 1.0


def test_a_feature_of_openings_says_so_and_is_detected_no_better_than_its_tokens_allow() -> None:
    found = label_from_evidence(world(0), world(1), lambda firings: firings.firing(2))
    assert found.label.endswith(", at the start of a response")
    assert found.detection_score is not None
    assert found.detection_score < 0.8


def test_a_feature_that_never_fired_has_no_label_and_no_score() -> None:
    silent = texts_with([lambda words, at: 0.0], ["a b c"])
    found = label_from_evidence(silent, world(1), lambda firings: firings.firing(0))
    assert (found.label, found.detection_score, found.contexts, found.firing_rate) == ("", None, (), 0.0)


def test_a_feature_that_never_fires_on_unseen_texts_is_not_measured() -> None:
    found = label_from_evidence(world(0), texts_with([on("sorry")] * 3, ["the cat sat"]), lambda firings: firings.firing(0))
    assert found.label == "“sorry”"
    assert found.detection_score is None


def test_telling_tokens_come_before_common_and_before_rare_ones() -> None:
    texts = ["common"] * 80 + ["common!"] * 20 + ["telling"] * 10 + ["rare"]
    firings = texts_with([lambda words, at: {" common!": 1.0, " telling": 1.0, " rare": 1.5}.get(words[at], 0.0)], texts)
    evidence = token_evidence(firings.firing(0), firings.ids)
    assert [firings.words[id] for id in evidence.ids] == [" common!", " telling", " rare"]
    assert evidence.rates == (1.0, 1.0, 1.0)
    assert evidence.mass == pytest.approx(1.0)


def test_a_group_fires_where_any_member_does_however_differently_they_are_scaled() -> None:
    firings = texts_with([on("cat", 0.01), on("sat", 1000.0)], ["and then at home the cat sat"] * 12)
    found = label_from_evidence(firings, firings, lambda firings: firings.together([0, 1]))
    assert set(found.label.split(", ")) == {"“cat”", "“sat”"}
    assert found.detection_score == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=80))
def test_the_score_is_the_auroc_of_looking_the_rates_up(tokens: list[tuple[int, bool]]) -> None:
    builder = FiringsBuilder([9])
    fires = np.array([[1.0 if fired else 0.0 for _, fired in tokens]], dtype=np.float32)
    builder.add([id for id, _ in tokens], [str(id) for id, _ in tokens], fires)
    firings = builder.build()
    evidence = Evidence((0, 3), (0.5, 0.25), 1.0)
    score = detection_auroc(evidence, Evidence((), (), 0.0), firings.firing(9), firings)
    expected = [{0: 0.5, 3: 0.25}.get(id, 0.0) for id, _ in tokens]
    if fires.min() == fires.max():
        assert score is None
    else:
        assert score == pytest.approx(roc_auc_score(fires[0], expected))


def test_texts_keep_their_own_borders_and_features_their_own_order() -> None:
    builder = FiringsBuilder([7, 3])
    builder.add([5, 6], ["a", "b"], np.array([[1, 0], [0, 2]], dtype=np.float32))
    builder.add([], [], np.zeros((2, 0), dtype=np.float32))
    builder.add([6], ["b"], np.array([[0], [3]], dtype=np.float32))
    firings = builder.build()
    assert firings.texts == builder.texts == 3
    assert firings.before.tolist() == [-1, 5, -1]
    assert firings.firing(3).positions.tolist() == [1, 2]
    assert firings.firing(7).values.tolist() == [1.0]
    assert [firings.text_of(position) for position in range(3)] == [0, 0, 2]
    with pytest.raises(KeyError):
        firings.firing(4)
