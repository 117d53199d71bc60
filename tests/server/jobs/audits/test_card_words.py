"""The grammar of cards, sentence by sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.card_words import (
    carried,
    exception,
    how_often,
    length_words,
    member_names,
    sentence,
    sureness,
    title,
)
from assay_server.jobs.audits.types import (
    AuditSettings,
    ConceptRow,
    ConditionRow,
    HypothesisRow,
    LabelText,
    LengthSummary,
    NamedText,
    Nuisance,
)

from tests.support.fake_rows import effect, hypothesis_row

SETTINGS = AuditSettings()
POEMS = ConditionRow("prompt-cluster/1", (), LabelText(), NamedText("poem, story", "words"))
WRITING = ConditionRow("metadata/topic=own-writing", (), LabelText())


def called(text: str, kind: Any = "descriptor", name: str = "feature/1") -> ConceptRow:
    return ConceptRow(name, (1,), 1, LabelText(), NamedText(text, kind))


BOLD, LISTS = called("bold text", name="text/bold"), called("lists", name="text/list")
PRAISE = called("praise of the user", name="text/praise")


def row(
    concept: ConceptRow, *, sign: int = 1, counts: tuple[int, int] | None = None, inside: int = 1000, **more: Any
) -> HypothesisRow:
    """A finding; `counts`: pairs in which only the chosen, and only the rejected response has it."""
    made = hypothesis_row("audits/a", ViewKind.GLOBAL, 1)
    estimate = replace(effect(1), estimate=0.412 * sign, q=0.0003)
    only = dict(zip(("only_chosen", "only_rejected"), counts or (None, None), strict=True))
    return replace(made, concept=concept, raw=estimate, controlled=estimate, inside=inside, **only, **more)


def told(lead: HypothesisRow, *others: HypothesisRow) -> str:
    return sentence(lead, others, member_names(lead, others))


@pytest.mark.parametrize(
    ("lead", "others", "said"),
    [
        (
            row(BOLD, counts=(780, 30)),
            (row(LISTS), row(called("headings", name="text/header"))),
            "More formatting, almost everywhere: bold text, lists and headings; chosen has it and rejected does not in 78% of "
            "pairs, the reverse in 3%.",
        ),
        (
            row(BOLD, sign=-1, counts=(30, 780)),
            (row(LISTS, sign=-1),),
            "Less formatting, almost everywhere: bold text and lists; rejected has it and chosen does not in 78% of pairs, the "
            "reverse in 3%.",
        ),
        (
            row(BOLD, counts=(120, 20)),
            (),
            "More bold text, in many pairs: chosen has it and rejected does not in 12% of pairs, the reverse in 2%.",
        ),
        (
            row(LISTS, sign=-1, counts=(4, 30)),
            (),
            "Fewer lists, in few pairs: rejected has it and chosen does not in 3% of pairs, the reverse in under 1%.",
        ),
        (
            row(called("sorry", "words", "word/sorry"), sign=-1, counts=(0, 90)),
            (row(called("an apology", name="text/apology"), sign=-1),),
            "Less “sorry”, in few pairs: rejected has it and chosen does not in 9% of pairs, the reverse in 0%. "
            "Less of these too: apologies.",
        ),
        (
            row(PRAISE, counts=(700, 10)),
            (row(called("hedging"), sign=-1), row(called("lists", "label", "feature/8"))),
            "More praise of the user, almost everywhere: chosen has it and rejected does not in 70% of pairs, the reverse in 1%. "
            "Along with it: less hedging and lists.",
        ),
        (
            row(PRAISE, counts=(14, 2), inside=34, view=ViewKind.FEATURE_CONDITIONED, condition=WRITING),
            (),
            "More praise of the user where topic = own-writing than elsewhere: chosen has it and rejected does not in 41% of the "
            "34 pairs there, the reverse in 6%.",
        ),
        (
            row(PRAISE, counts=(2, 14), inside=34, view=ViewKind.PROMPT_CONDITIONED, condition=POEMS),
            (),
            "Less praise of the user, though less so than elsewhere, where prompts are about “poem”, “story”: rejected has it "
            "and chosen does not in 41% of the 34 pairs there, the reverse in 6%; elsewhere the difference is larger.",
        ),
        (
            row(called("bold text", name="text/more-bold"), counts=(600, 200)),
            (),
            "More bold text, almost everywhere: chosen has more of it than rejected in 60% of pairs, the reverse in 20%.",
        ),
        (
            row(replace(PRAISE, name="cluster/3", size=12), sign=-1, counts=(100, 600)),
            (),
            "Less praise of the user, almost everywhere: rejected has more of it than chosen in 60% of pairs, the reverse in "
            "10%.",
        ),
        (
            row(BOLD, counts=(100, 140)),
            (),
            "More bold text, in many pairs: chosen has it and rejected does not in 10% of pairs, the reverse in 14%; what is "
            "controlled for turns it round.",
        ),
        (
            row(ConceptRow("feature/9", (9,), 1, LabelText("never shown", "hand", 0.5))),
            (),
            "More of something unnamed (feature 9), over all pairs: the effect is +0.412 (mean signed disparity, from −1 to +1).",
        ),
        (
            row(PRAISE, view=ViewKind.PROMPT_CONDITIONED, condition=POEMS),
            (),
            "More praise of the user where prompts are about “poem”, “story” than elsewhere: the effect is +0.412 (mean inside "
            "minus mean outside, in standard deviations).",
        ),
    ],
)
def test_sentences_are_grammatical_for_one_and_many_more_and_less_everywhere_and_somewhere(
    lead: HypothesisRow, others: tuple[HypothesisRow, ...], said: str
) -> None:
    assert told(lead, *others) == said
    assert said.startswith(title(lead, others)), "the page sets the title apart"


def test_names_from_tokens_come_last_and_unnamed_ones_not_at_all() -> None:
    tokens = replace(row(BOLD), concept=ConceptRow("feature/5", (5,), 1, LabelText("“**”", "evidence-tokens/1", 0.9)))
    unnamed = replace(row(BOLD), concept=ConceptRow("feature/6", (6,), 1, LabelText()))
    assert member_names(row(BOLD), (tokens, unnamed, row(LISTS), row(BOLD))) == ["bold text", "lists", "tokens “**”"]


@pytest.mark.parametrize(
    ("lead", "settings", "said"),
    [
        (row(BOLD, lesson_stability=0.96), SETTINGS, "Returned in 96% of resamples; q = 3 × 10⁻⁴; controlled for length."),
        (row(BOLD), SETTINGS, "Controlled for length; q = 3 × 10⁻⁴."),
        (
            row(BOLD, lesson_stability=1.0),
            AuditSettings(nuisances=(Nuisance.LENGTH, Nuisance.FORMAT)),
            "Returned in 100% of resamples; q = 3 × 10⁻⁴; controlled for length and formatting.",
        ),
        (replace(row(BOLD), controlled=None), AuditSettings(nuisances=()), "Nothing was controlled for; q = 3 × 10⁻⁴."),
    ],
)
def test_how_sure_it_is_names_what_was_controlled_for(lead: HypothesisRow, settings: AuditSettings, said: str) -> None:
    assert sureness(lead, settings).replace("\u202f", " ") == said


def test_what_could_not_be_tested_says_why() -> None:
    untested = replace(effect(1), reason="all pairs share one prompt")
    assert sureness(replace(row(BOLD), controlled=untested), SETTINGS) == "It could not be tested: all pairs share one prompt."


@pytest.mark.parametrize(
    ("by", "left", "said"),
    [
        (None, None, ""),
        (
            0.04,
            0.2,
            "Half of it is carried by 4% of the pairs; without the strongest 5%, 20% of it is left: filtering them would take "
            "most of it out.",
        ),
        (0.04, None, "Half of it is carried by 4% of the pairs: filtering them would take most of it out."),
        (
            0.38,
            0.9,
            "Half of it is carried by 38% of the pairs; without the strongest 5%, 90% of it is left: filtering single pairs "
            "would not take it out.",
        ),
    ],
)
def test_few_pairs_or_many_carry_it(by: float | None, left: float | None, said: str) -> None:
    assert carried(row(BOLD, carried_by=by, left_without_top=left)) == said


def test_where_it_does_not_hold_is_reversed_or_weaker() -> None:
    less = row(PRAISE, sign=-1, counts=(2, 14), inside=34, view=ViewKind.PROMPT_CONDITIONED, condition=POEMS)
    assert exception(less) == "the reverse where prompts are about “poem”, “story”"
    assert exception(replace(less, only_chosen=14, only_rejected=2)) == "weaker where prompts are about “poem”, “story”"
    assert exception(replace(less, only_chosen=None)) == "weaker where prompts are about “poem”, “story”"


def test_shares_are_of_the_pairs_inside() -> None:
    assert "50% of the 2 pairs there" in how_often(row(BOLD, counts=(1, 0), inside=2, condition=WRITING))
    assert "100% of the 1 pair there" in how_often(row(BOLD, counts=(1, 0), inside=1, condition=WRITING))
    assert how_often(row(BOLD, counts=(0, 0))).startswith("the effect is +0.412 (")


def test_length_is_said_both_ways() -> None:
    longer = LengthSummary(
        pairs=319, direction="longer", ratio=1.319, longer=0.63, shorter=0.33, accuracy=0.65, p=0.0002, information_left=0.91
    )
    head, text, sure = length_words(longer)
    assert head == "Longer responses"
    assert text == (
        "Longer responses: the chosen one has 1.32 times the tokens of the rejected one (median); it is longer in 63% of pairs, "
        "shorter in 33%."
    )
    assert sure.replace("\u202f", " ") == (
        "“The longer one wins” is right for 65% of pairs; p = 2 × 10⁻⁴; controlling for it leaves 91% of the pairs' information."
    )
    _, text, sure = length_words(replace(longer, direction="shorter", ratio=0.8, longer=0.33, shorter=0.63, accuracy=0.35))
    assert "it is shorter in 63% of pairs, longer in 33%" in text
    assert sure.startswith("“The shorter one wins” is right for 65% of pairs")
