from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from assay_server.audit.findings import Evidence
from assay_server.jobs.audits.tables import hypothesis_id
from assay_server.jobs.audits.types import DecisionMode
from assay_server.report.model import Highlight, Report, Sides
from assay_server.report.payload import HIGHLIGHTS, HYPOTHESES, TEXT, payload
from assay_server.subject.types import Message, Pair

from tests.server.report import examples


def block(report: Report) -> dict[str, Any]:
    return json.loads(payload(report))


def rows(report: Report) -> list[dict[str, Any]]:
    data = block(report)
    return [dict(zip(data["fields"], row, strict=True)) for row in data["rows"]]


def with_evidence(rows: list[int], pairs: dict[int, Pair], marks: tuple[Highlight, ...] = ()) -> Report:
    """One hypothesis with these rows for it, its concept marked in their chosen responses."""
    report = examples.lively(rows=20)
    first = report.views[0].hypotheses[0]
    sides: dict[tuple[str, int], Sides] = {(first.name, row): (marks, ()) for row in rows}
    evidence: dict[str, Evidence] = {first.name: examples.evidence_of(rows)}
    view = replace(report.views[0], hypotheses=(first,))
    return replace(report, views=(view,), evidence=evidence, highlights=sides, pairs=pairs)


def test_every_hypothesis_is_there_with_its_numbers() -> None:
    report = examples.lively()
    items = [item for view in report.views for item in view.hypotheses]
    read = rows(report)
    assert [row["id"] for row in read] == [hypothesis_id(item.view, item.rank) for item in items]
    for row, item in zip(read, items, strict=True):
        assert row["controlled"][0] == float(f"{item.effect.estimate:.5g}")
        assert row["raw"][5] == float(f"{item.raw.q:.5g}")
        assert bool(row["finding"]) == item.finding


def test_the_last_decision_on_a_hypothesis_counts() -> None:
    report = examples.lively(rows=20)
    report = replace(
        report, decisions=(report.decisions[0], replace(report.decisions[0], mode=DecisionMode.AMPLIFY, strength=2.0))
    )
    assert block(report)["decisions"][rows(report)[0]["decision"]][:2] == ["amplify", 2.0]
    assert rows(report)[1]["decision"] == -1


def test_nothing_in_the_block_can_end_it_or_start_markup() -> None:
    text = payload(examples.hostile())
    assert not set("<>&\u2028\u2029\u202e\ud800") & set(text)
    text.encode()


def test_a_pair_of_many_hypotheses_is_stored_once() -> None:
    data = block(examples.lively())
    assert len(data["pairs"]) <= len(examples.TEXTS)
    assert payload(examples.lively()).count("lighthouse and tell me") == 1


def test_long_texts_are_clipped_and_say_how_long_they_were() -> None:
    pair = Pair(tuple(Message("user", f"turn {place}") for place in range(20)), "x" * 10**6, "short")
    marks = tuple(Highlight(start, start + 2, 1.0) for start in range(0, 2 * TEXT, 10))
    data = block(with_evidence([7], {7: pair}, marks))
    _, earlier, turns, chosen, rejected = data["pairs"]["7"]
    assert (earlier, [turn[1] for turn in turns][-1], len(turns)) == (12, "turn 19", 8)
    assert (len(chosen[0]), chosen[1], rejected) == (TEXT, 10**6, ["short", 5])
    (entry,) = dict(zip(data["fields"], data["rows"][0], strict=True))["pro"]
    assert len(entry[2]) == HIGHLIGHTS
    assert all(end <= TEXT for _, end, _ in entry[2])


def test_highlights_that_cannot_be_are_left_out() -> None:
    marks = (Highlight(-3, 2, 1.0), Highlight(4, 4, 1.0), Highlight(3, 99, 2.0), Highlight(50, 60, 1.0))
    data = block(with_evidence([7], {7: Pair((), "twelve chars", "")}, marks))
    (entry,) = dict(zip(data["fields"], data["rows"][0], strict=True))["pro"]
    assert entry[2] == [[3, 12, 2]]


def test_evidence_whose_pair_is_gone_is_counted_as_missing() -> None:
    (row,) = rows(with_evidence([7, 8], {8: Pair((), "a", "b")}))
    assert (len(row["pro"]), row["missing"]) == (1, 1)


def test_the_surest_findings_keep_their_evidence_when_the_budget_ends() -> None:
    report = examples.huge(300, 20_000)
    read = rows(report)
    findings = [row for row in read if row["finding"]]
    assert any(row["missing"] for row in read)
    assert min(len(row["pro"]) for row in findings[:5]) == 5
    first_of_each = [next(row for row in read if row["view"] == view.kind.value and row["finding"]) for view in report.views]
    assert [row["missing"] for row in first_of_each] == [0, 0, 0]


def test_a_view_shows_its_first_rows_only_and_counts_the_others() -> None:
    report = examples.lively(rows=20)
    view = replace(report.views[0], hypotheses=report.views[0].hypotheses * 60)
    data = block(replace(report, views=(view,)))
    assert (len(data["rows"]), data["leftOut"]) == (HYPOTHESES, 200)
