from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.findings import AuditOptions, Effects, TestedConcept, TestTable, ViewKind
from assay_server.audit.findings import Condition as TableCondition
from assay_server.audit.findings import Evidence as TableEvidence
from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditResult,
    AuditSettings,
    AuditState,
    ConceptRow,
    ConditionRow,
    Cost,
    DecisionInfo,
    DecisionMode,
    EffectRow,
    HypothesisRow,
    LabelText,
    Nuisance,
    NuisanceSummary,
    ViewSummary,
)
from assay_server.jobs.datasets.types import DatasetInfo
from assay_server.report import build_report, render_report, wanted_evidence
from assay_server.report.build import card_evidence, evidence_rows
from assay_server.report.method import options
from assay_server.report.model import Highlight, Sides
from assay_server.report.payload import payload
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import Message, Pair

DATASET = DatasetInfo("datasets/d1", "sample", "f" * 64, 40, 1, 39, ("topic",), 1.7e9, True)
SUBJECT = SubjectRef("tiny", "aa", "tiny-sae", "bb", "cc", "dd", "blocks.1.hook_resid_post", "float32")


def effects(many: int) -> Effects:
    column = np.linspace(0.5, 0.1, many)
    return Effects(
        column, column - 0.1, column + 0.1, 10 * column, column / 100, column / 10, column, None, np.zeros(many, np.uint8)
    )


def table(view: ViewKind, many: int) -> TestTable:
    count = np.arange(many)
    conditions = () if view is ViewKind.GLOBAL else (TableCondition("data-cluster/0", (3,)),)
    return TestTable(
        view=view,
        concepts=tuple(TestedConcept(f"feature/{place}", (place,), 1) for place in range(many)),
        conditions=conditions,
        concept=count,
        condition=np.full(many, -1 if view is ViewKind.GLOBAL else 0),
        raw=effects(many),
        controlled=effects(many),
        finding=count < 2,
        cohen_d=np.zeros(many),
        consistent=np.ones(many, np.bool_),
        delta_min=np.zeros(many),
        inside=np.full(many, 39),
        outside=np.zeros(many, np.int64),
        prompts=np.full(many, 30),
        rank_first_half=count + 1,
        rank_second_half=count + 1,
        rank_stable=np.ones(many, np.bool_),
        tests=many,
        findings_raw=3,
        findings_controlled=2,
        evidence=tuple(
            TableEvidence(np.array([place, place + 10]), np.array([1.0, 1.0]), np.array([place + 20]), np.array([-1.0]))
            for place in count
        ),
    )


def effect_row(found: Effects, place: int) -> EffectRow:
    names = ("estimate", "low", "high", "z", "p", "q", "q_by")
    return EffectRow(*(float(getattr(found, name)[place]) for name in names), None, "")


def hypothesis_row(found: TestTable, place: int) -> HypothesisRow:
    condition = None if found.view is ViewKind.GLOBAL else ConditionRow("data-cluster/0", (3,), LabelText("soup"))
    assert found.controlled is not None
    return HypothesisRow(
        name=f"audits/a1/hypotheses/{found.view.value}-{place + 1}",
        view=found.view,
        concept=ConceptRow(f"feature/{place}", (place,), 1, LabelText(f"label {place}", "evidence", 0.9)),
        condition=condition,
        raw=effect_row(found.raw, place),
        controlled=effect_row(found.controlled, place),
        finding=bool(found.finding[place]),
        cohen_d=0.0,
        consistent=True,
        delta_min=0.0,
        inside=39,
        outside=0,
        prompts=30,
        rank=place + 1,
        rank_first_half=place + 1,
        rank_second_half=place + 1,
        rank_stable=True,
    )


def audit() -> AuditResult:
    tables = {view: table(view, 4) for view in (ViewKind.GLOBAL, ViewKind.FEATURE_CONDITIONED)}
    info = AuditInfo(
        name="audits/a1",
        dataset=DATASET.name,
        display_name="first try",
        state=AuditState.DONE,
        settings=AuditSettings(AuditOptions(seed=7, q_level=0.1, yekutieli=True), nuisances=(Nuisance.LENGTH, Nuisance.FORMAT)),
        subject=SUBJECT,
        created=1.7e9,
        views=(
            *(ViewSummary(view, found.tests, 3, 2, 4, 1, note="fewer clusters than asked") for view, found in tables.items()),
            ViewSummary(ViewKind.PROMPT_CONDITIONED, 0, 0, 0, 0, 0, "too few features fire"),
        ),
        nuisance=NuisanceSummary(("length",), (0.3,), 0.6),
        cost=Cost(1000, 200, 30, 39, 12.0, 0.5, "cpu"),
        result_fingerprint="e" * 64,
    )
    rows = tuple(hypothesis_row(found, place) for found in tables.values() for place in range(4))
    return AuditResult(info, tables, rows)


