"""Which cards there are, in which order, and what each takes from where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from assay_server.audit.families import Family, FamilyCount
from assay_server.audit.findings import Evidence, ViewKind
from assay_server.jobs.audits.cards import LESSONS, Card, CardKind, build_cards
from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditSettings,
    AuditState,
    ConceptRow,
    ConditionRow,
    EffectRow,
    HypothesisRow,
    LabelText,
    LengthSummary,
    NamedText,
    ViewSummary,
)
from assay_server.report.model import Highlight
from assay_server.subject.types import Pair

from tests.support.fake_rows import SUBJECT, hypothesis_row

AUDIT = "audits/a"
GLOBAL, CLUSTERS, TOPICS, STATED = ViewKind


def info(*views: ViewKind, raw: int = 40, found: int = 20, explained: int = 0, **more: Any) -> AuditInfo:
    summaries = tuple(ViewSummary(view, 100, raw, found, 30, 0, explained=explained) for view in views)
    return AuditInfo(AUDIT, "datasets/d", "pairs", AuditState.DONE, AuditSettings(), SUBJECT, 1.0, views=summaries, **more)


def concept(name: str, text: str | None = None, kind: Any = "descriptor") -> ConceptRow:
    return ConceptRow(name, (1,), 1, LabelText(), None if text == "" else NamedText(text or name.partition("/")[2], kind))


def topic(value: str) -> ConditionRow:
    return ConditionRow(f"metadata/topic={value}", (), LabelText())


def row(view: ViewKind, rank: int, about: ConceptRow, *, z: float = 5.0, finding: bool = True, **more: Any) -> HypothesisRow:
    made = hypothesis_row(AUDIT, view, rank)
    effect = EffectRow(z / 20, z / 20 - 0.1, z / 20 + 0.1, z, 0.001, 0.002 * rank if finding else 0.05 + rank / 100, 1.0)
    condition = more.pop("condition", None if view in (GLOBAL, STATED) else topic("tea"))
    return replace(made, concept=about, condition=condition, raw=effect, controlled=effect, finding=finding, **more)


def lesson(view: ViewKind, rank: int, about: ConceptRow, number: int, *, z: float = 5.0, **more: Any) -> HypothesisRow:
    return row(view, rank, about, z=z, lesson=number, lesson_z=z, **more)


def ids(cards: tuple[Card, ...], *kinds: CardKind) -> list[str]:
    return [card.id for card in cards if not kinds or card.kind in kinds]


def test_a_card_is_a_lesson_with_its_members_and_the_command_that_decides() -> None:
    lead = lesson(GLOBAL, 1, concept("text/bold"), 1, only_chosen=70, only_rejected=3, lesson_stability=0.9, carried_by=0.3)
    others = [row(GLOBAL, 2, concept("text/list"), lesson=1), row(GLOBAL, 3, concept("text/question"), lesson=2)]
    card = build_cards(info(GLOBAL), [lead, *others])[0]
    assert (card.id, card.kind, card.hypothesis, card.concept, card.condition) == (
        "global-1",
        CardKind.LESSON,
        f"{AUDIT}/hypotheses/global-1",
        "text/bold",
        "",
    )
    assert card.title == "More formatting, almost everywhere"
    assert card.members == ("bold", "list"), "what belongs to another lesson does not go along"
    assert card.sureness.startswith("Returned in 90% of resamples; q = ")
    assert card.carried.startswith("Half of it is carried by 30% of the pairs")
    assert card.decide == f"assay decide {AUDIT}/hypotheses/global-1 explain-away"


def test_length_comes_first_and_has_no_hypothesis() -> None:
    length = LengthSummary(pairs=100, direction="longer", ratio=1.5, longer=0.7, shorter=0.2, accuracy=0.75, p=0.001)
    rows = [lesson(GLOBAL, 1, concept("text/bold"), 1)]
    cards = build_cards(info(GLOBAL, length=length), rows)
    assert ids(cards)[:2] == ["length", "global-1"]
    assert (cards[0].hypothesis, cards[0].decide, cards[0].kind) == ("", "", CardKind.LENGTH)
    assert "length" not in ids(build_cards(info(GLOBAL, length=replace(length, direction="neither")), rows))


def test_views_take_turns_strongest_and_most_stable_first() -> None:
    rows = [
        lesson(GLOBAL, 1, concept("text/a"), 1, z=8.1, lesson_stability=0.76),
        lesson(GLOBAL, 2, concept("text/b"), 2, z=-8.0, lesson_stability=0.9),
        lesson(GLOBAL, 3, concept("text/c"), 3, z=7.0, lesson_stability=0.9),
        lesson(CLUSTERS, 1, concept("text/d"), 1, z=4.0),
        lesson(TOPICS, 1, concept("text/e"), 1, z=-6.0),
        lesson(TOPICS, 2, concept("text/f"), 2, z=5.0),
    ]
    cards = build_cards(info(GLOBAL, CLUSTERS, TOPICS), rows)
    assert ids(cards, CardKind.LESSON) == ["global-2", "prompt-1", "feature-1", "global-3", "prompt-2", "global-1"]


def test_a_view_without_lessons_shows_its_findings_once_by_name() -> None:
    twins = [row(GLOBAL, rank, concept(f"feature/{rank}", "rhymes", "label")) for rank in (1, 2)]
    other = row(GLOBAL, 3, concept("feature/3", "lists", "label"))
    assert ids(build_cards(info(GLOBAL), [*twins, other]), CardKind.LESSON) == ["global-1", "global-3"]


def test_a_conditioned_lesson_that_repeats_a_global_one_is_told_with_it() -> None:
    rows = [
        lesson(GLOBAL, 1, concept("text/bold"), 1, z=9.0),
        lesson(TOPICS, 1, concept("text/bold"), 1, z=4.0, condition=topic("tea")),
        lesson(TOPICS, 2, concept("text/bold"), 2, z=-4.0, condition=topic("rain"), only_chosen=1, only_rejected=9, inside=30),
        lesson(TOPICS, 3, concept("text/list"), 3, z=3.0),
    ]
    first, second, *_ = build_cards(info(GLOBAL, TOPICS), rows)
    assert (first.id, second.id) == ("global-1", "prompt-3")
    assert first.exceptions == "Not everywhere: the reverse where topic = rain. Strongest where topic = tea."


def test_a_conditioned_lesson_stronger_than_the_global_one_is_a_card_of_its_own() -> None:
    rows = [lesson(GLOBAL, 1, concept("text/praise"), 1, z=4.0), lesson(TOPICS, 1, concept("text/praise"), 1, z=9.0)]
    cards = build_cards(info(GLOBAL, TOPICS), rows)
    assert ids(cards, CardKind.LESSON) == ["prompt-1", "global-1"]
    assert cards[1].exceptions == "Strongest where topic = tea."


def test_what_two_views_say_of_the_same_pairs_is_told_once() -> None:
    praise, address = concept("text/praise", "praise of the user"), concept("text/second-person", "direct address")
    where = ConditionRow("prompt-cluster/2", (), LabelText(), NamedText("topic = tea", "metadata"))
    clusters = [lesson(CLUSTERS, 1, praise, 1, z=6.0), row(CLUSTERS, 2, address, lesson=1)]
    topics = [lesson(TOPICS, 1, address, 1, z=9.0, condition=where), lesson(TOPICS, 2, concept("text/table", "tables"), 2)]
    shown = build_cards(info(CLUSTERS, TOPICS), [*clusters, *topics])
    assert ids(shown, CardKind.LESSON) == ["feature-1", "prompt-2"], "direct address is a member of what was told"
    elsewhere = replace(where, named=NamedText("topic = coffee", "metadata"))
    other = [replace(topics[0], condition=elsewhere), topics[1]]
    assert len(ids(build_cards(info(CLUSTERS, TOPICS), [*clusters, *other]), CardKind.LESSON)) == 3


def test_the_same_in_several_clusters_is_one_card_and_named_conditions_come_first() -> None:
    address = concept("text/second-person", "direct address")
    places = [ConditionRow(f"prompt-cluster/{k}", (), LabelText(), NamedText(name, "words")) for k, name in enumerate("abc")]
    topics = [lesson(TOPICS, k + 1, address, k + 1, z=9.0 - k, condition=place) for k, place in enumerate(places)]
    under = [
        lesson(CLUSTERS, 2, address, 2, z=5.0),
        lesson(CLUSTERS, 1, concept("text/table", "tables"), 1, z=8.0, condition=places[0]),
    ]
    shown = build_cards(info(CLUSTERS, TOPICS), [*under, *topics])
    assert ids(shown, CardKind.LESSON) == ["feature-2", "feature-1"]
    assert shown[0].exceptions == "Also where prompts are about “a”, where prompts are about “b” and where prompts are about “c”."


def test_a_condition_that_only_weakens_a_global_lesson_is_told_with_it() -> None:
    bold, lists = concept("text/bold", "bold text"), concept("text/list", "lists")
    glob = [lesson(GLOBAL, 1, bold, 1, z=5.0), row(GLOBAL, 2, lists, lesson=1)]
    weaker = lesson(CLUSTERS, 1, lists, 1, z=-9.0, only_chosen=15, only_rejected=5, inside=40)
    shown = build_cards(info(GLOBAL, CLUSTERS), [*glob, weaker])
    assert ids(shown, CardKind.LESSON) == ["global-1"]
    assert shown[0].exceptions == "Not everywhere: weaker where topic = tea."
    turned = replace(weaker, only_chosen=5, only_rejected=15)
    assert ids(build_cards(info(GLOBAL, CLUSTERS), [*glob, turned]), CardKind.LESSON) == ["feature-1", "global-1"]


def test_of_lessons_that_are_called_alike_the_one_that_returns_stands() -> None:
    again = lesson(GLOBAL, 2, concept("feature/8", "lists"), 2, z=4.0, lesson_stability=0.95)
    rows = [lesson(GLOBAL, 1, concept("feature/7", "lists"), 1, z=6.0, lesson_stability=0.4), again]
    rows += [lesson(GLOBAL, 3, concept("feature/9", "lists"), 3, z=-4.0, lesson_stability=0.95)]
    shown = build_cards(info(GLOBAL), rows)
    assert ids(shown, CardKind.LESSON) == ["global-2", "global-3"], "more and less are two lessons"
    assert ids(shown, CardKind.NOT_ESTABLISHED) == ["global-1"]


def test_line_breaks_are_tokens_that_can_be_listed_twice_and_others_are_not_lost() -> None:
    you, breaks = concept("feature/5", "tokens “you”", "tokens"), concept("feature/6", "line break, space", "tokens")
    rows = [lesson(GLOBAL, 1, you, 1), row(GLOBAL, 2, breaks, lesson=1)]
    rows += [row(GLOBAL, 3, concept("feature/7", "space, line break", "tokens"), lesson=1)]
    (card,) = (card for card in build_cards(info(GLOBAL), rows) if card.kind is CardKind.LESSON)
    assert card.members == ("tokens “you”", "tokens: line break, space")


def test_lessons_that_only_tokens_name_come_last_and_tokens_are_not_listed_twice() -> None:
    you = concept("feature/5", "tokens “you”, “You”, “they”", "tokens")
    again = concept("feature/6", "tokens “You”, “you”, “I”", "tokens")
    other = concept("feature/7", "tokens “.”, “!”", "tokens")
    rows = [lesson(GLOBAL, 1, you, 1, z=9.0), lesson(GLOBAL, 2, concept("text/bold", "bold text"), 2, z=4.0)]
    rows += [row(GLOBAL, 3, again, lesson=1), row(GLOBAL, 4, other, lesson=1)]
    shown = build_cards(info(GLOBAL), rows)
    assert ids(shown, CardKind.LESSON) == ["global-2", "global-1"]
    assert shown[1].members == ("tokens “you”, “You”, “they”", "tokens “.”, “!”")


def test_a_lesson_that_resampling_does_not_return_is_not_established() -> None:
    rows = [
        lesson(GLOBAL, 1, concept("text/bold"), 1, lesson_stability=0.74),
        lesson(GLOBAL, 2, concept("text/list"), 2, lesson_stability=0.75),
    ]
    cards = build_cards(info(GLOBAL), rows)
    assert ids(cards, CardKind.LESSON) == ["global-2"]
    (missed,) = [card for card in cards if card.kind is CardKind.NOT_ESTABLISHED]
    assert (missed.id, missed.decide) == ("global-1", "")
    assert missed.sureness.startswith("Not stable enough to be relied on. Returned in 74% of resamples")


def test_a_lesson_of_a_family_that_does_not_stand_out_from_all_on_the_page_is_not_established() -> None:
    families = tuple(FamilyCount(family, False, 50, 1, 1) for family in Family)
    views = (ViewSummary(GLOBAL, 250, 2, 2, 30, 0, families=families),)
    audit = replace(info(GLOBAL), views=views)
    bold, tea = concept("text/bold"), concept("word/tea", "tea", "words")
    weak = lesson(GLOBAL, 2, tea, 2, lesson_stability=1.0)
    weak = replace(weak, controlled=replace(weak.effect, q=0.03))
    alone = build_cards(replace(audit, views=(replace(views[0], families=families[3:4]),)), [weak])
    assert ids(alone, CardKind.LESSON) == ["global-2"], "its own tests alone it passes"
    crowded = build_cards(audit, [lesson(GLOBAL, 1, bold, 1, lesson_stability=1.0), weak])
    assert ids(crowded, CardKind.LESSON) == ["global-1"]
    (card,) = [card for card in crowded if card.kind is CardKind.NOT_ESTABLISHED]
    assert card.id == "global-2"
    assert card.sureness.startswith("It passes among its own tests, but not among the 5 families of tests that share this page.")


def test_the_closest_misses_are_named_ones_that_are_nothing_else() -> None:
    rows = [
        lesson(GLOBAL, 1, concept("text/bold"), 1),
        row(GLOBAL, 2, concept("text/bold"), finding=False),
        row(GLOBAL, 3, concept("feature/3", ""), finding=False),
        row(GLOBAL, 4, concept("text/list"), finding=False, length_verdict=1),
        *(row(GLOBAL, rank, concept(f"text/m{rank}"), finding=False) for rank in range(9, 4, -1)),
    ]
    cards = build_cards(info(GLOBAL), rows)
    assert ids(cards, CardKind.NOT_ESTABLISHED) == ["global-5", "global-6", "global-7"]
    assert next(card for card in cards if card.id == "global-5").sureness.startswith("Not sure enough: q must be at most 0.05.")


def test_what_length_explains_is_counted_with_three_examples() -> None:
    gone = [row(GLOBAL, rank, concept(f"text/g{rank}"), z=rank, finding=False, length_verdict=1) for rank in range(2, 7)]
    kept = row(GLOBAL, 7, concept("text/kept"), z=50, length_verdict=1)
    cards = build_cards(info(GLOBAL, raw=40, explained=30), [lesson(GLOBAL, 1, concept("text/bold"), 1), *gone, kept])
    (card,) = [card for card in cards if card.kind is CardKind.NOT_CAUSE]
    assert (card.id, card.title) == ("global-6", "Length explains 30 raw findings")
    assert card.sentence == (
        "75% of 40 raw findings are explained by length: at least two thirds of the effect goes with it, for example of more g6, "
        "more g5 and more g4."
    )
    nothing = replace(info(GLOBAL, explained=30), settings=AuditSettings(nuisances=()))
    assert not ids(build_cards(nothing, gone), CardKind.NOT_CAUSE)


def test_at_most_ten_lessons_and_the_rest_is_counted() -> None:
    rows = [lesson(GLOBAL, rank, concept(f"text/c{rank}"), rank, z=40.0 - rank) for rank in range(1, 15)]
    cards = build_cards(info(GLOBAL, found=37), rows)
    assert len(ids(cards, CardKind.LESSON)) == LESSONS
    assert cards[-1].id == "rest"
    assert cards[-1].sentence.startswith("37 findings in all; 4 lessons are not shown here: More c11, over all pairs; More c12")
    assert cards[-1].hypothesis == f"{AUDIT}/hypotheses/global-11"
    assert "rest" not in ids(build_cards(info(GLOBAL, found=1), rows[:1])), "nothing is left"


@pytest.mark.parametrize("holds", [True, False])
def test_a_stated_hypothesis_is_a_card_whether_it_holds_or_not(holds: bool) -> None:
    (card,) = build_cards(info(STATED, found=int(holds)), [row(STATED, 1, concept("concepts/praise", ""), finding=holds)])
    assert card.kind is (CardKind.LESSON if holds else CardKind.NOT_ESTABLISHED)
    assert card.id == "stated-1"
    assert "; p = 0." in card.sureness, "it is corrected for nothing"


def test_nothing_found_is_no_lesson() -> None:
    assert build_cards(info(found=0), []) == ()
    rows = [row(GLOBAL, 1, concept("text/bold"), finding=False)]
    assert ids(build_cards(info(GLOBAL, found=0), rows)) == ["global-1"]


def test_ids_are_unique_and_equal_input_gives_equal_cards() -> None:
    rows = [hypothesis_row(AUDIT, view, rank) for view in (GLOBAL, CLUSTERS, TOPICS) for rank in range(1, 60)]
    told = info(GLOBAL, CLUSTERS, TOPICS, explained=3)
    cards = build_cards(told, rows)
    assert cards == build_cards(told, rows)
    assert len(ids(cards)) == len(set(ids(cards))) > 3


def evidence(*rows: int) -> Evidence:
    return Evidence(np.array(rows, np.int64), np.ones(len(rows)), np.array([], np.int64), np.array([]))


def test_snippets_show_the_side_that_carries_it_of_two_different_pairs() -> None:
    pairs = {row: Pair("ask", f"Some **bold** tea {row}", f"Some plain tea {row}") for row in range(5)}
    more, less = lesson(GLOBAL, 1, concept("text/bold"), 1), lesson(GLOBAL, 2, concept("word/plain"), 2, z=-4.0)
    found = build_cards(
        info(GLOBAL),
        [more, less],
        evidence={more.name: evidence(9, 3, 3, 1, 2), less.name: evidence(4)},
        pairs=pairs,
        highlights={(more.name, 3): ((Highlight(7, 11, 2.0),), ())},
    )
    first, second = found[0].snippets, found[1].snippets
    assert [(one.row, one.side) for one in first] == [(3, "chosen"), (1, "chosen")], "a pair that is gone is skipped"
    assert [one.text[start:end] for one in first[:1] for start, end in one.marks] == ["bold"]
    assert first[1].marks == (), "where nothing was highlighted, only the difference is"
    assert [first[1].text[start:end] for start, end in first[1].differs] == ["**bold**"]
    assert [(one.row, one.side) for one in second] == [(4, "rejected")]
    assert [one.text[start:end] for one in second for start, end in one.marks] == ["plain"], "a word needs no model to be found"


def test_a_lesson_whose_lead_only_tokens_name_is_told_by_its_strongest_member_that_says_what_it_is() -> None:
    lead = lesson(GLOBAL, 1, concept("feature/1", "“.”, “?”", "tokens"), 1, z=8.0)
    weak = row(GLOBAL, 4, concept("text/hedge", "hedging"), z=3.0, lesson=1)
    turned = row(GLOBAL, 5, concept("text/praise", "praise"), z=-6.0, lesson=1)
    member = row(GLOBAL, 3, concept("word/beautiful", "“beautiful”", "words"), z=5.0, lesson=1)
    (card,) = [one for one in build_cards(info(GLOBAL), [lead, member, weak, turned]) if one.kind is CardKind.LESSON]
    assert (card.id, card.concept) == ("global-3", "word/beautiful")
    assert card.members[0] == "“beautiful”"
    (card,) = [one for one in build_cards(info(GLOBAL), [lead, weak, turned]) if one.kind is CardKind.LESSON]
    assert card.id == "global-1", "what is weaker by half leads nothing, nor what goes the other way"
