"""Reading activations: spans, what is kept, and agreement with the plain model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from demo.sae.activations import BLOCKS, HOOK, PROMPT, RESPONSE, TEMPLATE, Reader, Reading, _batches
from demo.sae.corpus import Conversation


def chat(*turns: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation("web", "train", [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)])


@pytest.fixture(scope="module")
def reader(demo_model: Path) -> Reader:
    return Reader(demo_model, torch.float32)


def test_the_hook_is_the_output_of_the_last_block_that_runs(reader: Reader) -> None:
    assert f"blocks.{BLOCKS - 1}.hook_resid_post" == HOOK
    assert len(reader.model.layers) == BLOCKS


def test_spans_cover_the_messages_and_nothing_of_the_template(reader: Reader) -> None:
    tokens = reader.tokens(chat("user", "assistant\nuser", "How are\nyou?", "Fine."))
    said = {
        kind: reader.tokenizer.decode([i for i, s in zip(tokens.ids, tokens.spans, strict=True) if s == kind])
        for kind in (PROMPT, RESPONSE, TEMPLATE)
    }
    assert said[RESPONSE] == "Fine."
    assert said[PROMPT] == "userassistant\nuserHow are\nyou?"
    assert "SmolLM" in said[TEMPLATE]


def test_what_is_read_is_what_the_whole_model_computes_without_the_first_token(reader: Reader, demo_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    conversations = [chat("Tell me about the sea.", "It is deep."), chat("Hi", "Hello there, how can I help you today?")]
    read = reader.read(conversations)
    whole = AutoModelForCausalLM.from_pretrained(demo_model, dtype=torch.float32).eval()
    for row, conversation in enumerate(conversations):
        tokens = reader.tokens(conversation)
        with torch.inference_mode():
            hidden = whole(torch.tensor([tokens.ids]), output_hidden_states=True).hidden_states[BLOCKS][0]
        spans = torch.tensor(tokens.spans)
        mine = read.acts[(read.rows == row) & (read.spans == RESPONSE)]
        torch.testing.assert_close(mine, hidden[spans == RESPONSE], rtol=1e-3, atol=1e-2)
    assert float(read.acts.norm(dim=-1).max()) < 1000, "the outlier of position 0 is not among them"


def test_a_prompt_shared_by_two_responses_is_kept_once(reader: Reader) -> None:
    read = reader.read([chat("Same question?", "One."), chat("Same question?", "Two.")])
    assert (read.spans[read.rows == 0] == PROMPT).any()
    assert not (read.spans[read.rows == 1] == PROMPT).any()
    assert (read.spans[read.rows == 1] == RESPONSE).any()


def test_texts_without_a_response_do_not_pass_for_one_prompt(reader: Reader) -> None:
    read = reader.read([chat("One text."), chat("Another text."), chat("One text.")])
    said = [reader.tokenizer.decode(read.ids[(read.rows == row) & (read.spans == PROMPT)].tolist()) for row in range(3)]
    assert said == ["One text.", "Another text.", ""]


def test_a_long_conversation_is_cut_on_the_left_and_keeps_its_response(reader: Reader) -> None:
    read = reader.read([chat("word " * 300, "The end.")], limit=64)
    assert len(read.ids) <= 63
    assert reader.tokenizer.decode(read.ids[read.spans == RESPONSE].tolist()) == "The end."


def test_batches_hold_every_conversation_once_within_the_budget() -> None:
    lengths = [5, 900, 30, 30, 4096, 1, 7000]
    batches = list(_batches(lengths, budget=4096))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 4096 for batch in batches)


def test_a_reading_survives_being_saved(tmp_path: Path) -> None:
    kept = Reading(
        acts=torch.randn(4, 3).bfloat16(),
        ids=torch.tensor([1, 2, 3, 4], dtype=torch.int32),
        spans=torch.tensor([0, 1, 2, 2], dtype=torch.uint8),
        rows=torch.tensor([0, 0, 0, 1], dtype=torch.int32),
    )
    kept.save(tmp_path / "r.safetensors")
    again = Reading.load(tmp_path / "r.safetensors")
    assert torch.equal(again.acts, kept.acts)
    assert torch.equal(again.where(again.spans == RESPONSE).ids, torch.tensor([3, 4], dtype=torch.int32))