def pairs() -> dict[int, Pair]:
    return {row: Pair((Message("user", f"prompt {row}"),), f"chosen {row}", f"rejected {row}", f"id-{row}") for row in range(40)}


def test_a_report_holds_what_the_audit_found() -> None:
    report = build_report(audit(), DATASET, pairs=pairs())
    assert [(view.kind, view.summary.tests, len(view.hypotheses), view.summary.reason) for view in report.views] == [
        (ViewKind.GLOBAL, 4, 4, ""),
        (ViewKind.FEATURE_CONDITIONED, 4, 4, ""),
        (ViewKind.PROMPT_CONDITIONED, 0, 0, "too few features fire"),
    ]
    assert "Fewer clusters than asked." in render_report(report)
    second = report.views[1].hypotheses[1]
    assert (second.concept.label.text, second.condition and second.condition.label.text, second.finding) == (
        "label 1",
        "soup",
        True,
    )
    assert second.effect.estimate == pytest.approx(effects(4).estimate[1])
    assert report.evidence[second.name].supporting.tolist() == [1, 11]
    assert report.evidence[second.name].contradicting.tolist() == [21]
    assert (report.options.q_level, report.options.yekutieli, report.options.seed) == (0.1, True, 7)
    assert report.info.settings.nuisances == ("length", "format")
    assert report.pairs[11].prompt == (Message("user", "prompt 11"),)
    assert ("Seed", "7") in options(report.info.settings)
    assert ("Correction", "Benjamini-Yekutieli") in options(report.info.settings)


def test_a_raw_prompt_is_one_turn_without_a_role() -> None:
    report = build_report(audit(), DATASET, pairs={0: Pair("raw ", "a", "b")})
    assert json.loads(payload(report))["pairs"]["0"][:3] == ["", 0, [["", "raw ", 4]]]


def test_the_evidence_that_is_wanted_is_that_of_the_cards_and_then_of_the_findings_by_turns() -> None:
    shown = card_evidence(audit())
    leads = ["global-1", "global-2", "global-4", "global-3"]
    assert list(dict.fromkeys(item.hypothesis.rpartition("/")[2] for item in shown)) == leads
    assert [(item.row, item.features) for item in shown[:2]] == [(0, (0,)), (10, (0,))]
    wanted = wanted_evidence(audit(), hypotheses=3)
    assert wanted[: len(shown)] == shown
    rest = [(item.hypothesis.rpartition("/")[2], item.row) for item in wanted[len(shown) :]]
    conditioned = [("feature_conditioned-1", row) for row in (0, 10, 20)]
    assert rest == [("global-1", 20), *conditioned, ("global-2", 21)], "each row once for each"
    assert evidence_rows(audit()) == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]


def test_highlights_are_given_by_hypothesis_and_row_and_may_be_missing() -> None:
    found: dict[tuple[str, int], Sides] = {("audits/a1/hypotheses/global-1", 0): ((Highlight(0, 6, 2.5),), ())}
    data = json.loads(payload(build_report(audit(), DATASET, pairs=pairs(), highlights=found)))
    rows = {row["id"]: row["pro"] for row in (dict(zip(data["fields"], row, strict=True)) for row in data["rows"])}
    assert rows["global-1"] == [[0, 1, [[0, 6, 2.5]], []], [10, 1, [], []]]
    assert rows["feature-1"][0] == [0, 1, [], []]


def test_decisions_reach_the_page() -> None:
    decision = DecisionInfo(
        "audits/a1/decisions/1", "audits/a1/hypotheses/global-2", DecisionMode.AMPLIFY, 0.5, "more of it", "Ada", 1.7e9
    )
    report = build_report(audit(), DATASET, pairs=pairs(), decisions=[decision])
    page = render_report(report)
    assert "Amplify, strength 0.5" in page
    assert "more of it" in page


def test_an_audit_that_kept_fewer_pairs_of_evidence_than_rows_still_makes_a_page() -> None:
    result = audit()
    tables = {view: replace(found, evidence=found.evidence[:1]) for view, found in result.tables.items()}
    report = build_report(replace(result, tables=tables), DATASET, pairs={})
    kept = [report.evidence.get(item.name) for item in report.views[0].hypotheses]
    assert [0 if found is None else len(found.supporting) for found in kept] == [2, 0, 0, 0]
    assert "No pairs were kept" in render_report(report)
