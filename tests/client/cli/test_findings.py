"""Findings as text: what stands in the tables, whatever labels and metadata hold."""

from typing import Any

import pytest
from assay import Audit, View
from assay.cli.findings import aligned, evidence_lines, marked, note_lines, number, one_line, plain, summary_line, table
from assay.hypotheses import Highlight, Hypothesis
from assay.v1 import audit_pb2


def hypothesis(place: int = 1, *, label: str = "", condition: str = "", controlled: bool = True, **fields: Any) -> Hypothesis:
    message = audit_pb2.Hypothesis(name=f"audits/a/hypotheses/h{place}", view=audit_pb2.VIEW_GLOBAL, rank=place, **fields)
    message.concept.name, message.concept.label, message.concept.size = f"feature/{place}", label, 1
    for effect, shift in ((message.raw, 0.0), (message.controlled, 0.1)):
        if effect is message.raw or controlled:
            effect.estimate, effect.low, effect.high, effect.q = 0.5 - shift, 0.4 - shift, 0.6 - shift, 0.01 + shift
    if condition:
        message.condition.name = condition
    return Hypothesis.from_proto(message)


def audit(**fields: Any) -> Audit:
    return Audit.from_proto(audit_pb2.Audit(name="audits/a", **fields))


def test_raw_and_controlled_effects_stand_side_by_side_and_q_is_of_the_one_that_decides() -> None:
    lines = table([hypothesis(inside=300, rank_stable=True)], width=200).splitlines()
    assert lines[0].split() == ["rank", "concept", "raw", "effect", "controlled", "q", "stable", "id"]
    assert "+0.500 [+0.400, +0.600]" in lines[1]
    assert "+0.400 [+0.300, +0.500]" in lines[1]
    assert lines[1].split()[-3:] == ["0.110", "yes", "h1"]


def test_where_and_how_many_inside_appear_with_a_condition_only() -> None:
    plainly = table([hypothesis()], width=200)
    assert "inside/outside" not in plainly
    conditioned = table([hypothesis(condition="metadata/topic=own-writing", inside=34, outside=285)], width=200)
    assert "topic=own-writing" in conditioned
    assert "34/285" in conditioned


def test_no_controlled_column_where_nothing_was_controlled_for() -> None:
    assert "controlled" not in table([hypothesis(controlled=False)], width=200)


def test_long_labels_are_cut_to_the_screen_and_ids_never_are() -> None:
    found = [hypothesis(label="a very long label " * 20, condition="prompt-cluster/2")]
    for width in (100, 130, 180):
        lines = table(found, width=width).splitlines()
        assert all(len(line) <= width for line in lines)
        assert lines[1].endswith("h1")
        assert "…" in lines[1]
        assert ("[" in lines[1]) == (width > 100)


@pytest.mark.parametrize("nasty", ["\x1b[31mred", "two\nlines", "a\tb\r", "\u202e"])
def test_what_the_data_holds_does_not_reach_the_terminal_as_commands(nasty: str) -> None:
    text = table([hypothesis(label=nasty, condition=f"metadata/x={nasty}")], width=200)
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text
    assert one_line(nasty).isprintable()


def test_the_share_that_was_only_length_is_said() -> None:
    view = audit_pb2.ViewSummary(view=audit_pb2.VIEW_GLOBAL, tests=3962, findings_raw=1485, findings_controlled=397)
    one = audit(views=[view])
    said = summary_line(one.views[0], one)
    assert "1,485 findings raw, 397 once length is controlled for: 1,088 (73%) were only length" in said
    nothing = audit(views=[view], options=audit_pb2.AuditOptions(nuisances=[audit_pb2.NUISANCE_UNSPECIFIED]))
    assert summary_line(nothing.views[0], nothing).endswith("1,485 findings; nothing was controlled for")
    both = audit(views=[view], options=audit_pb2.AuditOptions(nuisances=[audit_pb2.NUISANCE_LENGTH, audit_pb2.NUISANCE_FORMAT]))
    assert "were only length and format" in summary_line(both.views[0], both)


def test_control_that_finds_more_is_not_called_a_negative_share() -> None:
    view = audit_pb2.ViewSummary(view=audit_pb2.VIEW_GLOBAL, tests=10, findings_raw=0, findings_controlled=2)
    assert "only" not in summary_line(audit(views=[view]).views[0], audit())


def test_a_view_that_tested_nothing_says_why() -> None:
    view = audit_pb2.ViewSummary(view=audit_pb2.VIEW_PROMPT_CONDITIONED, reason="Ten pairs are too few.")
    one = audit(views=[view])
    assert summary_line(one.views[0], one).endswith("nothing was tested. Ten pairs are too few.")


def test_what_was_done_otherwise_than_asked_is_said_in_lines_that_fit_the_screen() -> None:
    note = "metadata/topic=a\x1b[31m holds 3 pairs, fewer than 25: it was not tested. " * 3
    given = [audit_pb2.ViewSummary(view=audit_pb2.VIEW_GLOBAL, note=note), audit_pb2.ViewSummary(view=audit_pb2.VIEW_GLOBAL)]
    noted, plainly = audit(views=given).views
    lines = note_lines(noted, width=80)
    assert lines[0].startswith("differs from the request: metadata/topic=a")
    assert all(len(line) <= 80 and line.isprintable() for line in lines)
    assert " ".join(lines).count("it was not tested.") == 3
    assert note_lines(plainly, width=80) == []
    assert plain(noted)["note"] == note


def test_highlights_are_marked_in_place() -> None:
    assert marked("ab cd ef", [Highlight(3, 5, 1.0), Highlight(0, 2, 0.5)]) == "«ab» «cd» ef"
    assert evidence_lines("for it", [], width=80) == []


def test_columns_align_and_numbers_stay_short() -> None:
    assert aligned([["a", "bb"], ["ccc", "d"]], left={0}) == ["a    bb", "ccc   d"]
    assert [number(value) for value in (0.0, 1e-12, 0.04999, 1.0)] == ["0", "1.0e-12", "0.050", "1.000"]


def test_everything_of_an_audit_becomes_json() -> None:
    import json

    one = audit(state=audit_pb2.Audit.STATE_DONE, options=audit_pb2.AuditOptions(views=[audit_pb2.VIEW_GLOBAL]))
    text = json.loads(json.dumps(plain(one)))
    assert (text["state"], text["options"]["views"]) == ("done", [View.GLOBAL.value])
    assert json.loads(json.dumps(plain(hypothesis())))["raw"]["estimate"] == 0.5
