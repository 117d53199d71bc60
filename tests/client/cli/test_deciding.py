"""``assay decide --from``: a file of decisions against a scripted server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from assay.cli import main
from assay.cli.cards import card_lines
from assay.v1 import audit_pb2

from tests.client.support.server import ScriptedServer, rich_status

Run = Callable[..., tuple[int, str, str]]
AWAY, KEEP = audit_pb2.Decision.MODE_EXPLAIN_AWAY, audit_pb2.Decision.MODE_KEEP
FIRST: dict[str, Any] = {"hypothesis": "global-3", "mode": "explain_away", "strength": 0.5, "note": "not meant"}
SECOND: dict[str, Any] = {"hypothesis": "prompt-1", "mode": "keep", "strength": None, "note": ""}

BAD_STRENGTH = '{"audit": "a", "result_fingerprint": "f", "decisions": [{"hypothesis": "b", "mode": "keep", "strength": ?}]}'


@pytest.fixture
def assay(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns its exit code, standard output and standard error."""
    server.shelf.fingerprint = "f" * 64

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*map(str, words), "--address", server.address])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def written(folder: Path, *decisions: Any, **changes: Any) -> Path:
    path = folder / "decisions.json"
    record = {"audit": "audits/one", "result_fingerprint": "f" * 64, "decisions": list(decisions)} | changes
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def recorded(server: ScriptedServer) -> list[tuple[str, int, float | None, str]]:
    asked = [request.decision for request in server.shelf.asked("RecordDecision")]
    return [(one.hypothesis, one.mode, one.strength if one.HasField("strength") else None, one.note) for one in asked]


def test_the_decisions_of_a_page_are_recorded(server: ScriptedServer, assay: Run, tmp_path: Path) -> None:
    code, out, err = assay("decide", "--from", written(tmp_path, FIRST, SECOND), "--author", "Rosa")
    assert (code, err) == (0, "")
    assert recorded(server) == [
        ("audits/one/hypotheses/global-3", AWAY, 0.5, "not meant"),
        ("audits/one/hypotheses/prompt-1", KEEP, None, ""),
    ]
    assert {request.decision.author for request in server.shelf.asked("RecordDecision")} == {"Rosa"}
    assert out.splitlines() == [
        "audits/one/hypotheses/global-3: explain-away 0.5",
        "audits/one/hypotheses/prompt-1: keep",
        "2 recorded, 0 recorded before, 0 failed",
    ]


def test_the_same_decision_is_not_recorded_twice_and_a_changed_one_is(server: ScriptedServer, assay: Run, tmp_path: Path) -> None:
    path = written(tmp_path, FIRST, SECOND)
    assay("decide", "--from", path)
    assert assay("decide", "--from", path)[1] == "0 recorded, 2 recorded before, 0 failed\n"
    assay("decide", "--from", written(tmp_path, FIRST | {"strength": 2}, SECOND, SECOND))
    assert [one[:3:2] for one in recorded(server)[2:]] == [("audits/one/hypotheses/global-3", 2.0)]
    again = assay("decide", "--from", written(tmp_path, FIRST, SECOND))[1]
    assert again.endswith("1 recorded, 1 recorded before, 0 failed\n"), "the last one counts"
    assert len(recorded(server)) == 4


def test_a_strength_left_out_is_one(server: ScriptedServer, assay: Run, tmp_path: Path) -> None:
    assay("decide", "one", "global-3", "explain-away", "--strength", 1)
    path = written(tmp_path, {"hypothesis": "global-3", "mode": "explain-away"})
    assert assay("decide", "one", "--from", path)[1] == "0 recorded, 1 recorded before, 0 failed\n"


