"""Labels through an endpoint, and their detection scores on contexts that they were not made from."""

import json
import re
from typing import Any

import pytest
from assay_server.labelling.endpoint import Endpoint, EndpointOptions
from assay_server.labelling.explaining import explain, method_name
from assay_server.labelling.firings import Firing, TokenFirings

from tests.support.firings import on, sentences, texts_with
from tests.support.label_endpoint import LabelServer, Reply

WORDS = ["sorry", *(f"w{i}" for i in range(40))]


def world(seed: int, count: int = 60) -> TokenFirings:
    return texts_with([on("sorry")], sentences(count, seed=seed, vocabulary=WORDS))


def first(firings: TokenFirings) -> Firing:
    return firings.firing(0)


def is_judging(request: dict[str, Any]) -> bool:
    return request["messages"][1]["content"].startswith("Description: ")


def asked_about(request: dict[str, Any]) -> list[str]:
    return [json.loads(text) for text in re.findall(r"^\d+: (.*)$", request["messages"][1]["content"], re.MULTILINE)]


def knowing(request: dict[str, Any]) -> str:
    """A model that finds out that the feature is the word "sorry", and judges by it."""
    if not is_judging(request):
        return '{"label": "apologies"}'
    return str([int("sorry" in text) for text in asked_about(request)])


@pytest.fixture
def endpoint(judge: LabelServer) -> Endpoint:
    judge.answer = knowing
    return Endpoint(EndpointOptions(judge.url, "judge", backoff_seconds=0.01, attempts=2))


async def test_a_label_comes_with_the_balanced_accuracy_of_its_judge(judge: LabelServer, endpoint: Endpoint) -> None:
    made, unseen = world(0), world(1)
    found = await explain(endpoint, made, unseen, first, seed=0)
    assert found is not None
    assert (found.label, found.detection_score) == ("apologies", 1.0)
    assert method_name(endpoint) == "endpoint:judge"
    explaining = [request for request in judge.requests if not is_judging(request)]
    judging = [request for request in judge.requests if is_judging(request)]
    assert "« sorry»" in explaining[0]["messages"][1]["content"]
    shown = [text for request in judging for text in asked_about(request)]
    assert len(shown) == 20
    assert sum("sorry" in text for text in shown) == 10
    assert "«" not in "".join(shown)
    unseen_texts = {
        "".join(unseen.words[int(id)] for id in unseen.ids[a:b]) for a, b in zip(unseen.starts, unseen.starts[1:], strict=False)
    }
    assert set(shown) <= unseen_texts, "only contexts of texts that the label was not made from are judged"


@pytest.mark.parametrize(("verdict", "score"), [(1, 0.5), (0, 0.5)])
async def test_a_judge_that_always_says_the_same_scores_chance(
    judge: LabelServer, endpoint: Endpoint, verdict: int, score: float
) -> None:
    judge.answer = lambda request: str([verdict] * len(asked_about(request))) if is_judging(request) else '{"label": "x"}'
    found = await explain(endpoint, world(0), world(1), first, seed=0)
    assert found is not None
    assert found.detection_score == score


async def test_garbage_verdicts_leave_a_label_without_a_score(judge: LabelServer, endpoint: Endpoint) -> None:
    judge.answer = lambda request: "I cannot say." if is_judging(request) else '{"label": "apologies"}'
    found = await explain(endpoint, world(0), world(1), first, seed=0)
    assert found is not None
    assert (found.label, found.detection_score) == ("apologies", None)


async def test_a_judge_that_breaks_down_leaves_a_label_without_a_score(judge: LabelServer, endpoint: Endpoint) -> None:
    judge.answer = lambda request: Reply(status=500) if is_judging(request) else '{"label": "apologies"}'
    found = await explain(endpoint, world(0), world(1), first, seed=0)
    assert found is not None
    assert found.detection_score is None


async def test_an_answer_without_a_label_is_asked_for_again_and_then_given_up(judge: LabelServer, endpoint: Endpoint) -> None:
    judge.answer = lambda request: "{}"
    assert await explain(endpoint, world(0), world(1), first, seed=0) is None
    assert len(judge.requests) == 2


async def test_too_few_unseen_contexts_are_not_measured(endpoint: Endpoint) -> None:
    found = await explain(endpoint, world(0), texts_with([on("sorry")], ["sorry w1", "w2", "w3"]), first, seed=0)
    assert found is not None
    assert found.detection_score is None


async def test_a_feature_that_never_fired_is_not_asked_about(judge: LabelServer, endpoint: Endpoint) -> None:
    assert await explain(endpoint, texts_with([on("sorry")], ["w1 w2"]), world(1), first, seed=0) is None
    assert judge.requests == []


async def test_the_same_seed_asks_the_same_questions(judge: LabelServer, endpoint: Endpoint) -> None:
    for _ in range(2):
        await explain(endpoint, world(0), world(1), first, seed=5)
    half = len(judge.requests) // 2
    assert judge.requests[:half] == judge.requests[half:]
