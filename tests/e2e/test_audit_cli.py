"""``assay audit``, ``test``, ``decide`` and their clients in Python and Node, on the real server with a small real model."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from assay import (
    AsyncClient,
    AuditOptions,
    AuditState,
    Client,
    Dataset,
    DecisionMode,
    Hypothesis,
    InvalidRequest,
    Pair,
    View,
    chat,
)

from tests.e2e.conftest import Serve
from tests.support.processes import started
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE, wait_until

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
COUNT = 120
SMALL = AuditOptions(views=[View.GLOBAL], max_t_flips=64, seed=3)


def given(count: int = COUNT, *, salt: str = "") -> list[Pair]:
    """Pairs whose chosen response says one thing more, on prompts of two topics."""
    draw = random.Random(f"audit{salt}")
    words = [f"w{draw.randrange(1000)}{salt}" for _ in range(80)]
    pairs: list[Pair] = []
    for i in range(count):
        text = [" ".join(draw.choices(words, k=draw.randint(5, 12))) for _ in range(3)]
        topic = "tea" if i % 3 else "rain"
        chosen = f"{text[1]} lovely lovely" if i % 10 else text[1]
        pairs.append(Pair(chat(f"{topic}? {text[0]}"), chosen, text[2], id=f"p{i}", metadata={"topic": topic}))
    return pairs


def write(path: Path, pairs: list[Pair]) -> Path:
    """The pairs as a file in TRL's format."""
    rows: list[str] = []
    for one in pairs:
        assert not isinstance(one.prompt, str)
        prompt = [{"role": message.role, "content": message.content} for message in one.prompt]
        row = {"id": one.id, "prompt": prompt, "chosen": one.chosen, "rejected": one.rejected}
        rows.append(json.dumps(row | {"metadata": dict(one.metadata)}))
    path.write_text("\n".join(rows) + "\n")
    return path


def command(server: ServerProcess, *words: object) -> list[str]:
    return [sys.executable, "-m", "assay", *map(str, words), "--address", server.address]


def assay(server: ServerProcess, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(server, *words), capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=PATIENCE)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def dataset(server: ServerProcess) -> Dataset:
    with Client(server.address) as client:
        return client.upload_pairs(given())


def statistics(found: list[Hypothesis]) -> Any:
    return [(one.concept.name, one.raw, one.controlled, one.rank) for one in found]


@pytest.mark.slow
def test_from_a_file_to_findings_a_report_a_decision_and_a_test(server: ServerProcess, tmp_path: Path, dataset: Dataset) -> None:
    file, report, parquet = write(tmp_path / "mine.jsonl", given()), tmp_path / "report.html", tmp_path / "all.parquet"
    flags = ["--metadata", "topic", "--max-t-flips", 64, "--controls", "--control-pairs", 100]
    done = assay(server, "audit", file, "--report", report, "--parquet", parquet, *flags)
    assert dataset.name in done.stderr, "the same pairs, uploaded another way, are the same dataset"
    for expected in ("global view", "feature-conditioned view", "prompt-conditioned view", "once length is controlled for"):
        assert expected in done.stdout
    page = report.read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "Against a random dictionary that was never trained" in page
    assert pq.read_table(parquet).num_rows > 0

    again = assay(server, "audit", file, "--json", "--quiet", *flags)
    told = json.loads(again.stdout)
    audit = told["audit"]["name"]
    assert told["audit"]["state"] == "done"
    explained = told["audit"]["explained"]
    assert explained["pairs"] == told["audit"]["options"]["control_pairs"] == 100
    assert [one["name"] for one in explained["blocks"]][-4::2] == ["dense", "random dictionary"]
    assert len(explained["over_random"]) == 3
    first = told["findings"]["global"][0]
    with Client(server.address) as client:
        strongest = client.hypothesis(first["name"])
        listed = client.hypotheses(audit, 'view = "global" AND finding = true')
        of_feature = next(one for one in listed if one.concept.name.removeprefix("feature/").isdigit())
        lit = client.hypothesis(of_feature, highlights=True)
    assert strongest.raw.estimate == first["raw"]["estimate"]
    assert strongest.supporting, "what is found is shown"
    assert any(one.chosen or one.rejected for one in lit.supporting), "where it fires is highlighted"

    identifier = first["name"].rpartition("/")[2]
    said = assay(server, "decide", audit, identifier, "explain-away", "--strength", 0.5, "--note", "not meant").stdout
    assert said == f"{first['name']}: explain-away 0.5\n"
    assert "not meant" in assay(server, "decisions", audit).stdout
    assert "decided     explain-away 0.5" in assay(server, "audits", "show", audit, "--hypothesis", identifier).stdout

    concept = first["concept"]["name"]
    stated = json.loads(assay(server, "test", dataset.name, "--concept", concept, "--json", "--quiet").stdout)["hypothesis"]
    assert stated["raw"]["estimate"] == pytest.approx(first["raw"]["estimate"], abs=1e-12)
    there = assay(server, "test", file, "--concept", concept, "--where", "topic=tea").stdout
    assert "80 pairs inside, 40 outside" in there


@pytest.mark.slow
def test_a_concept_is_made_of_examples_and_tested(server: ServerProcess, dataset: Dataset, tmp_path: Path) -> None:
    examples = tmp_path / "lovely.jsonl"
    rows = [{"text": f"{one.chosen if shows else one.rejected}", "label": int(shows)} for one in given(40) for shows in (1, 0)]
    examples.write_text("\n".join(map(json.dumps, rows)))
    said = assay(server, "test", dataset.name, "--concept", examples).stdout
    assert "held out    AUROC" in said
    assert "answer" in said
    assay(server, "test", dataset.name, "--concept", examples)
    listed = assay(server, "concepts").stdout
    assert listed.count("lovely-") == 1, "equal examples are one concept"
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(map(json.dumps, rows[:4])))
    refused = assay(server, "test", dataset.name, "--concept", few, code=2)
    assert "TOO_FEW_EXAMPLES" in refused.stderr