def test_decisions_on_another_audit_or_another_result_are_refused_whole(
    server: ScriptedServer, assay: Run, tmp_path: Path
) -> None:
    path = written(tmp_path, FIRST)
    code, _, err = assay("decide", "two", "--from", path)
    assert (code, "decisions on audits/one, not on two" in err) == (2, True)
    server.shelf.fingerprint = "0" * 64
    code, _, err = assay("decide", "--from", path)
    assert (code, "RESULT_CHANGED" in err, "000000000000" in err) == (2, True, True)
    other = written(tmp_path, FIRST, SECOND | {"hypothesis": "audits/two/hypotheses/global-1"})
    assert "decision 2 names no hypothesis of audits/one" in assay("decide", "--from", other)[2]
    assert recorded(server) == []


def test_one_that_is_refused_is_named_and_the_others_are_recorded(server: ScriptedServer, assay: Run, tmp_path: Path) -> None:
    name = "audits/one/hypotheses/global-3"
    server.shelf.undecidable[name] = rich_status("NOT_FOUND", "there is no such hypothesis", reason="NOT_FOUND")
    path = written(tmp_path, FIRST, SECOND)
    code, out, err = assay("decide", "--from", path)
    assert (code, out.splitlines()[-1]) == (2, "1 recorded, 0 recorded before, 1 failed")
    assert f"1 of 2 decisions are not recorded. {name}: there is no such hypothesis" in err
    server.shelf.undecidable.clear()
    assert assay("decide", "--from", path)[1].endswith("1 recorded, 1 recorded before, 0 failed\n"), "repeating it does the rest"


def test_a_server_that_is_gone_ends_it_with_its_own_code(server: ScriptedServer, assay: Run, tmp_path: Path) -> None:
    server.shelf.undecidable["audits/one/hypotheses/prompt-1"] = rich_status("UNAVAILABLE", "not loaded", reason="NOT_READY")
    third = FIRST | {"hypothesis": "global-4"}
    code, out, _ = assay("decide", "--from", written(tmp_path, FIRST, SECOND, third))
    assert (code, out.splitlines()[-1]) == (3, "1 recorded, 0 recorded before, 2 failed")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON file"),
        ("[]", "the file is no JSON object"),
        ("{}", "needs audit, result_fingerprint and a list of decisions"),
        ('{"audit": 3}', "audit is no text"),
        ('{"audit": "audits/one", "result_fingerprint": "f", "decisions": {}}', "a list of decisions"),
        ('{"audit": "one", "result_fingerprint": "f", "decisions": [3]}', "decision 1 is no JSON object"),
        ('{"audit": "one", "result_fingerprint": "f", "decisions": [{"mode": "keep"}]}', "decision 1 names no hypothesis"),
        (
            '{"audit": "one", "result_fingerprint": "f", "decisions": [{"hypothesis": "global-1", "mode": "drop"}]}',
            "the mode of decision 1 is none of explain_away, amplify, keep",
        ),
        *((BAD_STRENGTH.replace("?", bad), "is no number from 0") for bad in ("-1", "true", "NaN", "Infinity", '"1"')),
    ],
)
def test_what_is_no_such_file_is_refused_before_anything_is_asked(
    server: ScriptedServer, assay: Run, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "decisions.json"
    path.write_text(text)
    code, _, err = assay("decide", "--from", path)
    assert (code, said in err) == (2, True), err
    assert server.shelf.requests == []


def test_a_file_that_is_not_there_and_two_sources_are_refused(server: ScriptedServer, assay: Run, tmp_path: Path) -> None:
    assert assay("decide", "--from", tmp_path / "none.json")[0] == 2
    path = written(tmp_path, FIRST)
    assert assay("decide", "one", "h1", "keep", "--from", path)[0] == 2
    assert assay("decide", "--from", path, "--strength", 1)[0] == 2
    assert server.shelf.requests == []


def test_what_is_printed_of_a_file_is_json_where_asked(server: ScriptedServer, assay: Run, tmp_path: Path) -> None:
    told = json.loads(assay("decide", "--from", written(tmp_path, FIRST), "--json")[1])
    assert [one["hypothesis"] for one in told["recorded"]] == ["audits/one/hypotheses/global-3"]
    assert (told["known"], told["failed"]) == ([], {})


def test_no_card_is_said_in_a_sentence() -> None:
    assert card_lines([], width=80) == ["Nothing was found, and nothing came close."]
