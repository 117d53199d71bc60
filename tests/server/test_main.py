"""The server as a process: a real model and SAE, real signals, a real client."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from assay.v1 import model_pb2, model_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from assay_server.main import main
from assay_server.rpc.server import SERVICES
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.chat_tokenizers import CORPUS
from tests.support.models import save_family
from tests.support.processes import started
from tests.support.saes import build_sae, save_sae
from tests.support.waiting import PATIENCE, in_time, wait_until
from tests.support.wire import pair


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small model and an SAE on disk, as an operator's would be."""
    folder = tmp_path_factory.mktemp("parts")
    model, sae = save_family("qwen2", folder / "model"), save_sae(build_sae("topk"), folder / "sae")
    (sae / "labels.jsonl").write_text('{"id": 3, "label": "tested"}\n')
    return model, sae


Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(parts: tuple[Path, Path], tmp_path: Path) -> Iterator[Launch]:
    """Starts ``assay serve``; whatever still runs after the test is killed."""
    with ExitStack() as running:

        def start(*argv: str, model: str = str(parts[0]), sae: str = str(parts[1])) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "assay_server.main", "--model", model, "--sae", sae, "--port", "0"]
            command += ["--metrics-port", "-1", "--ready-file", str(tmp_path / "ready.json"), "--device", "cpu", *argv]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            process = started(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            return running.enter_context(process)

        yield start


def ready(process: subprocess.Popen[str], path: Path) -> dict[str, Any]:
    """What the ready file says, once it is there."""
    wait_until(lambda: path.exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return json.loads(path.read_text())


@pytest.mark.slow
def test_a_server_loads_serves_and_stops_cleanly(launch: Launch, tmp_path: Path) -> None:
    process = launch("--overrides", "VARIANCE", "--log-format", "json")
    told = ready(process, tmp_path / "ready.json")
    assert told["pid"] == process.pid
    with grpc.insecure_channel(f"127.0.0.1:{told['port']}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", *SERVICES):
            status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        models: Any = model_pb2_grpc.ModelServiceStub(channel)
        model = models.GetModel(model_pb2.GetModelRequest()).model
        assert (model.model_architecture, model.sae_architecture, model.labelled_features) == ("Qwen2ForCausalLM", "topk", 1)
        assert list(model.overrides)
        check_scores(scoring_pb2_grpc.ScoringServiceStub(channel), model)
    with urllib.request.urlopen(f"http://127.0.0.1:{told['metrics_port']}/metrics", timeout=PATIENCE) as response:
        metrics = response.read().decode()
    assert 'assay_requests_total{code="OK",method="ScorePairs"} 2.0' in metrics
    assert 'assay_cache_hits_total{backend="memory"} 12.0' in metrics
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert out.startswith(f"ready 127.0.0.1:{told['port']} after ")
    assert "explained variance" in out
    events = [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")]
    assert events[0].startswith("datasets and audits go with this server")  # no --data-dir was given
    assert events[1:3] == ["bound", "loading"]
    assert events[-2:] == ["draining", "stopped"]
    assert CORPUS[0][:20] not in err


def check_scores(scoring: Any, model: model_pb2.Model) -> None:
    """Cold, cached, streamed and single answers agree bit for bit, and hold what they promise."""
    pairs = [pair(n, chosen=CORPUS[n], rejected=CORPUS[n + 1]) for n in range(6)]
    direction = np.linspace(-1, 1, model.d_in).astype("<f4")
    concepts: list[dict[str, Any]] = [
        {"name": "f", "feature": 3},
        {"name": "d", "direction": {"dtype": "DTYPE_FLOAT32", "shape": [model.d_in], "data": direction.tobytes()}},
    ]
    options: dict[str, Any] = {"top_k": 8, "include_features": True, "include_mean_residual": True, "concepts": concepts}
    request = scoring_pb2.ScorePairsRequest(pairs=pairs, options=options)
    cold, cached = scoring.ScorePairs(request), scoring.ScorePairs(request)
    opening = scoring_pb2.StreamPairsRequest(options={"score": options})
    batch = scoring_pb2.StreamPairsRequest(batch={"sequence": 0, "pairs": pairs})
    (streamed,) = scoring.StreamPairs(iter([opening, batch]))
    single = scoring.ScoreResponses(
        scoring_pb2.ScoreResponsesRequest(
            responses=[{"id": p.id, "conversation": p.conversation, "response": p.chosen} for p in pairs], options=options
        )
    )
    states = [{result.score.timings.cache_state for result in answer.results} for answer in (cold, cached, streamed)]
    assert states == [{scoring_pb2.CACHE_STATE_MISS}, {scoring_pb2.CACHE_STATE_HIT}, {scoring_pb2.CACHE_STATE_HIT}]
    for answer in (cold, cached, streamed):
        for result in answer.results:
            assert len(result.score.by_max.features) == 8
            assert len(result.score.chosen_features.mean_residual.data) == 4 * model.d_in
            result.score.ClearField("timings")
    assert list(cold.results) == list(cached.results) == list(streamed.results)
    for one, result in zip(single.results, cold.results, strict=True):
        assert one.score.tokens.chosen == result.score.tokens.chosen
        assert np.allclose(one.score.concepts[1].chosen, result.score.concepts[1].chosen, rtol=1e-4)
    tokens = scoring.EncodeTokens(scoring_pb2.EncodeTokensRequest(text=CORPUS[0], features=range(16)))
    assert "".join(CORPUS[0][token.start : token.end] for token in tokens.tokens) == CORPUS[0]


@pytest.mark.slow
def test_health_is_answered_while_the_subject_loads_and_a_signal_ends_the_load(launch: Launch, tmp_path: Path) -> None:
    process = launch("--overrides", "VARIANCE")
    assert process.stderr is not None
    assert "--data-dir" in process.stderr.readline()
    bound = process.stderr.readline()
    assert "bound" in bound
    port = int(bound.split("address=127.0.0.1:")[1].split()[0])

    async def look() -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE, wait_for_ready=True)).status

    assert asyncio.run(look()) == health_pb2.HealthCheckResponse.NOT_SERVING
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert in_time(time.monotonic() - began, 15)
    assert not (tmp_path / "ready.json").exists()


@pytest.mark.slow
def test_a_subject_that_does_not_fit_is_refused_with_its_message(launch: Launch) -> None:
    process = launch()  # a random SAE explains nothing
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert out == ""
    assert "explains" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_model_that_cannot_be_built_is_refused_with_what_loading_it_said(
    launch: Launch, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(parts[0], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "sine of the times"}))
    process = launch("--log-format", "json", model=str(folder))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert json.loads(err.splitlines()[-1])["reason"] == "LOAD_FAILED"


@pytest.mark.serial
@pytest.mark.parametrize(
    ("argv", "words"),
    [(("--port", "x"), "whole number"), (("--host", "0.0.0.0"), "other machines"), (("--sae", ""), "sae is not set")],
)
def test_a_bad_configuration_ends_at_once(argv: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert main(["--model", "m", "--sae", "s", *argv]) == 2
    assert in_time(time.monotonic() - began, 1.0)
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_the_configuration_is_judged_before_anything_heavy_is_imported() -> None:
    code = "import sys; from assay_server.main import main; main([]); print('torch' in sys.modules, 'grpc' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ended.stdout.split() == ["False", "False"]
    assert "model is not set" in ended.stderr
