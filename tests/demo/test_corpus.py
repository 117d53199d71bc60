"""The SAE's training text: parsing, the split, and what is never read."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from demo.sae import corpus

turns = st.text(alphabet="abc .,\n", min_size=1).map(str.strip).filter(lambda t: t and "\n\n" not in t)


@given(st.lists(turns, min_size=1, max_size=6))
def test_a_transcript_is_parsed_back_into_the_turns_it_was_written_from(said: list[str]) -> None:
    who = ("Human", "Assistant")
    transcript = "".join(f"\n\n{who[i % 2]}: {text}" for i, text in enumerate(said))
    roles = ("user", "assistant")
    assert corpus.parse_transcript(transcript) == [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]


def test_all_continuations_of_a_conversation_fall_on_one_side(tmp_path: Path) -> None:
    path = tmp_path / "hh.jsonl.gz"
    with gzip.open(path, "wt") as out:
        for i in range(200):
            opening = f"\n\nHuman: question {i}\n\nAssistant: "
            row = {"chosen": opening + "yes", "rejected": opening + f"no\n\nHuman: why\n\nAssistant: because {i}"}
            out.write(json.dumps(row) + "\n")
    parts: dict[str, set[str]] = {}
    for conversation in corpus.hh_conversations(path):
        parts.setdefault(conversation.messages[0]["content"], set()).add(conversation.part)
    assert len(parts) == 200
    assert all(len(sides) == 1 for sides in parts.values())
    held_out = sum(sides == {"held-out"} for sides in parts.values())
    assert 60 <= held_out <= 100, "about 40 in 100 are held out"


def test_transcripts_without_a_last_response_and_repeated_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "hh.jsonl"
    good = "\n\nHuman: a\n\nAssistant: b"
    rows = [{"chosen": good, "rejected": "\n\nHuman: a\n\nAssistant: "}, {"chosen": good, "rejected": "\n\nHuman: a"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [c.messages[-1]["content"] for c in corpus.hh_conversations(path)] == ["b"]


def test_prompts_of_the_held_out_part_are_never_answered() -> None:
    conversations = [
        corpus.Conversation("hh", part, [{"role": "user", "content": f"{part} question"}, {"role": "assistant", "content": "x"}])
        for part in ("train", "held-out")
    ]
    asked = [c.messages[0]["content"] for c in corpus.hh_prompts(conversations)]
    assert asked == ["train question"]


def test_data_under_a_licence_that_binds_is_not_read(tmp_path: Path) -> None:
    wheel = tmp_path / "evals.whl"
    sample = {"input": [{"role": "user", "content": "where does she look for the red ball after lunch"}]}
    prompts = [
        {"task_type": "akoksal/LongForm", "task_prompt": "allowed prompt"},
        {"task_type": "vicgalle/alpaca-gpt4", "task_prompt": "forbidden prompt"},
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        base = "evals/registry/data/"
        archive.writestr(base + "theory_of_mind/tomi/test.jsonl", json.dumps(sample))
        archive.writestr(base + "chatty/samples.jsonl", json.dumps(sample))
        archive.writestr(base + "steganography/samples.jsonl", "\n".join(map(json.dumps, prompts)))
    texts = [c.messages[-1]["content"] for c in corpus.evals_prompts(wheel)]
    assert texts == ["where does she look for the red ball after lunch", "allowed prompt"]


def test_conversations_survive_being_saved(tmp_path: Path) -> None:
    kept = [corpus.Conversation("web", "train", [{"role": "user", "content": "naïve “quotes”\n\u2028 line"}])]
    corpus.save_conversations(tmp_path / "text.jsonl", kept)
    assert corpus.load_conversations(tmp_path / "text.jsonl") == kept


@given(st.text())
def test_text_that_only_measures_is_never_trained_on(text: str) -> None:
    assert corpus.part_of("web-unseen", text) == "held-out"