@pytest.mark.slow
def test_sync_async_and_node_give_the_same_findings(
    server: ServerProcess, dataset: Dataset, typescript: Path, tmp_path: Path
) -> None:
    with Client(server.address) as client:
        audit = client.audit(dataset, SMALL).wait()
        sync = list(client.hypotheses(audit, page_size=50))
        assert audit.state is AuditState.DONE
        assert [one.name for one in client.audits(dataset) if one.name == audit.name]

    async def through_async() -> tuple[str, list[Hypothesis], Path]:
        async with AsyncClient(server.address) as client:
            again = await client.upload_pairs(iter(given()), request_id="through-async")
            assert again.name == dataset.name
            made = await (await client.audit(again, SMALL)).wait(timeout=PATIENCE)
            found = [one async for one in client.hypotheses(made)]
            await client.decide(found[0], DecisionMode.KEEP, author="me")
            assert [one.author async for one in client.decisions(made)] == ["me"]
            return made.result_fingerprint, found, await client.export_audit(made, tmp_path / "async.parquet")

    fingerprint, found, exported = asyncio.run(through_async())
    assert fingerprint == audit.result_fingerprint
    assert statistics(found) == statistics(sync)
    assert pq.read_table(exported).num_rows >= len(sync)

    report = tmp_path / "node.html"
    words = ["node", "dist/examples/audit.js", write(tmp_path / "mine.jsonl", given()), "--address", server.address]
    words += ["--seed", "3", "--report", report, "--decide", "keep"]
    done = subprocess.run(list(map(str, words)), cwd=typescript, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{dataset.name}: {COUNT} pairs" in done.stderr
    assert "recorded audits/" in done.stderr
    assert report.stat().st_size > 10_000
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    findings = [one for one in sync if one.finding]
    in_global = [one for one in printed if one["view"] == "VIEW_GLOBAL"]
    assert [one["concept"] for one in in_global] == [one.concept.name for one in findings]
    assert [one["raw"]["q"] for one in in_global] == [one.raw.q for one in findings]


@pytest.mark.slow
def test_metrics_tell_of_operations_and_of_what_is_kept(server: ServerProcess, dataset: Dataset) -> None:
    def told() -> tuple[float, ...]:
        done = server.metric("assay_finished_operations_total", kind="audit", outcome="done")
        scored = server.metric("assay_operation_phase_seconds_count", kind="audit", phase="scoring")
        return done, scored, server.metric("assay_audited_pairs_total"), server.metric("assay_audit_statistics_seconds_count")

    before = told()
    with Client(server.address) as client:
        client.audit(dataset, SMALL).wait()
    after = tuple(b + more for b, more in zip(before, (1, 1, COUNT, 1), strict=True))
    wait_until(lambda: told() == after, "the audit is counted")
    assert server.total("assay_running_operations") == server.total("assay_queued_operations") == 0
    assert 'assay_running_operations{kind="plan"}' in server.metrics()
    assert server.total("assay_store_bytes") > 0


def test_bad_questions_are_refused_with_the_field(server: ServerProcess, dataset: Dataset) -> None:
    with Client(server.address) as client:
        with pytest.raises(InvalidRequest) as caught:
            client.audit(dataset, AuditOptions(tau=2.0))
        assert "tau" in caught.value.violations[0].field
        with pytest.raises(InvalidRequest, match="not_a_key"):
            client.audit(dataset, AuditOptions(metadata_keys=["not_a_key"]))
    refused = assay(server, "audit", dataset.name, "--metadata", "not_a_key", code=2)
    assert "not_a_key" in refused.stderr


@pytest.mark.slow
def test_an_upload_and_an_audit_outlive_ctrl_c_and_a_killed_server(serve: Serve, tmp_path: Path) -> None:
    server = serve("--data-dir", str(tmp_path / "data"), "--shard-pairs", "64").start()
    file = write(tmp_path / "many.jsonl", given(400, salt="many"))
    words = ["audit", file, "--view", "global", "--max-t-flips", 64]
    interrupted = started(command(server, *words), stderr=subprocess.PIPE, env=ENVIRONMENT)
    with interrupted as stopped, Client(server.address) as client:
        wait_until(lambda: [one for one in client.operations() if not one.done], "an audit is under way")
        os.kill(stopped.pid, signal.SIGINT)
        _, err = stopped.communicate(timeout=PATIENCE)
        assert stopped.returncode == 130, err
        (operation,) = client.operations()
    if not operation.done:
        assert operation.name in err, "it is said how to end it"
    server.kill()
    patient = command(server, *words, "--wait", int(PATIENCE), "--json")
    with started(patient, stdout=subprocess.PIPE, env=ENVIRONMENT) as waiting:
        time.sleep(0.5)
        server.start()
        out, _ = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0
    told = json.loads(out)["audit"]
    with Client(server.address) as client:
        assert [one.name for one in client.operations()] == [operation.name], "the same audit was taken up"
        assert [one.pairs for one in client.datasets()] == [400]
        other = client.audit(told["dataset"], AuditOptions(views=[View.GLOBAL], max_t_flips=64), request_id="undisturbed").wait()
        assert other.result_fingerprint == told["result_fingerprint"]
