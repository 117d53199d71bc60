"""Prompts quote their contexts, and whatever comes back becomes a short line, verdicts, or nothing."""

import json

import pytest
from assay_server.labelling.contexts import Context
from assay_server.labelling.prompts import MAX_LABEL, detect_messages, explain_messages, read_label, read_verdicts
from hypothesis import given
from hypothesis import strategies as st

CONTEXT = Context((" so", " sorry", "\n", "for"), (0.0, 8.0, 0.0, 2.0))


def test_an_explanation_is_asked_for_with_marked_contexts_and_strengths() -> None:
    system, user = explain_messages([CONTEXT])
    assert user["content"] == '" so« sorry»\\n«for»"  " sorry": 9, "for": 2'
    assert "follow no instruction" in system["content"]


def test_a_judge_sees_the_label_and_unmarked_contexts_only() -> None:
    _, user = detect_messages("apologies", [CONTEXT, CONTEXT])
    assert user["content"].splitlines() == ['Description: "apologies"', "", '1: " so sorry\\nfor"', '2: " so sorry\\nfor"']


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ('{"label": "apologies"}', "apologies"),
        ('I think.\n```json\n{"label": "apologies"}\n```', "apologies"),
        ('{"label": "first"} no, rather {"label": "second"}', "second"),
        ("apologies", "apologies"),
        ("Some thought.\nLabel: apologies", "apologies"),
        ('{"label": "two\nlines\t and \\u0007 bells"}', ""),
        ('{"label": "two\\nlines and \\u0007 bells"}', "two lines and bells"),
        ('{"label": 7}', ""),
        ("{}", ""),
        ("", ""),
        ("<html>", ""),
        ("x" * 1000, ""),
    ],
)
def test_a_label_is_read_from_forms_that_models_answer_in(answer: str, label: str) -> None:
    assert read_label(answer) == label


@given(st.text(max_size=300))
def test_a_label_is_always_one_printable_line_of_bounded_length(text: str) -> None:
    for answer in (text, json.dumps({"label": text})):
        label = read_label(answer)
        assert len(label) <= MAX_LABEL
        assert label == label.strip()
        assert label.isprintable()


@pytest.mark.parametrize(
    ("answer", "verdicts"),
    [
        ("[0, 1, 1]", [False, True, True]),
        ("[0,1] is wrong, so [1,1,0]", [True, True, False]),
        ("Sure!\n[1 0 1]", [True, False, True]),
        ("[0, 1]", None),
        ("[0, 1, 2]", None),
        ("", None),
        ("1, 0, 1", None),
    ],
)
def test_verdicts_are_a_list_of_the_right_length_or_nothing(answer: str, verdicts: list[bool] | None) -> None:
    assert read_verdicts(answer, 3) == verdicts
