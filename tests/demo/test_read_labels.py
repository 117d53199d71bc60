"""Labels written from reading contexts: what ships is what was judged, and it is measured as the service measures."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from assay_server.labelling.labels import LABEL_BAR, load_labels
from assay_server.store.clusters import load_clusters

from demo import ASSETS
from demo.read_labels import (
    CLUSTERS,
    LABELS,
    METHOD,
    Verdict,
    apply,
    digest,
    interval,
    last,
    load,
    measured,
    summary,
    verdicts,
    windows_judged,
    windows_text,
)
from tests.support.firings import on, sentences, texts_with

WORDS = ["sorry", *(f"w{i}" for i in range(40))]


@pytest.fixture(scope="module")
def shipped() -> list[Verdict]:
    return load()


def test_the_recorded_detection_is_that_of_the_committed_verdicts(shipped: list[Verdict]) -> None:
    assert len({(one.item, one.round) for one in shipped}) == len(shipped)
    for one in shipped:
        assert len(one.windows) == len(set(one.windows)) == len(one.fires) == len(one.said), one.item
        assert one.fires.count("1") == one.fires.count("0"), one.item
        assert (one.score, one.interval) == measured(one.fires, one.said), one.item
        assert one.score is None or (one.interval and one.interval[0] <= one.score <= one.interval[1])
    assert all(one.score is not None for one in shipped)
    assert sum(one.item.startswith("feature/") for one in last(shipped).values()) >= 60


def test_a_second_label_replaces_one_under_the_bar_and_is_judged_on_other_windows(shipped: list[Verdict]) -> None:
    first = {one.item: one for one in shipped if one.round == 1}
    second = [one for one in shipped if one.round == 2]
    assert len(first) + len(second) == len(shipped)
    for one in second:
        assert not first[one.item].sure
        assert not set(one.windows) & set(first[one.item].windows)
        assert last(shipped)[one.item] == one


def test_a_third_label_is_judged_on_windows_of_neither_round_before() -> None:
    rounds = [Verdict("feature/0", "apologies", (f"w{k}",), "1", "1", None, None, k) for k in (1, 2)]
    other = Verdict("feature/1", "thanks", ("w3",), "1", "1", None, None)
    assert windows_judged([*rounds, other]) == {"feature/0": ("w1", "w2"), "feature/1": ("w3",)}


def test_the_demos_labels_load_each_with_its_method_and_what_was_measured(shipped: list[Verdict]) -> None:
    judged = {item: (one.label, METHOD, one.score) for item, one in last(shipped).items()}
    labels, clusters = load_labels(LABELS, 4096), load_clusters(CLUSTERS, 4096)
    told = {f"feature/{one.id}": (one.label, one.label_method, one.detection_score) for one in labels.known()}
    told |= {f"cluster/{one.id}": (one.label, one.label_method, one.detection_score) for one in clusters.clusters}
    assert {label[1] for label in told.values()} == {METHOD, "evidence-tokens/1", ""}
    assert all(judged[item] == label for item, label in told.items() if label[1] == METHOD)
    for item, one in last(shipped).items():
        if one.sure:
            assert told[item][1] == METHOD, item
        elif item.startswith("cluster/"):
            assert told[item] == ("", "", None), item
        elif told[item][1] != METHOD:
            score = told[item][2]
            assert score is not None
            assert score >= LABEL_BAR, item
    assert sum(one.sure for one in last(shipped).values()) > 100


def test_the_files_that_ship_are_what_the_verdicts_make_of_them(shipped: list[Verdict], tmp_path: Path) -> None:
    labels, clusters = (Path(shutil.copy(path, tmp_path)) for path in (LABELS, CLUSTERS))
    apply([], labels, clusters)
    bare = load_labels(labels, 4096)
    assert {entry.label_method for entry in bare.known()} == {"evidence-tokens/1"}
    assert bare.get(0).label == load_labels(LABELS, 4096).get(0).label
    apply(shipped, labels, clusters)
    assert labels.read_bytes() == LABELS.read_bytes()
    assert clusters.read_bytes() == CLUSTERS.read_bytes()


def test_labels_are_short_and_plain(shipped: list[Verdict]) -> None:
    for one in shipped:
        assert 1 <= len(one.label.split()) <= 8, one.label
        assert one.label == one.label.strip()
        assert re.fullmatch(r"[ -~“”]+", one.label), one.label


def test_the_readme_says_how_well_they_detect(shipped: list[Verdict]) -> None:
    told = summary(shipped)
    assert told[0].upper() + told[1:] in " ".join((ASSETS.parent / "README.md").read_text(encoding="utf-8").split())


def test_a_judge_sees_unmarked_windows_as_many_firing_as_silent_and_no_answer() -> None:
    unseen = texts_with([on("sorry")], sentences(60, seed=1, vocabulary=WORDS))
    text, answers = windows_text(unseen, {"feature/0": "apologies"})
    shown = [line.split(": ", 1)[1].strip('"') for line in text.splitlines()[1:]]
    assert text.startswith("## feature/0: apologies\n")
    assert "«" not in text
    assert len(shown) == 20
    assert answers["feature/0"]["fires"] == "".join(str(int("sorry" in window)) for window in shown)
    assert answers["feature/0"]["windows"] == [digest(window) for window in shown]
    assert answers["feature/0"]["fires"] != "1" * 10 + "0" * 10, "in a shuffled order"
    other, fresh = windows_text(unseen, {"feature/0": "apologies"}, {"feature/0": answers["feature/0"]["windows"]})
    assert not set(fresh["feature/0"]["windows"]) & set(answers["feature/0"]["windows"]), "a second label is judged on others"
    assert fresh["feature/0"]["fires"].count("1") == fresh["feature/0"]["fires"].count("0") >= 4
    assert "«" not in other
    said = {"feature/0": "".join(str(int("sorry" in window)) for window in shown)}
    (one,) = verdicts({"feature/0": "apologies"}, answers, said)
    assert one.score == 1
    with pytest.raises(ValueError, match="feature/0: 0 verdicts on 20 windows"):
        verdicts({"feature/0": "apologies"}, answers, {})


def test_the_interval_of_balanced_accuracy_covers_what_is_so() -> None:
    assert measured("1100", "1100") == (None, None), "two windows of a kind are too few"
    score, bounds = measured("1" * 10 + "0" * 10, "1" * 10 + "0" * 10)
    assert score == 1
    assert bounds is not None
    assert bounds == (pytest.approx(0.8037, abs=1e-3), 1)
    generator = np.random.default_rng(0)
    fires = [True] * 10 + [False] * 10
    rates = np.array([0.9] * 10 + [0.3] * 10)
    found = [interval(fires, (generator.random(20) < rates).tolist()) for _ in range(2000)]
    covered = np.mean([low <= (0.9 + 0.7) / 2 <= high for low, high in found])
    assert 0.93 <= covered <= 0.99
