from __future__ import annotations

from dataclasses import replace

import pytest
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.types import AuditSettings, ConceptRow, LabelText, Nuisance, NuisanceSummary, ViewSummary
from assay_server.report.headline import headline, members, strongest
from assay_server.report.model import Report, View

from tests.server.report import examples
from tests.server.report.test_markup import read


def words(report: Report) -> str:
    return " ".join(read(headline(report)).text.split())


def with_counts(raw: int, controlled: int, *nuisances: Nuisance, reason: str = "") -> Report:
    report = examples.lively(rows=20)
    summary = replace(report.views[0].summary, findings_raw=raw, findings_controlled=controlled)
    fit = NuisanceSummary(("delta log length",), (0.4,), 0.6, reason)
    info = replace(report.info, settings=AuditSettings(nuisances=nuisances), nuisance=fit if nuisances else NuisanceSummary())
    return replace(report, info=info, views=(replace(report.views[0], summary=summary),))


LENGTH, FORMAT = Nuisance.LENGTH, Nuisance.FORMAT


def test_the_strongest_findings_are_said_in_plain_words_with_their_direction() -> None:
    text = words(examples.lively())
    assert "What “demo pairs” would teach" in text
    assert "In 2,309 pairs, 397 of 4,102 concepts tell chosen from rejected responses." in text
    assert "▲ more numbered steps +0.380" in text
    assert "▼ less hedges: “perhaps”, “might”, “I think” −0.220" in text
    assert "more “you should be proud”, “lovely”, “wonderful” where the prompt is about the user's own writing +1.350" in text


def test_many_features_of_one_label_are_one_lesson() -> None:
    view = examples.lively().views[0]
    twins = tuple(
        replace(item, concept=ConceptRow(f"feature/{place}", (), 1, LabelText("same")))
        for place, item in enumerate(view.hypotheses)
    )
    assert len(strongest(replace(view, hypotheses=twins), 5)) == 1
    assert len(strongest(view, 5)) == 5


def test_a_lesson_is_named_by_its_strongest_concept_and_what_goes_along_with_it() -> None:
    view = examples.lively().views[0]
    first, second, third, fourth, fifth, *rest = view.hypotheses
    items = (
        replace(first, lesson=1, lesson_z=9.0),
        replace(second, lesson=1, concept=first.concept),
        replace(third, lesson=1),
        replace(fourth, lesson=2, lesson_z=4.0),
        replace(fifth, lesson=1, finding=False),
    )
    told = replace(view, hypotheses=(*items, *(replace(item, lesson=1) for item in rest)))
    assert [item.rank for item in members(told, items[0], 1)] == [third.rank], "the lead's own title is not said twice"
    assert fifth.rank not in [item.rank for item in members(told, items[0], 50)]
    assert members(told, items[3]) == []
    assert members(told, items[2]) == [], "what leads no lesson speaks for itself"
    text = words(replace(examples.lively(), views=(told,)))
    assert text.count("along with") == 1
    assert "along with less hedges" in text, "it goes the other way"


def test_what_is_no_finding_is_never_a_lesson() -> None:
    text = words(examples.closest())
    assert "none of 20 concepts tells chosen from rejected responses surely enough to be called a finding (q ≤ 0.05)" in text
    assert "would learn" not in text


def test_the_share_of_raw_findings_that_is_only_length_is_said() -> None:
    text = words(with_counts(1485, 397, LENGTH))
    assert (
        "73% of the raw findings are only length. Without that correction this report would claim 1,485; it claims 397." in text
    )


@pytest.mark.parametrize(
    ("raw", "controlled", "nuisances", "reason", "said"),
    [
        (10, 12, [LENGTH], "", "Length explains none of the findings away. 10 pass before it is controlled for, 12 after."),
        (10, 10, [], "", "Nothing was controlled for."),
        (
            10,
            10,
            [LENGTH],
            "the fit of the nuisance differences did not converge",
            "Length could not be controlled for: the fit of the nuisance differences did not converge.",
        ),
        (9, 3, [LENGTH, FORMAT], "", "67% of the raw findings are only length and formatting."),
    ],
)
def test_other_outcomes_of_the_control_are_said_too(
    raw: int, controlled: int, nuisances: list[Nuisance], reason: str, said: str
) -> None:
    assert said in words(with_counts(raw, controlled, *nuisances, reason=reason))


def test_nothing_is_said_of_length_where_there_are_no_findings() -> None:
    assert "only length" not in words(with_counts(0, 0, LENGTH))


def test_a_reason_for_no_tests_is_the_lede() -> None:
    text = words(examples.nothing("all pairs share one prompt, so nothing varies independently", pairs=300))
    assert "Over all pairs nothing could be tested: all pairs share one prompt, so nothing varies independently." in text


def test_a_stated_hypothesis_is_said_to_hold_or_not() -> None:
    report = examples.stated()
    assert "The stated hypothesis holds:" in words(report)
    (view,) = report.views
    failed = replace(view, hypotheses=(replace(view.hypotheses[0], finding=False),))
    assert "The stated hypothesis does not hold:" in words(replace(report, views=(failed,)))
    untested = View(ViewSummary(ViewKind.STATED, 0, 0, 0, 0, 0, reason="the concept holds no features"))
    assert "could not be tested: the concept holds no features." in words(replace(report, views=(untested,)))


def test_a_report_of_no_view_says_so() -> None:
    assert "No view tested over all pairs." in words(replace(examples.lively(20), views=()))
