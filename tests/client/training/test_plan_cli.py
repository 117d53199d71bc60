"""`assay plan`, `plans`, `offsets` and `dataplan` against a real server: what they print, write and refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from assay import AuditOptions, DecisionMode
from assay.cli import main

from tests.client.training.conftest import Served
from tests.support.waiting import PATIENCE

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def assay(served: Served, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns its exit code, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*map(str, words), "--address", served.address])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def file(tmp_path: Path, served: Served) -> Path:
    """The stored pairs, and after the third a row that holds none."""
    path = tmp_path / "pairs.jsonl"
    rows = [
        json.dumps(
            {
                "id": pair.id,
                "prompt": [{"role": one.role, "content": one.content} for one in pair.prompt if not isinstance(one, str)],
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "metadata": dict(pair.metadata),
            }
        )
        for pair in served.pairs
    ]
    path.write_text("\n".join([*rows[:3], '{"torn', *rows[3:]]))
    return path


def test_a_plan_of_concepts_says_what_to_expect_and_what_speaks_against_it(served: Served, assay: Run) -> None:
    words = ("plan", served.dataset.name, "--concept", "feature/8", "--concept", "feature/90", "--mode", "explain-away")
    code, out, err = assay(*words, "--strength", 9)
    assert code == 0
    name = out.split(":")[0]
    plan = served.client.plan(name)
    assert [one.concept.name for one in plan.interventions] == ["feature/8", "feature/90"]
    assert "with plan" in out
    assert f"{plan.interventions[0].expected.shift_before:+.3f}" in out
    assert "warning, OUTSIDE_PUBLISHED_RANGE" in out
    for one in plan.interventions:
        for warning in one.warnings:
            assert warning.text in out
    assert "moves along" in out
    assert f"assay offsets {name.removeprefix('plans/')}" in err
    code, again, err = assay(*words, "--strength", 9, "--json")
    assert json.loads(again)["name"] == name
    assert "made before" in err


def test_a_plan_of_an_audit_takes_the_last_decision_on_each_hypothesis(served: Served, assay: Run) -> None:
    audit = served.client.audit(served.dataset, AuditOptions(max_t_flips=64, seed=11)).wait(timeout=PATIENCE)
    assert "NO_DECISION" in assay("plan", audit.name)[2]
    first, second, third = (one for _, one in zip(range(3), served.client.hypotheses(audit), strict=False))
    served.client.decide(first, DecisionMode.AMPLIFY, strength=2.0)
    served.client.decide(first, DecisionMode.EXPLAIN_AWAY, strength=0.5)
    served.client.decide(second, DecisionMode.KEEP)
    served.client.decide(third, DecisionMode.AMPLIFY)
    code, out, _ = assay(
        "plan", audit.name.removeprefix("audits/"), "--family", "reward-shaping", "--family", "reweight", "--json"
    )
    assert code == 0
    made = json.loads(out)["interventions"]
    found = [(one["concept"]["name"], one["mode"], one["strength"], one["family"]) for one in made]
    away, more = (first.concept.name, "explain_away", 0.5), (third.concept.name, "amplify", 1.0)
    assert found == [(*way, family) for way in (away, more) for family in ("reward_shaping", "reweight")]
    code, listing, _ = assay("plans", served.dataset.name)
    assert json.loads(out)["name"] in listing
    assert assay("plans", json.loads(out)["name"], "--delete")[0] == 0
    assert json.loads(out)["name"] not in assay("plans")[1]


def test_offsets_are_written_row_by_row_with_the_shift_that_beta_asks_for(
    served: Served, assay: Run, file: Path, tmp_path: Path
) -> None:
    plan = served.client.plan(assay("plan", served.dataset.name, "--concept", "feature/8", "--mode", "amplify")[1].split(":")[0])
    direct = [result.unwrap() for result in served.client.offsets(plan, served.pairs, beta=0.1)]
    for suffix in ("parquet", "jsonl"):
        out = tmp_path / f"offsets.{suffix}"
        code, _, err = assay("offsets", plan.name, file, "--out", out, "--beta", 0.1)
        assert (code, "41 rows; 1 have none" in err) == (0, True)
        rows = pq.read_table(out).to_pylist() if suffix == "parquet" else list(map(json.loads, out.read_text().splitlines()))
        assert [row["line"] for row in rows] == list(range(1, 42))
        assert rows[3]["error_reason"]
        good = [row for row in rows if not row.get("error_reason")]
        for row, one, pair in zip(good, direct, served.pairs, strict=True):
            assert (row["id"], row["offset"], row["offset_chosen"]) == (pair.id, one.offset, one.chosen)
            assert row["stored"]
            assert row["ref_rejected_logps"] - row["ref_chosen_logps"] == pytest.approx(one.offset / 0.1)


def test_a_data_plan_is_written_as_parquet(served: Served, assay: Run, tmp_path: Path) -> None:
    name = assay("plan", served.dataset.name, "--concept", "feature/8", "--mode", "explain-away", "--family", "reweight")[1]
    name, out = name.split(":")[0], tmp_path / "plan.parquet"
    assert assay("dataplan", name, "--out", out)[0] == 0
    rows = list(served.client.data_plan(name))
    assert pq.read_table(out)["weight"].to_pylist() == [row.weight for row in rows]
    assert any(row.weight != 1 for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "DATASET", "--concept", "feature/8"), "--mode"),
        (("plan", "DATASET", "--concept", "feature/8", "--mode", "amplify", "--strength", "-1"), "the mode says the direction"),
        (("plan", "DATASET", "--concept", "feature/8", "--mode", "amplify", "--share", "0.1"), "share"),
        (("offsets", "plans/none", "FILE", "--out", "o.parquet", "--beta", "0"), "not over 0"),
        (("offsets", "plans/none", "FILE", "--out", "o.csv"), ".parquet"),
        (("offsets", "plans/none", "FILE", "--out", "o.parquet", "--quiet"), "plans/none"),
        (("dataplan", "plans/none", "--out", "o.parquet"), "plans/none"),
    ],
)
def test_what_is_wrong_ends_the_command_with_2_and_leaves_no_file(
    served: Served, assay: Run, file: Path, monkeypatch: pytest.MonkeyPatch, words: Any, said: str
) -> None:
    monkeypatch.chdir(file.parent)
    given = {"DATASET": served.dataset.name, "FILE": str(file)}
    code, _, err = assay(*(given.get(word, word) for word in words))
    assert code == 2
    assert said in err
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_plan_of_other_pairs_is_refused_with_both_fingerprints(served: Served, assay: Run, file: Path, tmp_path: Path) -> None:
    plan = assay("plan", served.dataset.name, "--concept", "feature/8", "--mode", "amplify")[1].split(":")[0]
    other = "0" * 64
    code, _, err = assay("offsets", plan, file, "--out", tmp_path / "o.parquet", "--dataset-fingerprint", other)
    assert code == 2
    assert other in err
    assert served.dataset.fingerprint in err
