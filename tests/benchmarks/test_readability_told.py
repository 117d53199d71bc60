"""Where an edit is named: first cards that say more of it, under the right condition, among what a card shows."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assay_server.jobs.audits.texts import AuditTexts
from assay_server.store.datasets import Dataset, ShardEntry
from assay_server.store.files import Files
from assay_server.store.pairs import to_parquet
from assay_server.store.texts import Texts, described
from assay_server.subject.types import Pair

from benchmarks.readability import data as reading
from benchmarks.readability.calibration import bound, metrics, summary
from benchmarks.readability.conditional import condition_of, conditioned
from benchmarks.readability.data import Subject, audit_texts, concepts_of, read_data, write
from benchmarks.readability.edits import edited
from benchmarks.readability.expected import EXPECTED
from benchmarks.readability.naming import audited, judged, median_place
from benchmarks.readability.planting import Topic, drawn
from benchmarks.readability.told import Card, named_at

NOTHING = np.zeros(0, np.int64)
OPENINGS = ("You could", "People often", "It helps to", "Many of us", "One might", "They usually")
MIDDLES = ("walk to the lake", "bake some bread", "read a book", "paint the fence", "call an old friend", "plant a tree")
ENDS = ("in the morning", "after lunch", "on a rainy day", "every weekend", "with the family", "before it gets dark")


def card(*names: str, more: bool = True, condition: str = "") -> Card:
    return Card(names, names[0], more, condition, 1.0, NOTHING)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """600 pairs of harmless sentences in which nothing is preferred; tokens are words."""

    def tokenizer() -> object:
        return lambda texts, **_: {"input_ids": [text.split() for text in texts]}

    monkeypatch.setattr(reading, "_tokenizer", tokenizer)
    draws = np.random.default_rng(5)

    def sentence() -> str:
        return " ".join(f"{draws.choice(OPENINGS)} {draws.choice(MIDDLES)}, {draws.choice(ENDS)}." for _ in range(2))

    return [Pair(f"Question {number}: what shall we do?", sentence(), sentence()) for number in range(600)]


def test_the_first_card_that_says_more_of_it_counts() -> None:
    cards = [card("headings"), card("bold text", more=False), card("“a”", "more bold text"), card("bold text")]
    assert named_at(cards, EXPECTED["bold"]) == 3
    assert named_at(cards, EXPECTED["bold"], shown=1) == 4
    assert named_at(cards, EXPECTED["emoji"]) is None


def test_only_the_right_condition_counts() -> None:
    cards = [card("bold text"), *(card("bold text", condition=f"metadata/topic={topic}") for topic in "ab")]
    assert named_at(cards, EXPECTED["bold"], condition="metadata/topic=b") == 3


def test_what_a_card_does_not_show_does_not_name() -> None:
    cards = [card("“a”", "“b”", "“c”", "“d”", "“e”", "bold text")]
    assert named_at(cards, EXPECTED["bold"]) is None
    assert named_at(cards, EXPECTED["bold"], shown=6) == 1
    assert named_at([card("“a”", "less bold text")], EXPECTED["bold"]) is None


def test_a_draw_that_names_nothing_counts_as_last() -> None:
    assert median_place([{"place": 1}, {"place": None}, {"place": None}]) == np.inf
    assert median_place([{"place": 1}, {"place": 2}, {"place": None}]) == 2


def test_a_larger_rate_holds_what_a_smaller_one_edits() -> None:
    rows = np.arange(3, 1000)
    few, many = (drawn(rows, 1000, rate, repeat=1, seed=0) for rate in (0.05, 0.10))
    assert (len(few), len(many)) == (50, 100)
    assert np.isin(few, many).all()
    assert not np.array_equal(few, drawn(rows, 1000, 0.05, repeat=2, seed=0))


def test_an_edit_is_named_first_where_nothing_else_is_taught_and_its_evidence_was_edited(pairs: list[Pair]) -> None:
    data = read_data(pairs, Subject.NONE)
    written = write(pairs, np.arange(len(pairs)), functools.partial(edited, "bold", seed=0), Subject.NONE)
    rows = drawn(written.rows, len(pairs), 0.10, repeat=0, seed=0)
    found = judged(audited(data.replaced(rows, written), concepts_of(data), 0), "bold", rows)
    assert (found["place"], found["place_title"], found["evidence"]) == (1, 1, 1.0)
    assert judged(audited(data, concepts_of(data), 0), "bold")["place"] is None


def test_swapping_every_pair_turns_more_into_less(pairs: list[Pair]) -> None:
    data = read_data(pairs, Subject.NONE)
    written = write(pairs, np.arange(len(pairs)), functools.partial(edited, "em dash", seed=0), Subject.NONE)
    planted = data.replaced(drawn(written.rows, len(pairs), 0.10, repeat=0, seed=0), written)
    cards = audited(planted.swapped(np.ones(len(pairs), np.bool_)), concepts_of(data), 0)
    assert [(one.lead, one.more) for one in cards][:1] == [("text/em-dash", False)]


def test_an_edit_under_a_topic_is_named_under_that_topic_alone(pairs: list[Pair]) -> None:
    data = read_data(pairs, Subject.NONE)
    number = np.arange(len(pairs)) % 5
    about = number == 0
    found = [Topic("cooking", about), Topic("travel", number == 1)]
    rows = np.flatnonzero(about)[:60]
    written = write(pairs, rows, functools.partial(edited, "bold", seed=0), Subject.NONE)
    cards = conditioned(data.replaced(rows, written), concepts_of(data), found, 0)
    assert named_at(cards, EXPECTED["bold"], condition=condition_of("cooking")) == 1
    assert named_at(cards, EXPECTED["bold"], condition=condition_of("travel")) is None


def test_a_family_that_is_false_too_often_does_not_meet_its_bar() -> None:
    def one(found: int) -> dict[str, object]:
        entry = {"tests": 40, "raw": found, "controlled": 0}
        return {"families": {"words, everywhere": entry}, "cards": found}

    raw = summary([one(3)] * 20 + [one(0)] * 180)
    assert raw["families"]["words, everywhere"]["raw"]["false_share"] == 0.1
    assert raw["any_card"]["false_share"] == 0.1
    assert bound(200) == 0.08
    held = {metric.metric: metric.holds for metric in metrics(raw)}
    assert held["words, everywhere, raw: runs with a finding"] is False
    assert held["words, everywhere, controlled: runs with a finding"] is True


def test_columns_are_those_of_texts_that_a_job_stored(pairs: list[Pair], tmp_path: Path) -> None:
    some = [replace(pair, chosen=edited("numbered steps", pair.chosen, 0)) for pair in pairs[:60]]
    stored, entry = Texts(Files(str(tmp_path)), "one"), ShardEntry(0, len(some), "digest")
    stored.write(0, entry, described(to_parquet(some)))
    dataset = Dataset("one", "", "", len(some), 0, (), 0.0, (entry,))
    theirs, ours = AuditTexts(stored, dataset, lambda: None).columns(), audit_texts(read_data(some, Subject.NONE)).columns()
    assert ours.names == theirs.names
    assert len(ours.names) > 80
    assert np.array_equal(ours.values.toarray(), theirs.values.toarray())
    assert np.array_equal(ours.strengths.toarray(), theirs.strengths.toarray())
