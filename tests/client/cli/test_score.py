"""`assay score` as a process: its output, its exit codes, and that interrupting it at any time costs nothing."""

import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from assay.cli.table import UNSTABLE_COLUMNS, schema

from tests.client.support.server import ScriptedServer, features_of, rich_status
from tests.support.processes import started
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "client/python"), "OMP_NUM_THREADS": "1"}


def command(server: ScriptedServer, *args: object) -> list[str]:
    return [sys.executable, "-m", "assay", *map(str, args), "--address", server.address]


def assay(server: ScriptedServer, *args: object, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(server, *args), capture_output=True, text=True, check=False, env=ENVIRONMENT | env, timeout=PATIENCE
    )
    assert done.returncode == code, done.stderr
    return done


def write_rows(path: Path, count: int) -> Path:
    with path.open("w") as stream:
        for i in range(count):
            if i % 97 == 50:
                stream.write('{"prompt": "torn\n')
            chosen = "" if i % 101 == 60 else f"It is {2 * i}."
            row = {"id": f"r{i}", "prompt": f"What is {i} + {i}?", "chosen": chosen, "rejected": f"No idea {i}"}
            stream.write(json.dumps(row | {"topic": "sums", "score_chosen": i / 2}) + "\n")
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", 1500)


def stable(path: Path) -> Any:
    """What must not depend on how often a run was interrupted, row groups included."""
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
    return groups, file.schema_arrow.metadata, file.read().drop_columns(list(UNSTABLE_COLUMNS))


