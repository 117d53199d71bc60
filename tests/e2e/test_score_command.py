"""``assay score``, ``info`` and ``summarize`` as a user runs them, on the real server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from assay import Client, Pair, ScoreOptions, chat
from assay.cli.table import UNSTABLE_COLUMNS, schema

from tests.e2e.pairs import pairs, same
from tests.support.processes import started
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE, wait_until

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def command(server: ServerProcess, *words: object) -> list[str]:
    return [sys.executable, "-m", "assay", *map(str, words), "--address", server.address]


def assay(server: ServerProcess, *words: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(server, *words), capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done


def write(path: Path, given: list[Pair]) -> Path:
    """The pairs as a file in TRL's format, with a torn line and an empty response among them."""
    lines: list[str] = []
    for place, one in enumerate(given):
        prompt = one.prompt if isinstance(one.prompt, str) else [{"role": m.role, "content": m.content} for m in one.prompt]
        lines.append(json.dumps({"id": one.id, "prompt": prompt, "chosen": one.chosen, "rejected": one.rejected}))
        if place == 7:
            lines.append('{"prompt": "torn')
    path.write_text("\n".join(lines) + "\n")
    return path


def stable(path: Path) -> Any:
    return pq.read_table(path).drop_columns(list(UNSTABLE_COLUMNS))


def test_the_file_holds_what_the_client_says_of_each_pair(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    given = [*pairs(60, salt="file"), Pair(chat("empty"), "", "b", id="empty"), *pairs(5, salt="more")]
    out = tmp_path / "scores.parquet"
    done = assay(server, "score", write(tmp_path / "pairs.jsonl", given), "--out", out, "--include-features", "--top-k", 5)
    assert "torn" not in done.stderr
    table = pq.read_table(out)
    assert table.schema.remove_metadata().equals(schema())
    rows = table.to_pylist()
    assert [row["line"] for row in rows] == list(range(1, len(given) + 2))
    assert [row["error_reason"] for row in rows if row["error_reason"]] == ["INVALID_JSON", "EMPTY_SPAN"]
    del rows[8]
    expected = client.score_pairs(given, ScoreOptions(top_k=5, include_features=True))
    for row, result in zip(rows, expected, strict=True):
        assert row["id"] == result.id
        if result.score is None:
            continue
        ranking = [(one["feature"], one["chosen"], one["rejected"]) for one in row["by_max"]]
        assert ranking == [(one.feature, one.chosen, one.rejected) for one in result.score.by_max]
        pooled = result.score.chosen_features
        assert pooled is not None
        assert [(f["feature"], f["max"], f["freq"]) for f in row["chosen_features"]] == list(
            zip(pooled.indices, pooled.max, pooled.freq, strict=True)
        )
        assert row["tokens_read"] == result.score.tokens.read
    assert "qwen" in assay(server, "info").stdout.lower()
    assert assay(server, "summarize", out).stdout.strip()


def test_a_run_killed_at_any_moment_goes_on_and_ends_as_an_undisturbed_one(server: ServerProcess, tmp_path: Path) -> None:
    """The killed run comes first, so that the undisturbed one finds its features in the cache: they are equal to the bit."""
    file = write(tmp_path / "pairs.jsonl", pairs(1600, length=40, salt="killed"))
    out, undisturbed = tmp_path / "scores.parquet", tmp_path / "undisturbed.parquet"
    folder = tmp_path / "scores.parquet.partial"
    for parts in (1, 2):
        with started(command(server, "score", file, "--out", out, "--quiet"), env=ENVIRONMENT):
            wait_until(lambda n=parts: len(list(folder.glob("part-*.parquet"))) >= n, f"part {parts} is written")
        assert not out.exists()
    server.rest()
    assert "going on after the 1,024 rows" in assay(server, "score", file, "--out", out).stderr
    assay(server, "score", file, "--out", undisturbed)
    assert pq.ParquetFile(out).metadata.num_rows == 1601
    assert stable(out).equals(stable(undisturbed))
    assert not folder.exists()


def test_json_lines_on_standard_output_hold_the_same_numbers(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    given = pairs(12, salt="lines")
    printed = assay(server, "score", write(tmp_path / "pairs.jsonl", given), "--out", "-").stdout.splitlines()
    rows = [json.loads(line) for line in printed]
    rows = [row for row in rows if row["error_reason"] is None] if "error_reason" in rows[0] else [r for r in rows if r.get("id")]
    results = client.score_pairs(given)
    same(results, client.score_pairs(given))
    for row, result in zip(rows, results, strict=True):
        ranking = [(one["feature"], one["chosen"], one["rejected"]) for one in row["by_freq"]]
        assert ranking == [(one.feature, one.chosen, one.rejected) for one in result.unwrap().by_freq]
