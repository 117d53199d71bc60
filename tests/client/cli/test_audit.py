"""The audit commands against a scripted server: what they ask, what they print, how they end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from assay.cli import main
from assay.cli.watching import Watching, line
from assay.operations import OperationProgress
from assay.v1 import audit_pb2

from tests.client.cli.test_score import ENVIRONMENT, ROOT
from tests.client.support.audits import operation
from tests.client.support.server import ScriptedServer, rich_status
from tests.support.processes import started
from tests.support.waiting import PATIENCE, wait_until

FAMILIES = ("--family", "descriptors", "--family", "words")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def assay(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns its exit code, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*map(str, words), "--address", server.address])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    rows = [json.dumps({"prompt": f"q{i}", "chosen": "a", "rejected": "b", "topic": "sums"}) for i in range(30)]
    path.write_text("\n".join([*rows[:7], '{"prompt": "torn', *rows[7:]]))
    return path


def found(place: int, **fields: Any) -> audit_pb2.Hypothesis:
    message = audit_pb2.Hypothesis(name=f"audits/one/hypotheses/h{place}", rank=place, finding=True, **fields)
    message.concept.name, message.concept.label = f"feature/{place}", f"label {place}"
    message.raw.estimate = message.controlled.estimate = 0.5
    message.raw.q = message.controlled.q = 0.001
    return message


def cards() -> list[audit_pb2.Card]:
    lesson = audit_pb2.Card(
        id="global-3",
        kind=audit_pb2.Card.KIND_LESSON,
        title="More formatting, almost everywhere",
        sentence="More formatting, almost everywhere: bold text and lists; chosen has it and rejected does not in 78% of pairs.",
        exceptions="Not everywhere: weaker where topic = tea.",
        sureness="Controlled for length; q = 0.001.",
        hypothesis="audits/one/hypotheses/global-3",
        decide="assay decide audits/one/hypotheses/global-3 explain-away",
    )
    snippet = lesson.snippets.add(row=12, side=audit_pb2.Snippet.SIDE_CHOSEN, text="Some\nbold\x1b tea")
    snippet.marks.add(start=5, end=9)
    rest = audit_pb2.Card(id="rest", kind=audit_pb2.Card.KIND_REST, title="The rest", sentence="9 findings in all.")
    return [lesson, rest]


def audit() -> audit_pb2.Audit:
    message = audit_pb2.Audit(name="audits/one", dataset="datasets/one", state=audit_pb2.Audit.STATE_DONE)
    message.views.add(view=audit_pb2.VIEW_GLOBAL, tests=100, findings_raw=9, findings_controlled=4)
    message.views.add(view=audit_pb2.VIEW_PROMPT_CONDITIONED, reason="Too few pairs.")
    return message


def done(server: ScriptedServer) -> None:
    server.shelf.states.extend([operation(done=10, total=30), operation(phase="testing"), operation(made=audit())])
    server.shelf.hypotheses.extend(found(i) for i in range(1, 4))
    server.shelf.cards.extend(cards())
    server.shelf.file = b"<!doctype html>"


def test_an_audit_uploads_waits_writes_the_report_and_prints_the_findings(
    server: ScriptedServer, assay: Run, file: Path, tmp_path: Path
) -> None:
    done(server)
    report, parquet = tmp_path / "report.html", tmp_path / "all.parquet"
    flags = ("--metadata", "topic", "--control", "length,format", "--seed", 3, *FAMILIES)
    code, out, err = assay("audit", file, "--report", report, "--parquet", parquet, *flags)
    assert code == 0, err
    assert "9 findings raw, 4 once length is controlled for" in out
    for expected in (
        "What it teaches",
        "global-3  More formatting, almost everywhere: bold text and lists;",
        "  where      Not everywhere: weaker where topic = tea.",
        "  how sure   Controlled for length; q = 0.001.",
        "  chosen, row 12: Some «bold»  tea",
        "  assay decide audits/one/hypotheses/global-3 explain-away",
        "The rest\n\n9 findings in all.",
    ):
        assert expected in out
    assert "label 3" not in out, "all findings are asked for by --all"
    assert "nothing was tested. Too few pairs." in out
    assert report.read_bytes() == parquet.read_bytes() == server.shelf.file
    (request,) = server.shelf.asked("CreateAudit")
    assert list(request.options.metadata_keys) == ["topic"]
    assert list(request.options.nuisances) == [audit_pb2.NUISANCE_LENGTH, audit_pb2.NUISANCE_FORMAT]
    assert request.options.seed == 3
    assert list(request.options.families) == [audit_pb2.CONCEPT_FAMILY_DESCRIPTORS, audit_pb2.CONCEPT_FAMILY_WORDS]
    (dataset,) = server.shelf.complete.values()
    assert (dataset.pairs, dataset.display_name) == (30, "mine.jsonl")
    assert "1 rows hold no pair (INVALID_JSON 1)" in err
    for expected in ("scoring: 10 of 30 pairs (33%)", "testing", "assay decide one ID", f"open {report}"):
        assert expected in err


@pytest.mark.parametrize(
    ("flags", "pairs"), [((), 0), (("--controls",), 2000), (("--controls", "--control-pairs", 300), 300)], ids=str
)
def test_controls_are_a_flag_that_may_come_before_the_file_and_their_number_is_another(
    server: ScriptedServer, assay: Run, file: Path, flags: tuple[object, ...], pairs: int
) -> None:
    done(server)
    code, _, err = assay("audit", *flags, file)
    assert code == 0, err
    (request,) = server.shelf.asked("CreateAudit")
    assert request.options.control_pairs == pairs


def test_a_number_of_control_pairs_without_controls_is_refused(server: ScriptedServer, assay: Run, file: Path) -> None:
    code, _, err = assay("audit", file, "--control-pairs", 300)
    assert code == 2
    assert "give --controls too" in err
    assert not server.shelf.asked("CreateAudit")


def test_the_same_command_takes_up_the_same_upload_and_the_same_audit(server: ScriptedServer, assay: Run, file: Path) -> None:
    done(server)
    assert assay("audit", file)[0] == 0
    assert assay("audit", file, "--quiet")[0] == 0
    assert assay("audit", file, "--q", 0.1)[0] == 0
    assert len(server.shelf.received) == 1
    first, same, other = (request.request_id for request in server.shelf.asked("CreateAudit"))
    assert first == same != other


def test_an_audit_that_failed_is_begun_again(server: ScriptedServer, assay: Run, file: Path) -> None:
    done(server)
    server.shelf.created.append(operation(error=rich_status("CANCELLED", "it was cancelled", reason="CANCELLED")))
    assert assay("audit", file)[0] == 0
    first, second = (request.request_id for request in server.shelf.asked("CreateAudit"))
    assert first != second


def test_json_holds_audit_and_findings_and_nothing_else_is_on_standard_output(
    server: ScriptedServer, assay: Run, file: Path
) -> None:
    done(server)
    _, out, err = assay("audit", file, "--json", "--quiet", "--top", 2)
    told = json.loads(out)
    assert told["audit"]["name"] == "audits/one"
    assert [one["concept"]["label"] for one in told["findings"]["global"]] == ["label 1", "label 2"]
    assert [(one["id"], one["kind"]) for one in told["cards"]] == [("global-3", "lesson"), ("rest", "rest")]
    assert told["cards"][0]["snippets"][0]["marks"] == [[5, 9]]
    assert err == ""


def test_a_stored_dataset_is_audited_by_its_name(server: ScriptedServer, assay: Run) -> None:
    done(server)
    assert assay("audit", "datasets/one")[0] == 0
    assert server.shelf.received == []
    assert server.shelf.asked("CreateAudit")[0].dataset == "datasets/one"


def test_all_findings_are_a_table(server: ScriptedServer, assay: Run) -> None:
    done(server)
    _, out, _ = assay("audit", "datasets/one", "--all")
    assert "label 3" in out
    assert "global-3" not in out
    assert server.shelf.asked("ListCards") == []


def test_nothing_found_says_how_near_it_came(server: ScriptedServer, assay: Run) -> None:
    server.shelf.states.append(operation(made=audit()))
    _, out, _ = assay("audit", "datasets/one", "--all")
    assert "no finding at q <= 0.05" in out
    _, out, _ = assay("audit", "datasets/one")
    assert "Nothing was found, and nothing came close." in out


def test_what_is_at_fault_is_said_before_any_work(server: ScriptedServer, assay: Run, file: Path, tmp_path: Path) -> None:
    code, _, err = assay("audit", file, "--report", tmp_path / "nowhere" / "report.html")
    assert (code, "there is no folder" in err) == (2, True)
    assert assay("audit", tmp_path / "none.jsonl")[0] == 2
    assert assay("audit", file, "--limit", -1)[0] == 2
    assert server.shelf.requests == []
    with pytest.raises(SystemExit) as caught:
        assay("audit", file, "--control", "lenght")
    assert caught.value.code == 2


def test_strict_ends_at_the_first_bad_row_with_code_4(server: ScriptedServer, assay: Run, file: Path) -> None:
    code, _, err = assay("audit", file, "--strict")
    assert (code, "line 8" in err) == (4, True)


def test_an_audit_that_fails_says_why(server: ScriptedServer, assay: Run) -> None:
    failure = rich_status("FAILED_PRECONDITION", "every pair is unusable", reason="NO_USABLE_PAIR")
    server.shelf.states.append(operation(error=failure))
    code, out, err = assay("audit", "datasets/one")
    assert (code, out) == (2, "")
    assert "every pair is unusable [NO_USABLE_PAIR]" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_audit_running_and_says_how_to_end_it(server: ScriptedServer, number: int) -> None:
    server.shelf.states.append(operation(done=1, total=9))
    words = [sys.executable, "-m", "assay", "audit", "datasets/one", "--address", server.address]
    with started(words, env=ENVIRONMENT, cwd=ROOT, stderr=subprocess.PIPE) as process:
        wait_until(lambda: server.shelf.asked("GetOperation"))
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "assay audits cancel operations/one" in err
    assert server.shelf.stopped == []


def examples(tmp_path: Path) -> Path:
    path = tmp_path / "warm words.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"text {i}", "label": i % 2}) for i in range(20)))
    return path


def test_a_hypothesis_of_examples_makes_the_concept_once_and_tests_it(
    server: ScriptedServer, assay: Run, file: Path, tmp_path: Path
) -> None:
    stated = found(1, view=audit_pb2.VIEW_STATED, inside=34, outside=285, prompts=20)
    stated.condition.name = "metadata/topic=own=writing"
    stated.supporting.add(row=4, disparity=1.0).pair.chosen = "So\nkind"
    server.shelf.states.append(operation(made=stated))
    code, out, err = assay("test", file, "--concept", examples(tmp_path), "--where", "topic=own=writing")
    assert code == 0, err
    (made,) = server.shelf.asked("CreateConcept")
    assert made.concept_id.startswith("warm-words-")
    (request,) = server.shelf.asked("TestHypothesis")
    assert request.concept == f"concepts/{made.concept_id}"
    assert (request.metadata.key, request.metadata.value) == ("topic", "own=writing")
    for expected in ("AUROC 0.750", "34 pairs inside, 285 outside", "yes: chosen responses express it more there", "So kind"):
        assert expected in out
    assay("test", file, "--concept", examples(tmp_path), "--json")
    again = server.shelf.asked("CreateConcept")[1]
    assert again.request_id == made.request_id


@pytest.mark.parametrize("concept", ["feature/17", "cluster/3", "concepts/warmth"])
def test_a_concept_that_is_there_is_named(server: ScriptedServer, assay: Run, concept: str) -> None:
    server.shelf.states.append(operation(made=found(1)))
    assert assay("test", "datasets/one", "--concept", concept, "--where-prompt", "feature/9")[0] == 0
    (request,) = server.shelf.asked("TestHypothesis")
    assert (request.concept, request.prompt_concept) == (concept, "feature/9")
    assert server.shelf.asked("CreateConcept") == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--concept", "feature/x"],
        ["--concept", "feature/1", "--where", "topic"],
        ["--concept", "feature/1", "--where", "a=b", "--where-prompt", "feature/2"],
    ],
)
def test_a_question_that_cannot_be_is_refused_with_the_fix(server: ScriptedServer, assay: Run, flags: list[str]) -> None:
    code, _, err = assay("test", "datasets/one", *flags)
    assert code == 2
    assert "--where" in err or "feature/17" in err
    assert server.shelf.asked("TestHypothesis") == []


def test_decisions_are_recorded_by_short_names_and_the_last_one_counts(server: ScriptedServer, assay: Run) -> None:
    assert assay("decisions", "one")[1].startswith("no decision yet")
    code, out, _ = assay("decide", "one", "h1", "explain-away", "--strength", 0.5, "--note", "two\nlines")
    assert (code, out) == (0, "audits/one/hypotheses/h1: explain-away 0.5\n")
    assay("decide", "audits/one", "audits/one/hypotheses/h1", "keep")
    rows = assay("decisions", "one")[1].splitlines()
    assert ["no" in rows[1].split(), "yes" in rows[2].split()] == [True, True]
    assert "two lines" in rows[1]
    assert len(json.loads(assay("decisions", "one", "--json")[1])) == 2
    assert assay("decide", "one", "h1", "keep", "--strength", -1)[0] == 2
    assert assay("decide", "audits/one/hypotheses/global-3", "amplify")[1] == "audits/one/hypotheses/global-3: amplify\n"
    for words in (["one", "h1"], ["one", "h1", "away"], ["one", "h1", "keep", "more"], []):
        assert assay("decide", *words)[0] == 2


def test_audits_are_listed_shown_cancelled_and_deleted(server: ScriptedServer, assay: Run) -> None:
    server.shelf.states.append(operation())
    assert "operations/one" in assay("audits")[1], "the one that is under way can be cancelled by what is printed"
    assert assay("audits", "cancel", "operations/one")[0] == 0
    assert server.shelf.stopped == ["operations/one"]
    assert assay("audits", "delete", "one")[0] == 0
    assert server.shelf.asked("DeleteAudit")[0].name == "audits/one"
    assert assay("audits", "show", "one")[0] == 0
    server.shelf.hypotheses.append(found(1))
    out = assay("audits", "show", "one", "--hypothesis", "h1")[1]
    assert "feature/1 label 1" in out
    assert server.shelf.asked("GetHypothesis")[0].highlights
    assert assay("audits", "show")[0] == 2


def test_concepts_and_datasets_are_managed(server: ScriptedServer, assay: Run, tmp_path: Path) -> None:
    assert "feature/7" in assay("concepts")[1]
    assert "AUROC" in assay("concepts", "create", "Warmth", "--from", examples(tmp_path), "--id", "warmth")[1]
    assert server.shelf.asked("CreateConcept")[0].concept_id == "warmth"
    for source, field in (
        ("feature/3", "features"),
        ("cluster/3", "cluster"),
        ("labels:bold", "label_search"),
        ("datasets/x", "dataset"),
    ):
        assert assay("concepts", "create", "x", "--from", source)[0] == 0
        assert server.shelf.asked("CreateConcept")[-1].WhichOneof("source") == field
    assert assay("concepts", "create", "x", "--from", "nothing")[0] == 2
    assert "2 features" in assay("concepts", "show", "one")[1]
    assert "cluster/3" in assay("concepts", "clusters")[1]
    assert "4 clusters of 40 features" in assay("concepts", "compute-clusters", "datasets/one")[1]
    assert assay("concepts", "delete", "one")[0] == 0
    assert assay("datasets")[1] == "no dataset yet: assay audit FILE\n"
    assert assay("datasets", "delete", "one")[0] == 0
    assert server.shelf.asked("DeleteDataset")[0].name == "datasets/one"


def test_lines_come_with_each_phase_and_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    watching = Watching()
    watching._clock = lambda: now  # pyright: ignore[reportPrivateUsage]
    with watching:
        for now, phase, count in ((0, "scoring", 1), (1, "scoring", 2), (11, "scoring", 3), (12, "testing", 0)):
            watching.show(OperationProgress(phase=phase, pairs_done=count, pairs_total=4, resumed=now > 5))
    said = capsys.readouterr().err.splitlines()
    assert [text.partition(":")[0] for text in said] == [
        "scoring",
        "the server had stopped, and has taken the work up again",
        "scoring",
        "testing",
    ]
    progress = OperationProgress(phase="scoring", pairs_done=1, pairs_total=4, pairs_per_second=2.5, seconds_left=61)
    assert line(progress) == "scoring: 1 of 4 pairs (25%), 2.5 pairs/s, 1:01 left"
    assert line(OperationProgress(phase="grouping")) == "grouping"
