"""Files of examples: each kind of line, and errors that name the line and the fix."""

import json
from pathlib import Path
from typing import Any

import pytest
from assay import Examples, InputError, Message, Pair, PromptedResponse
from assay.cli.examples import read_examples


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_texts_responses_and_labels_of_both_spellings(tmp_path: Path) -> None:
    rows = [
        {"text": "Great!", "label": 1},
        {"text": "No.", "label": False},
        {"prompt": "Is it good?", "response": "Splendid.", "label": True},
        {"prompt": [{"role": "user", "content": "Well?"}], "response": "Hm.", "label": 0},
    ]
    file = write(tmp_path / "e.jsonl", rows)
    asked = (Message("user", "Is it good?"),)
    assert read_examples(file, "chat") == Examples(
        ["Great!", PromptedResponse(asked, "Splendid.")], ["No.", PromptedResponse([Message("user", "Well?")], "Hm.")]
    )
    as_text = read_examples(file, "text")
    assert isinstance(as_text, Examples)
    assert as_text.positive[1] == PromptedResponse("Is it good?", "Splendid.")


def test_preference_pairs_are_examples_too(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"id": "2", "prompt": "q", "chosen": "c", "rejected": "d"}]
    source = read_examples(write(tmp_path / "e.jsonl", rows), "chat")
    assert isinstance(source, list)
    assert all(isinstance(one, Pair) for one in source)
    assert len(source) == 2


@pytest.mark.parametrize(
    ("rows", "reason", "says"),
    [
        ([{"text": "a", "label": 1}, {"text": "b", "label": 2}], "BAD_LABEL", "line 2"),
        ([{"text": "a", "label": "1"}], "BAD_LABEL", "neither 1"),
        ([{"label": 1}], "MISSING_COLUMN", "neither a text nor a prompt"),
        ([{"prompt": 3, "response": "x", "label": 1}], "NOT_MESSAGES", "line 1"),
        ([{"prompt": [{"role": "user"}], "response": "x", "label": 1}], "NOT_MESSAGES", "role and content"),
        (['{"text": "torn'], "INVALID_JSON", "line 1"),
        ([{"text": "a"}], "MISSING_COLUMN", "or a preference pair"),
        ([{"text": "a", "label": 1}] * 3, "TOO_FEW_EXAMPLES", "3 lines of label 1 and 0 of label 0"),
        ([], "TOO_FEW_EXAMPLES", "0 lines"),
        ([{"text": "a", "label": 1}, {"prompt": "q", "chosen": "a", "rejected": "b"}], "MIXED_EXAMPLES", "mixes"),
    ],
)
def test_what_is_no_example_is_named_with_its_line(tmp_path: Path, rows: list[Any], reason: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_examples(write(tmp_path / "e.jsonl", rows), "chat")
    assert caught.value.reason == reason
