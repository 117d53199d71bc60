"""Findings as text: what stands in the tables, whatever labels and metadata hold."""

import re
from dataclasses import replace
from typing import Any

import pytest
from assay import Audit, View
from assay.cli.audits import hypothesis_lines
from assay.cli.findings import (
    aligned,
    evidence_lines,
    explained_lines,
    length_line,
    marked,
    note_lines,
    number,
    one_line,
    plain,
    summary_line,
    table,
)
from assay.hypotheses import Highlight, Hypothesis, LengthVerdict
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


def test_what_is_known_beside_effects_is_in_columns_and_scales_are_named() -> None:
    known = hypothesis(1, length_verdict=audit_pb2.LENGTH_VERDICT_WEAKENED, carried_by=0.123, log_odds=0.5)
    known = replace(known, concept=replace(known.concept, name="word/many thanks"))
    lines = table([known, hypothesis(2, carried_by=0.001)], width=250).splitlines()
    head = re.split(r"  +", lines[0])
    assert head[-6:] == ["family", "verdict", "carried by", "log-odds (nats)", "stable", "id"]
    assert re.split(r"  +", lines[1])[-6:] == ["words", "weakened", "12%", "+0.50", "no", "h1"]
    assert re.split(r"  +", lines[2])[-4:] == ["SAE concepts", "<1%", "no", "h2"]
    assert "(sd)" not in lines[0]
    assert all(len(line) <= 100 for line in table([known], width=100).splitlines())
    topical = table([replace(known, view=View.PROMPT_CONDITIONED)], width=250)
    assert {"raw effect (sd)", "controlled (sd)"} <= set(re.split(r"  +", topical.splitlines()[0]))


def test_one_hypothesis_says_what_is_known_with_its_scale() -> None:
    fields: dict[str, Any] = {
        "only_chosen": 120,
        "only_rejected": 40,
        "carried_by": 0.2,
        "left_without_top": 0.75,
        "log_odds": -0.5,
    }
    known = hypothesis(1, length_verdict=audit_pb2.LENGTH_VERDICT_UNCHANGED, log_odds_z=-4.0, **fields)
    told = dict(re.split(r"  +", line, maxsplit=1) for line in hypothesis_lines(known, width=120))
    assert told["family"] == "SAE concepts"
    assert told["log-odds"] == "-0.500 nats, z = -4.00"
    assert told["verdict"] == "unchanged once controlled for"
    assert told["pairs"] == "120 with it in chosen only, 40 in rejected only"
    assert told["carried by"] == "half of the effect by 20% of the pairs; without the strongest 5%, 75% is left"
    assert "[+0.400, +0.600], z" in told["raw"]
    topical = "\n".join(hypothesis_lines(replace(known, view=View.PROMPT_CONDITIONED), width=120))
    assert "[+0.400, +0.600] sd, z" in topical
    assert not {"verdict", "carried by", "log-odds", "pairs"} & set(
        dict(re.split(r"  +", line, maxsplit=1) for line in hypothesis_lines(hypothesis(), width=120))
    )


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


def test_what_length_explains_is_said_in_three_counts() -> None:
    view = audit_pb2.ViewSummary(view=audit_pb2.VIEW_GLOBAL, tests=3962, findings_raw=1485, findings_controlled=397)
    assert "1,485 findings raw, 397 once length is controlled for" in summary_line(audit(views=[view]).views[0], audit())
    view.explained, view.weakened, view.unchanged = 210, 920, 355
    one = audit(views=[view])
    said = summary_line(one.views[0], one)
    assert said.endswith("(length explains 210, leaves 355 unchanged, 920 weaker or undecided)")
    nothing = audit(views=[view], options=audit_pb2.AuditOptions(nuisances=[audit_pb2.NUISANCE_UNSPECIFIED]))
    assert summary_line(nothing.views[0], nothing).endswith("1,485 findings; nothing was controlled for")
    both = audit(views=[view], options=audit_pb2.AuditOptions(nuisances=[audit_pb2.NUISANCE_LENGTH, audit_pb2.NUISANCE_FORMAT]))
    assert "length and format explain 210" in summary_line(both.views[0], both)


def test_length_is_told_in_one_line() -> None:
    told = audit_pb2.LengthSummary(
        pairs=90,
        direction=audit_pb2.LengthSummary.DIRECTION_LONGER,
        ratio=1.2,
        ratio_low=1.1,
        ratio_high=1.3,
        longer=0.6,
        shorter=0.3,
        accuracy=0.65,
        auc=0.7,
        auc_low=0.65,
        auc_high=0.75,
        information_left=0.9,
    )
    assert length_line(audit(length=told)) == (
        "lesson 0, length: chosen is longer (longer in 60% of pairs, shorter in 30%), median ratio 1.20 [1.10, 1.30], "
        "the longer one wins 65%, AUC 0.700 [0.650, 0.750]; control leaves 90% of the information"
    )
    told.reason = "all pairs\nshare one prompt"
    assert length_line(audit(length=told)) == "lesson 0, length: not comparable. all pairs share one prompt"
    assert length_line(audit()) == ""


def test_what_is_explained_is_a_small_table() -> None:
    told = audit_pb2.Explained(over_style=0.1, over_style_low=0.05, over_style_high=0.15, note="Half\ntook part.")
    told.blocks.add(name="style", columns=5, auc=0.6, low=0.55, high=0.65)
    lines = explained_lines(audit(explained=told))
    assert lines[1].split() == ["style", "5", "0.600", "[0.550,", "0.650]"]
    assert lines[2:] == ["the SAE adds +0.100 [+0.050, +0.150] to style", "Half took part."]
    told.blocks.add(name="dense", columns=9, auc=0.7, low=0.65, high=0.75, share=1, share_low=1, share_high=1)
    told.over_random, told.over_random_low, told.over_random_high = 0.02, -0.01, 0.05
    lines = explained_lines(audit(explained=told))
    assert lines[0].endswith("share of dense")
    assert lines[1].split() == ["style", "5", "0.600", "[0.550,", "0.650]"]
    assert lines[2].split() == ["dense", "9", "0.700", "[0.650,", "0.750]", "100%", "[100%,", "100%]"]
    assert lines[4] == "against a random dictionary the SAE is +0.020 [-0.010, +0.050]"
    assert explained_lines(audit(explained=audit_pb2.Explained(note="Too few."))) == ["Too few."]
    assert explained_lines(audit()) == []


def test_a_verdict_is_read_from_the_wire() -> None:
    assert hypothesis(length_verdict=audit_pb2.LENGTH_VERDICT_UNCHANGED).length_verdict is LengthVerdict.UNCHANGED
    assert hypothesis().length_verdict is None


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
