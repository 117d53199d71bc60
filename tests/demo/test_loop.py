"""The loop at small size, whole: a real server, two real trainings, real rollouts, the page. And its parts, one by one."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import assay
import pytest
from assay.v1 import audit_pb2

from demo.loop import steps
from demo.loop.__main__ import main
from demo.loop.report import ARMS, Comparison, Finding, Story, render
from demo.loop.run import _asked
from demo.loop.serving import LoopFailed
from demo.loop.steps import Rate, as_pairs, rate, split
from tests.support.models import save_family
from tests.support.saes import build_sae, save_sae


class Words:
    """One token a word; a template that adds nothing but the turns."""

    def apply_chat_template(self, turns: list[dict[str, str]], **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [hash(word) for turn in turns for word in turn["content"].split()]}


def pairs(count: int, prompts: int | None = None) -> list[assay.Pair]:
    """Pairs whose chosen response is longer the later it comes, over so many prompts."""
    return [
        assay.Pair(
            (assay.Message("user", f"question {at % (prompts or count)}"),), f"yes {'so ' * (at % 7)}{at}", f"no {at}", id=str(at)
        )
        for at in range(count)
    ]


def test_the_whole_loop_runs_and_its_page_says_what_came_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, sae = save_family("qwen2", tmp_path / "model"), save_sae(build_sae("topk"), tmp_path / "sae")
    data = tmp_path / "pairs.jsonl"
    with data.open("w") as file:
        for at in range(48):
            prompt = [{"role": "user", "content": f"Tell me {at}."}]
            chosen, rejected = f"**Yes**\n- {at}" + " or so" * (at % 4), f"No, not {at}" + " at all" * (at % 3)
            sides = {
                name: [{"role": "assistant", "content": text}] for name, text in (("chosen", chosen), ("rejected", rejected))
            }
            file.write(json.dumps({"prompt": prompt, **sides}) + "\n")
    page = tmp_path / "loop.html"
    words = ["--pairs", str(data), "--out", str(page), "--model", str(model), "--sae", str(sae), "--dtype", "float32"]
    words += ["--train", "24", "--held-out", "6", "--prompts", "8", "--tokens", "8", "--batch", "8", "--threads", "1"]
    assert main([*words, "--serve", "--overrides VARIANCE --device cpu"]) == 0, capsys.readouterr().err
    said, text = capsys.readouterr().out, page.read_text()
    assert "24 pairs to audit and train on" in said
    assert "decided: explain away" in said
    for part in ("What the data teaches", "explain away", *ARMS, "Predicted and observed shifts", "<svg", "Positive control"):
        assert part in text, part
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", text), "the page asks for something from outside"


def test_a_file_that_is_not_there_is_named_and_nothing_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--pairs", "no/such/file.jsonl"]) == 1
    assert "no/such/file.jsonl is not there" in capsys.readouterr().err


def test_no_prompt_of_a_training_pair_is_held_out_or_rolled_out_on() -> None:
    cut = split(pairs(240, prompts=120), Words(), train=40, held_out=8, prompts=10, longest=50)
    asked = {pair.prompt for pair in cut.train}
    assert len(cut.train) == 40
    assert len(cut.held_out) == 8
    assert not asked & {pair.prompt for pair in cut.held_out}
    assert cut.prompts
    assert not asked & set(cut.prompts)
    assert not set(cut.prompts) & {pair.prompt for pair in cut.held_out}


def test_pairs_to_train_on_are_the_shortest_in_the_files_order() -> None:
    cut = split(pairs(200), Words(), train=50, held_out=8, prompts=10, longest=50)
    assert [int(pair.id) for pair in cut.train] == sorted(int(pair.id) for pair in cut.train)
    assert max(int(pair.id) % 7 for pair in cut.train) < 6


def test_too_few_pairs_are_refused_with_their_numbers() -> None:
    with pytest.raises(LoopFailed, match="of 10 usable pairs 10 have at most 50 tokens"):
        split(pairs(10), Words(), train=40, held_out=8, prompts=10, longest=50)


def test_a_person_is_asked_until_the_choice_is_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter(["what?\n", "9 e\n", "2 a\n"])
    monkeypatch.setattr("sys.stdin", argparse.Namespace(readline=lambda: next(answers)))
    assert _asked(["first", "second"]) == ("second", assay.DecisionMode.AMPLIFY)  # type: ignore[list-item, comparison-overlap]
    assert capsys.readouterr().out.count("is no such choice") == 2


def test_an_input_that_ends_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", argparse.Namespace(readline=lambda: ""))
    with pytest.raises(LoopFailed, match="nothing was decided"):
        _asked(["first"])  # type: ignore[list-item]


def test_rates_have_intervals_that_narrow_with_more_prompts() -> None:
    few, many = rate([0.0, 1.0] * 10, 0), rate([0.0, 1.0] * 1000, 0)
    assert few.value == many.value == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high


def test_prompts_answered_with_nothing_are_no_rollouts() -> None:
    prompts = [(assay.Message("user", text),) for text in ("a", "b", "c")]
    assert [pair.id for pair in as_pairs(prompts, ["x", " ", "y"], ["z", "z", ""])] == ["rollout-0"]


def test_text_traits_know_formatting_from_plain_text() -> None:
    shows = steps.TRAITS["formatting (bold, lists, headings)"]
    assert shows("**Bold** words")
    assert shows("- a list")
    assert not shows("2 * 3 * 4 is 24")


def test_hostile_texts_stay_text_on_the_page() -> None:
    hostile = "<script>alert(1)</script>"
    one = {arm: Rate(0.5, 0.25, 0.75) for arm in ARMS}
    story = Story(
        title=hostile,
        about=[(hostile, hostile)],
        lede=[hostile],
        findings=[Finding(hostile, hostile, 0.5, 0.01, hostile)],
        plan=[(hostile, hostile)],
        warnings=[hostile],
        rates=[(hostile, one)],
        training=[[hostile], [hostile]],
        comparisons=[Comparison(hostile, [hostile], [(hostile, hostile)])],
        cost=[(hostile, hostile)],
    )
    page = render(story)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 10


class Listing:
    """A client that lists hypotheses, and remembers what it was asked for."""

    def __init__(self, found: list[assay.Hypothesis]) -> None:
        self.found, self.asked = found, ""

    def hypotheses(self, audit: Any, wanted: str, order: str) -> list[assay.Hypothesis]:
        self.asked = wanted
        return self.found


def finding(features: list[int], *, lesson: int, estimate: float = 0.5) -> assay.Hypothesis:
    message = audit_pb2.Hypothesis(name="audits/a/hypotheses/global-1", view=audit_pb2.VIEW_GLOBAL, lesson=lesson)
    message.concept.features.extend(features)
    message.raw.estimate = estimate
    return assay.Hypothesis.from_proto(message)


@pytest.mark.parametrize(("estimate", "way"), [(0.5, ">"), (-0.5, "<")])
def test_a_lesson_is_the_features_of_all_its_findings_that_point_the_same_way(estimate: float, way: str) -> None:
    client: Any = Listing([finding([3], lesson=2), finding([9, 4], lesson=2)])
    target = finding([4], lesson=2, estimate=estimate)
    assert steps.lesson_features(client, None, target) == [3, 4, 9]  # type: ignore[arg-type]
    assert client.asked == f'view = "global" AND lesson = 2 AND effect {way} 0'


def test_a_finding_of_no_lesson_stands_for_itself() -> None:
    client: Any = Listing([finding([3], lesson=2)])
    assert steps.lesson_features(client, None, finding([4], lesson=0)) == [4]  # type: ignore[arg-type]
    assert client.asked == ""
