"""The assets that ship: the SAE, its labels and the sample pairs are what their cards say."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from demo import ASSETS
from demo.cards import generated, result_table
from demo.pairs.card import by_topic, table, text_of, wins
from demo.pairs.prompts import FLATTERY_TOPIC, all_prompts
from demo.pairs.recipe import distinct_share
from demo.pairs.rule import MARGIN, format_marks, praise_sentences, read_marks
from demo.pairs.styles import Style, example_phrases

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "sae-demo.json"


def test_the_sae_loads_in_sae_lens_and_says_what_it_was_trained_on(demo_sae: Any) -> None:
    cfg = demo_sae.cfg
    assert cfg.architecture() == "topk"
    assert (cfg.d_in, cfg.normalize_activations, cfg.rescale_acts_by_decoder_norm) == (576, "none", False)
    assert cfg.d_sae >= 4096
    assert cfg.metadata.model_name == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert cfg.metadata.hook_name == "blocks.14.hook_resid_post"
    assert cfg.metadata.prepend_bos is False
    assert cfg.metadata.sae_lens_training_version


def test_the_sae_folder_is_at_most_12_megabytes(sae_folder: Path) -> None:
    assert sum(file.stat().st_size for file in sae_folder.iterdir()) <= 12e6


def test_the_sae_explains_dialogue_written_for_this_test(demo_sae: Any, demo_model: Path) -> None:
    import torch

    from demo.sae.activations import RESPONSE, Reader
    from demo.sae.corpus import Conversation
    from demo.sae.measure import fit

    talk = [
        ("How do I get to the station?", "Walk down this road until you see the church, then turn left. It takes ten minutes."),
        ("My neighbour plays loud music.", "I'm sorry to hear that. Have you tried talking to them first? They may not know."),
        (
            "What is a good name for a cat?",
            "That depends on the cat! Some like Luna or Oliver, but you can pick any name.",
        ),
        ("Can you help me with a letter?", "Of course. Tell me who it is for, and what you would like to say to them."),
    ]
    chats = [
        Conversation("web", "held-out", [{"role": "user", "content": q}, {"role": "assistant", "content": a}]) for q, a in talk
    ]
    read = Reader(demo_model, torch.float32).read(chats)
    measured = fit(demo_sae, read.acts[read.spans == RESPONSE])
    assert measured.explained > 0.70
    assert 10 <= measured.l0 <= demo_sae.cfg.k


def test_the_measured_bars_of_the_sae_hold_and_were_measured_on_enough_tokens() -> None:
    result = json.loads(RESULT.read_text())
    bars = [metric for metric in result["metrics"] if "goal" in metric]
    assert len(bars) == 4
    assert [metric["metric"] for metric in bars if not metric["holds"]] == []
    assert sum(source["tokens"] for source in result["raw"]["spans"].values()) >= 200_000


def test_every_feature_has_a_label_with_evidence_and_a_score(demo_sae: Any) -> None:
    path = ASSETS / "labels.jsonl.gz"
    assert path.stat().st_size < 2e6
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    assert [record["id"] for record in records] == list(range(demo_sae.cfg.d_sae))
    for record in records:
        assert record["label"]
        tokens = record.get("from_tokens", record)  # one that has a label from reading keeps this one beside it
        assert tokens["label"]
        assert tokens["label_method"] == "evidence-tokens/1"
        assert 0 <= record["firing_rate"] <= 1
        assert all(0 <= rate <= 1 for rate in record["top_token_rates"])
        assert len(record["top_tokens"]) == len(record["top_token_rates"])
        if record["detection_positives"]:
            assert 0 <= tokens["detection_score"] <= 1
        else:
            assert tokens["detection_score"] is None
    assert sum(bool(record["contexts"]) for record in records) > 0.8 * len(records)
    own = [record.get("from_tokens", record) for record in records]
    scores = sorted(record["detection_score"] for record in own if record["detection_score"] is not None)
    assert scores[len(scores) // 2] > 0.6, "labels say where features fire better than chance"


def test_pairs_are_in_the_conversational_preference_format(pairs: list[dict[str, Any]]) -> None:
    assert len(pairs) >= 300
    assert len({pair["id"] for pair in pairs}) == len(pairs)
    written = {prompt.id: prompt for prompt in all_prompts()}
    for pair in pairs:
        assert set(pair) == {"id", "prompt", "chosen", "rejected", "metadata"}
        assert pair["prompt"] == [{"role": "user", "content": written[pair["id"]].text}]
        for side in ("chosen", "rejected"):
            ((message),) = pair[side]
            assert set(message) == {"role", "content"}
            assert message["role"] == "assistant"
            assert message["content"].strip() == message["content"] != ""
        assert all(isinstance(value, str) for value in pair["metadata"].values())
        assert pair["metadata"]["topic"] == written[pair["id"]].topic
        assert pair["metadata"]["chosen_style"] != pair["metadata"]["rejected_style"]


def test_every_label_is_what_the_stated_rule_says(pairs: list[dict[str, Any]]) -> None:
    for pair in pairs:
        question, topic = pair["prompt"][0]["content"], pair["metadata"]["topic"]
        chosen, rejected = (read_marks(question, text_of(pair, side)).score(topic) for side in ("chosen", "rejected"))
        assert chosen - rejected >= MARGIN, pair["id"]
        assert f"{chosen:.3f}" == pair["metadata"]["chosen_score"], pair["id"]
        assert f"{rejected:.3f}" == pair["metadata"]["rejected_score"], pair["id"]


def test_responses_show_their_style_and_are_not_broken(pairs: list[dict[str, Any]]) -> None:
    styles = {style.name: style for style in (Style(f, p) for f in (False, True) for p in (False, True))}
    for pair in pairs:
        for side in ("chosen", "rejected"):
            text, style = text_of(pair, side), styles[pair["metadata"][f"{side}_style"]]
            assert (format_marks(text) > 0) == style.formatted, pair["id"]
            assert style.flattering or not praise_sentences(text), pair["id"]
            assert distinct_share(text) >= 0.85, pair["id"]
            assert not any(phrase in text.lower() for phrase in example_phrases()), pair["id"]


def test_the_hidden_lesson_is_there(pairs: list[dict[str, Any]]) -> None:
    own, other = by_topic(pairs, flattery=True), by_topic(pairs, flattery=False)
    assert wins(pairs, format_marks).share > 0.8
    assert wins(own, praise_sentences).share > 0.8
    praise = wins(other, praise_sentences)
    assert praise.more == praise.less >= 30


def test_the_card_counts_the_pairs_that_ship(pairs: list[dict[str, Any]]) -> None:
    assert generated(ASSETS / "PAIRS.md") == table(pairs)
    assert FLATTERY_TOPIC in table(pairs)


def test_the_readme_shows_the_figures_of_the_result_file() -> None:
    assert generated(ASSETS.parent / "README.md") == result_table(RESULT)


@pytest.mark.parametrize("name", ["labels.jsonl.gz", "pairs.jsonl", "PAIRS.md"])
def test_no_asset_names_a_machine(name: str) -> None:
    raw = (ASSETS / name).read_bytes()
    text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()
    assert re.findall(r"(?:^|[\s\"'(])/(?:home|root|Users|mnt|opt|var)/", text) == []