def test_each_row_of_the_input_is_a_row_of_the_output_in_order(server: ScriptedServer, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    done = assay(server, "score", rows, "--out", out, "--include-features", "--concept", "length=3", "--top-k", 4)
    table = pq.read_table(out)
    assert table.schema.remove_metadata().equals(schema())
    got = table.to_pylist()
    lines = rows.read_text().splitlines()
    assert [row["line"] for row in got] == list(range(1, len(lines) + 1))
    for row, line in zip(got, lines, strict=True):
        if row["error_reason"] == "INVALID_JSON":
            assert line == '{"prompt": "torn'
            assert row["id"] is None
            continue
        given = json.loads(line)
        assert row["id"] == given["id"]
        assert dict(row["metadata"]) == {"topic": "sums", "score_chosen": str(given["score_chosen"])}
        if not given["chosen"]:
            assert (row["error_reason"], row["tokens_read"], row["by_max"]) == ("EMPTY_SPAN", None, None)
            continue
        assert row["error_reason"] is None
        expected = features_of(given["chosen"] + given["rejected"], 4)
        assert [one["feature"] for one in row["by_max"]] == [feature for feature, _ in expected]
        assert len(row["chosen_features"]) == len(features_of(given["chosen"], 24))
        assert row["concepts"] == [{"name": "length", "chosen": len(given["chosen"]), "rejected": len(given["rejected"])}]
        assert row["tokens_chosen"] == len(given["chosen"])
    assert "EMPTY_SPAN 15" in done.stderr
    assert "INVALID_JSON 15" in done.stderr
    assert "1,485" in done.stderr
    assert "format trl, prompts read as chat" in done.stderr
    assert not (tmp_path / "scores.parquet.partial").exists()
    assert done.stdout == ""


def test_pandas_opens_the_output(server: ScriptedServer, rows: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    out = tmp_path / "scores.parquet"
    assay(server, "score", rows, "--out", out, "--limit", 20, "--quiet")
    frame = pandas.read_parquet(out)
    assert len(frame) == 20
    assert frame.by_freq[0][0]["chosen"] >= 0


def test_duckdb_opens_the_output(server: ScriptedServer, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    assay(server, "score", rows, "--out", out, "--limit", 20, "--quiet")
    query = f"SELECT count(*) FROM (SELECT unnest(by_freq) AS f FROM '{out}')"
    # In a process of its own: duckdb's extension complains at the exit of whatever imported it.
    code = f"import duckdb, os; print(duckdb.sql({query!r}).fetchall()[0][0], flush=True); os._exit(0)"
    counted = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert counted.stdout.split() == [str(20 * 16)]


def test_json_lines_say_the_same_as_parquet(server: ScriptedServer, rows: Path, tmp_path: Path) -> None:
    asked = ["--limit", 120, "--include-features", "--quiet"]
    assay(server, "score", rows, "--out", tmp_path / "s.parquet", *asked)
    assay(server, "score", rows, "--out", tmp_path / "s.jsonl", *asked)
    printed = assay(server, "score", rows, "--out", "-", *asked).stdout
    from_file = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert from_file == [json.loads(line) for line in printed.splitlines()]
    for row, plain in zip(pq.read_table(tmp_path / "s.parquet").to_pylist(), from_file, strict=True):
        assert {key: value for key, value in row.items() if value is not None and key != "metadata"} == {
            key: value for key, value in plain.items() if key != "metadata"
        }


@pytest.fixture
def undisturbed(server: ScriptedServer, rows: Path, tmp_path: Path) -> Any:
    out = tmp_path / "undisturbed.parquet"
    assay(server, "score", rows, "--out", out, "--quiet")
    return stable(out)


def start(server: ScriptedServer, *args: object) -> AbstractContextManager["subprocess.Popen[str]"]:
    return started(command(server, *args), stderr=subprocess.PIPE, env=ENVIRONMENT)


def test_a_run_that_is_killed_goes_on_after_its_last_part_and_ends_the_same(
    server: ScriptedServer, rows: Path, tmp_path: Path, undisturbed: Any
) -> None:
    out, folder = tmp_path / "scores.parquet", tmp_path / "scores.parquet.partial"
    server.manners.seconds_a_batch = 0.02
    scored = server.manners.answered
    for killed in range(2):
        with start(server, "score", rows, "--out", out):
            wait_until(lambda n=killed: len(list(folder.glob("part-*.parquet"))) > n)
        assert not out.exists()
    (folder / "part-000007.parquet.tmp").write_bytes(b"torn")  # what a crash in the middle of a part leaves
    server.manners.seconds_a_batch = 0.0
    done = assay(server, "score", rows, "--out", out)
    assert "going on after the 1,024 rows" in done.stderr
    assert stable(out) == undisturbed
    assert not folder.exists()
    assert server.manners.answered - scored < 2 * 1500 + 2 * 1024


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_every_answer_and_says_how_to_go_on(
    server: ScriptedServer, rows: Path, tmp_path: Path, undisturbed: Any, number: signal.Signals
) -> None:
    out = tmp_path / "scores.parquet"
    server.manners.seconds_a_batch = 0.02
    before = server.manners.answered
    with start(server, "score", rows, "--out", out) as process:
        wait_until(lambda: server.manners.answered - before > 300)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    kept = sum(pq.read_metadata(part).num_rows for part in tmp_path.glob("*.partial/part-*"))
    assert 256 <= kept < 1500
    server.manners.seconds_a_batch = 0.0
    assay(server, "score", rows, "--out", out)
    assert stable(out) == undisturbed


def test_a_lost_server_leaves_a_run_that_can_be_resumed(
    server: ScriptedServer, rows: Path, tmp_path: Path, undisturbed: Any
) -> None:
    out = tmp_path / "scores.parquet"
    server.manners.stream_ends.append((9, rich_status("INTERNAL", "the device broke", reason="ENGINE_FAILURE")))
    failed = assay(server, "score", rows, "--out", out, code=1)
    assert "the device broke" in failed.stderr
    assert "the same command goes on" in failed.stderr
    again = assay(server, "score", rows, "--out", out)
    assert "going on after" in again.stderr
    assert stable(out) == undisturbed


def test_going_on_with_other_input_options_or_model_is_refused_and_names_both(
    server: ScriptedServer, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    server.manners.stream_ends.append((9, rich_status("INTERNAL", "broke", reason="ENGINE_FAILURE")))
    assay(server, "score", rows, "--out", out, code=1)
    refused = assay(server, "score", rows, "--out", out, "--top-k", 5, code=2)
    assert '"top_k": null' in refused.stderr
    assert '"top_k": 5' in refused.stderr
    other = write_rows(tmp_path / "other.jsonl", 1400)
    assert "input was" in assay(server, "score", other, "--out", out, code=2).stderr
    server.manners.model_fingerprint = "e" * 64
    assert "model was" in assay(server, "score", rows, "--out", out, code=2).stderr
    assay(server, "score", rows, "--out", out, "--overwrite", "--quiet")
    assert pq.read_metadata(out).num_rows == len(rows.read_text().splitlines())


def test_a_finished_output_is_left_alone_and_another_ones_is_not_replaced(
    server: ScriptedServer, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    assay(server, "score", rows, "--out", out, "--quiet", "--limit", 30)
    written = out.stat().st_mtime_ns
    assert "complete" in assay(server, "score", rows, "--out", out, "--limit", 30).stderr
    assert "--overwrite" in assay(server, "score", rows, "--out", out, "--limit", 31, code=2).stderr
    assert out.stat().st_mtime_ns == written


def test_two_processes_do_not_write_one_output(server: ScriptedServer, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    server.manners.hold.set()
    with start(server, "score", rows, "--out", out) as process:
        wait_until((tmp_path / "scores.parquet.partial/manifest.json").exists)
        assert "another process" in assay(server, "score", rows, "--out", out, code=2).stderr
        assert "another process" in assay(server, "score", rows, "--out", out, "--overwrite", code=2).stderr
        assert process.poll() is None


@pytest.mark.parametrize(("line", "reason"), [(51, "INVALID_JSON"), (61, "EMPTY_SPAN")])
def test_strict_stops_at_the_first_failure_with_its_line(server: ScriptedServer, tmp_path: Path, line: int, reason: str) -> None:
    rows = write_rows(tmp_path / "strict.jsonl", 200)
    if reason == "EMPTY_SPAN":
        rows.write_text("\n".join(one for one in rows.read_text().splitlines() if "torn" not in one))
    stopped = assay(server, "score", rows, "--out", tmp_path / "s.parquet", "--strict", code=4)
    assert f"line {line}: " in stopped.stderr
    assert reason in stopped.stderr
    assay(server, "score", rows, "--out", tmp_path / "s.parquet", "--quiet")
    assert pq.read_metadata(tmp_path / "s.parquet").num_rows == len(rows.read_text().splitlines())


def test_text_is_read_raw_where_the_model_has_no_template_or_where_asked(
    server: ScriptedServer, rows: Path, tmp_path: Path
) -> None:
    asked = assay(server, "score", rows, "--out", tmp_path / "a.parquet", "--limit", 3, "--as", "text")
    assert "prompts read as raw text" in asked.stderr
    server.manners.template_fingerprint = ""
    alone = assay(server, "score", rows, "--out", tmp_path / "b.parquet", "--limit", 3)
    assert "prompts read as raw text" in alone.stderr


def test_a_file_without_one_pair_is_scored_to_errors_and_says_so(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("nonsense\n" * 700)
    done = assay(server, "score", tmp_path / "bad.jsonl", "--out", tmp_path / "s.parquet")
    assert "hold no pair" in done.stderr
    assert pq.read_table(tmp_path / "s.parquet").column("error_reason").to_pylist() == ["INVALID_JSON"] * 700


def test_exit_codes_tell_what_to_do(server: ScriptedServer, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    assay(server, "score", tmp_path / "gone.jsonl", "--out", out, code=2)
    assay(server, "score", rows, "--out", tmp_path / "s.xlsx", code=2)
    assay(server, "score", rows, "--out", out, "--concept", "nonsense", code=2)
    assay(server, "score", rows, "--out", out, "--limit", -1, code=2)
    assay(server, "score", rows, code=2)
    gone = subprocess.run(
        [sys.executable, "-m", "assay", "info", "--address", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert gone.returncode == 3
    assert "assay serve" in gone.stderr
    server.manners.refusals.append(rich_status("UNAUTHENTICATED", "a bearer token is needed", reason="NO_TOKEN"))
    assay(server, "info", code=2)


def test_the_token_comes_from_the_environment_or_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    assay(server, "info", ASSAY_TOKEN="from-the-environment")
    assert server.manners.metadata[-1]["authorization"] == "Bearer from-the-environment"
    (tmp_path / "token").write_text("from-a-file\n")
    assay(server, "info", "--token-file", tmp_path / "token")
    assert server.manners.metadata[-1]["authorization"] == "Bearer from-a-file"


def test_info_prints_what_is_loaded_for_people_and_programs(server: ScriptedServer) -> None:
    text = assay(server, "info").stdout
    assert "blocks.1.hook_resid_post" in text
    assert "explained variance 0.812" in text
    told = json.loads(assay(server, "info", "--json").stdout)
    assert told["limits"]["max_top_k"] == 256


def test_summarize_counts_features_from_rankings_or_from_all_of_them(server: ScriptedServer, rows: Path, tmp_path: Path) -> None:
    given = [json.loads(line) for line in rows.read_text().splitlines()[:40]]
    assay(server, "score", rows, "--out", tmp_path / "r.parquet", "--limit", 40, "--quiet")
    assay(server, "score", rows, "--out", tmp_path / "f.parquet", "--limit", 40, "--quiet", "--include-features")
    ranked = json.loads(assay(server, "summarize", tmp_path / "r.parquet", "--json").stdout)
    full = json.loads(assay(server, "summarize", tmp_path / "f.parquet", "--json", "--top", 5000).stdout)
    assert (ranked["exact"], full["exact"], full["scored"]) == (False, True, 40)
    expected: dict[int, int] = {}
    for row in given:
        sides = [{one for one, freq in features_of(row[side], 24) if freq > 0.01} for side in ("chosen", "rejected")]
        for feature in sides[0] ^ sides[1]:
            expected[feature] = expected.get(feature, 0) + (1 if feature in sides[0] else -1)
    found = {one["feature"]: round(one["disparity"] * 40) for one in full["features"]}
    assert found == expected
    text = assay(server, "summarize", tmp_path / "r.parquet").stdout
    assert "tests nothing" in text
    assert "From rankings only" in text
    assert "label " in text


def test_summarize_needs_no_server_and_refuses_labels_of_another_sae(server: ScriptedServer, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    assay(server, "score", rows, "--out", out, "--limit", 40, "--quiet")
    table = pq.read_table(out)
    manifest = json.loads(table.schema.metadata[b"assay.manifest"])
    manifest["model"]["sae"] = "another"
    pq.write_table(table.replace_schema_metadata({"assay.manifest": json.dumps(manifest)}), tmp_path / "o.parquet")
    assert "another SAE" in assay(server, "summarize", tmp_path / "o.parquet").stdout
    server.stop()
    assert "No labels: " in assay(server, "summarize", out).stdout
    assert "No labels" not in assay(server, "summarize", out, "--no-labels").stdout


def test_summarize_of_another_file_says_that_it_is_no_scores_file(server: ScriptedServer, rows: Path) -> None:
    assert "no scores file" in assay(server, "summarize", rows, code=2).stderr
