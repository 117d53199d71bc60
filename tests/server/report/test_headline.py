from __future__ import annotations

from dataclasses import replace

import pytest
from assay_server import figures
from assay_server.audit.findings import ViewKind
from assay_server.audit.length import Direction
from assay_server.jobs.audits.types import AuditSettings, ConceptRow, LabelText, Nuisance, NuisanceSummary, ViewSummary
from assay_server.report.headline import headline, shares, strongest
from assay_server.report.lengths import length_words
from assay_server.report.markup import join
from assay_server.report.model import Report, View

from tests.server.report import examples
from tests.server.report.test_markup import read


def words(report: Report) -> str:
    return " ".join(read(join([headline(report), *shares(report)])).text.split())


def with_counts(
    raw: int, controlled: int, *nuisances: Nuisance, verdicts: tuple[int, int, int] = (0, 0, 0), reason: str = ""
) -> Report:
    report = examples.lively(rows=20)
    counts = dict(zip(("explained", "weakened", "unchanged"), verdicts, strict=True))
    summary = replace(report.views[0].summary, findings_raw=raw, findings_controlled=controlled, **counts)
    fit = NuisanceSummary(("delta log length",), (0.4,), 0.6, reason)
    info = replace(report.info, settings=AuditSettings(nuisances=nuisances), nuisance=fit if nuisances else NuisanceSummary())
    return replace(report, info=info, views=(replace(report.views[0], summary=summary),))


LENGTH, FORMAT = Nuisance.LENGTH, Nuisance.FORMAT


def test_what_was_audited_and_how_much_was_found_is_said_first() -> None:
    text = words(examples.lively())
    assert "What “demo pairs” would teach" in text
    assert "In 2,309 pairs, 397 of 4,102 concepts tell chosen from rejected responses." in text


def test_many_features_of_one_label_are_one_lesson() -> None:
    view = examples.lively().views[0]
    twins = tuple(
        replace(item, concept=ConceptRow(f"feature/{place}", (), 1, LabelText("same")))
        for place, item in enumerate(view.hypotheses)
    )
    assert len(strongest(replace(view, hypotheses=twins), 5)) == 1
    assert len(strongest(view, 5)) == 5


def test_what_is_no_finding_is_never_a_lesson() -> None:
    text = words(examples.closest())
    assert "none of 20 concepts tells chosen from rejected responses surely enough to be called a finding (q ≤ 0.05)" in text


def test_length_is_told_by_the_first_card_where_it_is_not_the_whole_lesson() -> None:
    report = examples.lively()
    text = words(report)
    assert "Lesson 0" not in text
    assert "First of all" not in text
    assert length_words(examples.LENGTH).startswith(
        "chosen responses are longer (longer in 59% of the pairs, shorter in 40%, p = 3"
    )


def test_a_dataset_whose_lesson_is_length_says_so_first_and_shows_the_raw_order() -> None:
    report = with_counts(1485, 3, LENGTH, verdicts=(900, 583, 2))
    rows = report.views[0].hypotheses
    report = replace(report, raw_first=(rows[3], replace(rows[0], name="audits/a/hypotheses/global-2000")))
    text, markup = words(report), headline(report)
    assert "First of all, 2,309 pairs teach length: longer responses win." in text
    assert text.index("teach length") < text.index("In 2,309 pairs")
    assert "Before length is controlled for, the strongest concepts over all pairs are:" in text
    raw = figures.signed(rows[3].raw.estimate)
    assert f"{raw} raw, {figures.signed(rows[3].effect.estimate)} controlled" in text
    before = markup[: markup.index("concepts tell") if "concepts tell" in markup else markup.index("concept tells")]
    assert before.count('class="open"') == 1, "a concept that the page does not hold is named without a link"


def test_a_direction_that_cannot_be_told_or_compared_is_said() -> None:
    report = examples.lively(20)
    for length, said in (
        (replace(examples.LENGTH, direction=Direction.NEITHER, p=0.4), "chosen responses are neither longer nor shorter"),
        (
            replace(examples.LENGTH, reason="all pairs share one prompt"),
            "lengths could not be compared: all pairs share one prompt.",
        ),
    ):
        assert said in words(replace(report, info=replace(report.info, length=length)))
    assert "Lesson 0" not in words(replace(report, info=replace(report.info, length=None)))


def test_what_length_explains_is_three_counts_and_the_information_that_is_left() -> None:
    text = words(with_counts(1485, 397, LENGTH, verdicts=(210, 920, 355)))
    assert "Of 1,485 raw findings, length explains 210, 355 stand unchanged, and 920 are weaker or undecided." in text
    assert "The control leaves 96% of the information: the tests are about as sure as those of 2,210 pairs without it" in text
    assert "only length" not in text


@pytest.mark.parametrize(
    ("raw", "controlled", "nuisances", "reason", "said"),
    [
        (10, 12, [LENGTH], "", "10 findings pass before length is controlled for, 12 after."),
        (10, 10, [], "", "Nothing was controlled for."),
        (
            10,
            10,
            [LENGTH],
            "the fit of the nuisance differences did not converge",
            "Length could not be controlled for: the fit of the nuisance differences did not converge.",
        ),
    ],
)
def test_other_outcomes_of_the_control_are_said_too(
    raw: int, controlled: int, nuisances: list[Nuisance], reason: str, said: str
) -> None:
    assert said in words(with_counts(raw, controlled, *nuisances, reason=reason))


def test_formatting_is_named_beside_length() -> None:
    text = words(with_counts(9, 3, LENGTH, FORMAT, verdicts=(1, 7, 1)))
    assert "Of 9 raw findings, length and formatting explain 1, 1 stands unchanged, and 7 are weaker or undecided." in text


def test_nothing_is_said_of_what_length_explains_where_there_are_no_findings() -> None:
    text = words(with_counts(0, 0, LENGTH))
    assert "explains" not in text
    assert "Nothing found is not nothing taught" in text


def test_a_reason_for_no_tests_is_the_lede() -> None:
    text = words(examples.nothing("all pairs share one prompt, so nothing varies independently", pairs=300))
    assert "Over all pairs nothing could be tested: all pairs share one prompt, so nothing varies independently." in text


def test_a_stated_hypothesis_is_said_to_hold_or_not() -> None:
    report = examples.stated()
    assert "The stated hypothesis holds." in words(report)
    (view,) = report.views
    failed = replace(view, hypotheses=(replace(view.hypotheses[0], finding=False),))
    assert "The stated hypothesis does not hold." in words(replace(report, views=(failed,)))
    untested = View(ViewSummary(ViewKind.STATED, 0, 0, 0, 0, 0, reason="the concept holds no features"))
    assert "could not be tested: the concept holds no features." in words(replace(report, views=(untested,)))


def test_a_report_of_no_view_says_so() -> None:
    assert "No view tested over all pairs." in words(replace(examples.lively(20), views=()))
