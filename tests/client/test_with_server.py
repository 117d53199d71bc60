"""Both clients against the project's own server (around a scripted scorer): the two sides agree on the contract.

The engine behind it has its end-to-end tests elsewhere; this is about what travels.
"""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from assay import AsyncClient, Client, Flow, InvalidRequest, Pair, ScoreOptions, chat

pytest.importorskip("assay_server.rpc.server", reason="the server's packages are not installed")

from assay.hypotheses import ConceptRef
from assay_server.audit.families import family_of
from assay_server.config import ServerConfig
from assay_server.labelling.labels import FeatureLabel, Labels
from assay_server.rpc.server import AssayServer
from assay_server.telemetry.metrics import Metrics

from tests.client.conftest import pairs
from tests.support.fake_scorer import D_SAE, FakeScorer


@dataclass
class Running:
    """A server in a thread of its own."""

    address: str
    scorer: FakeScorer


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    async def begin() -> tuple[AssayServer, FakeScorer]:
        server = AssayServer(ServerConfig(port=0, drain_seconds=1.0), Metrics())
        await server.start()
        scorer = FakeScorer()
        await server.open(scorer, Labels(D_SAE, {7: FeatureLabel(7, label="warmth", detection_score=0.75)}))
        return server, scorer

    server, scorer = do(begin())
    yield Running(f"127.0.0.1:{server.port}", scorer)
    do(server.drain())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def stable(results: list[Any]) -> list[Any]:
    return [(r.index, r.id, r.error, r.score and (r.score.tokens, r.score.by_max, r.score.by_freq)) for r in results]


def test_stream_call_sync_and_async_give_the_same_numbers(running: Running) -> None:
    given = pairs(300)
    given[100] = Pair(chat("What?"), "", "x", id="empty")
    given[200] = Pair((), "a", "b", id="no prompt")
    with Client(running.address) as client:
        streamed = list(client.score(given))
        unary = [result for at in range(0, 300, 50) for result in client.score_pairs(given[at : at + 50])]
        again = list(client.score(given, ScoreOptions(top_k=3)))

    async def go() -> list[Any]:
        async with AsyncClient(running.address, flow=Flow(pairs_per_message=7)) as client:
            return [result async for result in client.score(given)]

    assert [result.ok for result in streamed].count(False) == 2
    assert streamed[100].error is not None
    assert streamed[200].error is not None
    assert stable(asyncio.run(go())) == stable(streamed)
    assert [score[3] for score in stable(unary)] == [score[3] for score in stable(streamed)]
    for few, many in zip(again, streamed, strict=True):
        if few.score is not None and many.score is not None:
            assert few.score.by_max.features == many.score.by_max.features[:3]


def test_bad_options_are_refused_with_the_servers_own_words(running: Running) -> None:
    async def go() -> None:
        async with AsyncClient(running.address) as client:
            async for _ in client.score(pairs(2000), ScoreOptions(top_k=10**6)):
                pass

    with pytest.raises(InvalidRequest) as in_async:
        asyncio.run(go())
    with Client(running.address) as client, pytest.raises(InvalidRequest) as in_sync:
        list(client.score(pairs(2000), ScoreOptions(top_k=10**6)))
    assert in_async.value.reason == in_sync.value.reason != ""
    assert in_sync.value.violations


def test_the_model_its_limits_and_its_labels_arrive(running: Running) -> None:
    with Client(running.address) as client:
        model = client.wait_until_ready(10)
        assert (model.d_sae, model.hook) == (D_SAE, "blocks.1.hook_resid_post")
        assert model.limits.max_pairs_per_message > 0
        assert client.features([7])[7].label == "warmth"
        assert [feature.id for feature in client.list_features("warm")] == [7]


def test_every_feature_and_mean_residual_travels_when_asked_for(running: Running) -> None:
    options = ScoreOptions(include_features=True, include_prompt=True, include_mean_residual=True)
    with Client(running.address) as client:
        score = client.score_pairs(pairs(1), options)[0].unwrap()
        model = client.model()
    for pooled in (score.chosen_features, score.rejected_features, score.prompt_features):
        assert pooled is not None
        assert pooled.mean_residual is not None
        assert pooled.mean_residual.shape == (model.d_in,)
        assert len(pooled) == len(pooled.max) == len(pooled.freq) > 0
        assert all(0 < share <= 1 for share in pooled.freq)


@pytest.mark.parametrize("name", ["feature/17", "feature/17@max", "cluster/3", "concepts/x", "text/bold", "word/a", "source/m"])
def test_a_family_is_told_by_the_name_as_the_server_tells_it(name: str) -> None:
    assert ConceptRef(name, "", "", None, (), 1).family == family_of(name).title
