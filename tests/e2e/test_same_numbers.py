"""One set of pairs through every way into the server: each gives the same numbers, and they are the engine's own."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assay import AsyncClient, CacheMode, Client, Concept, Flow, Pair, PairResult, PromptedResponse, ScoreOptions
from assay.results import CacheState, pair_result
from assay.v1 import scoring_pb2
from assay_server.cache import LruCache
from assay_server.errors import AssayError
from assay_server.scorer import Scored, build_scorer
from assay_server.scorer import ScoreOptions as EngineOptions
from assay_server.subject.subject import load_subject
from assay_server.subject.types import Message as EngineMessage
from assay_server.subject.types import Pair as EnginePair
from assay_server.subject.types import SpanName
from google.protobuf import json_format
from google.rpc import code_pb2

from tests.e2e.pairs import LAST_DIGIT, agree, close, every_kind, same, stable, states
from tests.support.models import WIDTH
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE

PAIRS = every_kind()
BAD = {"empty": "EMPTY_SPAN", "order": "ROLE_ORDER", "too long": "CONTEXT_OVERFLOW"}
OPTIONS = ScoreOptions(
    include_features=True,
    include_prompt=True,
    include_mean_residual=True,
    concepts=[
        Concept.feature("one", 7),
        Concept.features("some", {3: 1.0, 11: -0.5, 200: 2.25}),
        Concept.direction("along", [(-1) ** n / (n + 1) for n in range(WIDTH)]),
    ],
)
PLAIN = ScoreOptions(include_features=True)


@pytest.fixture(scope="module")
def cold(server: ServerProcess) -> list[PairResult]:
    """What the server says of the pairs the first time."""
    with Client(server.address) as client:
        results = client.score_pairs(PAIRS, OPTIONS)
    assert set(states(results)) == {CacheState.MISS}
    return results


@pytest.fixture(scope="module")
def plain(server: ServerProcess) -> list[PairResult]:
    """The same without concepts, which all clients can ask for from their command line."""
    with Client(server.address) as client:
        return client.score_pairs(PAIRS, PLAIN)


def test_bad_pairs_fail_in_their_places_and_all_others_are_scored(cold: list[PairResult]) -> None:
    assert {result.id: result.error.reason for result in cold if result.error} == BAD
    assert [result.id for result in cold] == [pair.id for pair in PAIRS]
    agree(cold, cold)


def test_cached_unary_streamed_sync_and_async_results_are_equal_to_the_last_bit(
    server: ServerProcess, client: Client, cold: list[PairResult]
) -> None:
    cached = client.score_pairs(PAIRS, OPTIONS)
    assert set(states(cached)) == {CacheState.HIT}
    same(cached, cold)
    for size in (1, 3, 64):
        with Client(server.address, flow=Flow(pairs_per_message=size)) as other:
            streamed = list(other.score(PAIRS, OPTIONS))
        assert [result.index for result in streamed] == list(range(len(PAIRS)))
        same(streamed, cold)

    async def through_async() -> None:
        async with AsyncClient(server.address, flow=Flow(pairs_per_message=2)) as other:
            same(await other.score_pairs(PAIRS, OPTIONS), cold)
            same([result async for result in other.score(PAIRS, OPTIONS)], cold)

    asyncio.run(through_async())


@pytest.mark.parametrize("size", [1, 4, 64])
def test_read_again_in_other_batches_the_pairs_give_the_same_features(
    server: ServerProcess, cold: list[PairResult], size: int
) -> None:
    with Client(server.address, flow=Flow(pairs_per_message=size)) as client:
        again = list(client.score(PAIRS, ScoreOptions(include_features=True, cache_mode=CacheMode.BYPASS)))
    assert set(states(again)) == {CacheState.BYPASS}
    agree(again, cold)


def test_a_response_alone_has_the_features_that_it_has_in_a_pair(client: Client, cold: list[PairResult]) -> None:
    good = [(pair, result) for pair, result in zip(PAIRS, cold, strict=True) if result.ok]
    for side in ("chosen", "rejected"):
        asked = [PromptedResponse(pair.prompt, getattr(pair, side), id=pair.id) for pair, _ in good]
        alone = client.score_responses(asked, OPTIONS)
        for one, (_, result) in zip(alone, good, strict=True):
            score, whole = one.unwrap(), result.unwrap()
            pooled = getattr(whole, f"{side}_features")
            assert score.features is not None
            assert close(score.features, pooled), one.id
            expected = [getattr(concept, side) for concept in whole.concepts]
            assert np.allclose([concept.chosen for concept in score.concepts], expected, rtol=LAST_DIGIT, atol=1e-4), one.id


def test_the_typescript_client_in_a_node_process_gives_the_same_numbers(
    server: ServerProcess, plain: list[PairResult], typescript: Path, tmp_path: Path
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(_row(pair)) + "\n" for pair in PAIRS))
    command = ["node", "dist/examples/score.js", str(file), "--address", server.address]
    command += ["--as", "text", "--include-features", "--pairs-per-message", "3"]
    done = subprocess.run(command, cwd=typescript, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1, done.stderr  # some pairs failed
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["id"] for one in printed] == [pair.id for pair in PAIRS]
    for one, result in zip(printed, plain, strict=True):
        if result.error is not None:
            number = code_pb2.Code.Value(result.error.code)
            told = {"code": number, "reason": result.error.reason, "message": f"{result.error.code}: {result.error.message}"}
            assert one["error"] == {**told, "details": dict(result.error.details)}
            continue
        score = result.unwrap()
        counts = score.tokens
        assert one["tokens"] == {name: getattr(counts, name) for name in counts.__slots__}
        for name, ranking in (("by_max", score.by_max), ("by_freq", score.by_freq)):
            assert [tuple(row) for row in one[name]] == [(d.feature, d.chosen, d.rejected) for d in ranking]
        for name, pooled in (("chosen_features", score.chosen_features), ("rejected_features", score.rejected_features)):
            assert pooled is not None
            assert {key: tuple(values) for key, values in one[name].items()} == {
                "indices": pooled.indices,
                "max": pooled.max,
                "freq": pooled.freq,
            }


def test_buf_curl_through_reflection_gives_the_same_numbers(server: ServerProcess, cold: list[PairResult]) -> None:
    request = scoring_pb2.ScorePairsRequest(pairs=[pair.to_proto() for pair in PAIRS], options=OPTIONS.to_proto())
    url = f"http://{server.address}/assay.v1.ScoringService/ScorePairs"
    buf = str(Path(sys.executable).with_name("buf"))
    done = subprocess.run(
        [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", "@-", url],
        input=json_format.MessageToJson(request),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    response = json_format.Parse(done.stdout, scoring_pb2.ScorePairsResponse())
    same([pair_result(place, message) for place, message in enumerate(response.results)], cold)


async def test_the_numbers_are_those_of_the_engine_in_this_process(
    parts: tuple[Path, Path], cold: list[PairResult], one_thread: None
) -> None:
    subject = load_subject(*map(str, parts), overrides=("VARIANCE",), device="cpu")
    scorer = build_scorer(subject, LruCache(1 << 24))
    try:
        items = [_engine_pair(pair) for pair in PAIRS if pair.id not in BAD or pair.id == "too long"]
        direct: list[Scored | AssayError] = await scorer.score(items, EngineOptions())
    finally:
        await scorer.aclose()
    expected = {item.id: outcome for item, outcome in zip(items, direct, strict=True)}
    for result in cold:
        outcome = expected.get(result.id)
        if isinstance(outcome, AssayError):
            assert result.error is not None
            assert result.error.reason == outcome.reason
        elif outcome is not None:
            _assert_same_pooled(result, outcome)
    assert sum(isinstance(outcome, Scored) for outcome in direct) == len(PAIRS) - len(BAD)


def _assert_same_pooled(result: PairResult, expected: Scored) -> None:
    score = result.unwrap()
    pooled = expected.pooled
    assert (score.tokens.read, score.tokens.shared, score.tokens.prompt) == (pooled.read, pooled.shared, pooled.prompt_tokens)
    for span, got in ((SpanName.CHOSEN, score.chosen_features), (SpanName.REJECTED, score.rejected_features)):
        want = pooled.spans[span]
        assert got is not None
        assert got.indices == tuple(want.indices.tolist()), result.id
        assert np.allclose(got.max, want.max, rtol=LAST_DIGIT, atol=0), result.id
        assert np.array_equal(np.float32(got.freq), want.freq), result.id
        assert got.mean_residual is not None
        residual = np.frombuffer(got.mean_residual.data, dtype="<f4")
        assert np.allclose(residual, want.mean_residual, rtol=LAST_DIGIT, atol=1e-3), result.id


def test_results_hold_what_stable_leaves_in_place(cold: list[PairResult]) -> None:
    """The comparison above can fail: two different pairs are not the same."""
    good = [result for result in cold if result.ok]
    assert stable(good[0]) != stable(good[1])
    with pytest.raises(AssertionError):
        same([good[0]], [good[1]])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch with as many threads as the server has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _row(pair: Pair) -> dict[str, Any]:
    prompt = pair.prompt if isinstance(pair.prompt, str) else [{"role": m.role, "content": m.content} for m in pair.prompt]
    return {"id": pair.id, "prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}


def _engine_pair(pair: Pair) -> EnginePair:
    prompt = pair.prompt if isinstance(pair.prompt, str) else tuple(EngineMessage(m.role, m.content) for m in pair.prompt)
    return EnginePair(prompt, pair.chosen, pair.rejected, pair.id)
