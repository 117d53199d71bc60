"""Figures are generated: the page is what the committed results say, and a result file says all that it must."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tables import PAGE, page
from experiments.results import RESULTS

FILES = sorted(RESULTS.glob("*.json"))
ABSENT = "there is no file in benchmarks/results (make bench): no figure was checked"


@pytest.mark.skipif(not FILES, reason=ABSENT)
def test_the_page_of_figures_is_what_the_result_files_say() -> None:
    assert PAGE.read_text() == page(), "stale: run `make docs-tables`"


@pytest.mark.parametrize("path", FILES or [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT))], ids=lambda p: p and p.stem)
def test_a_result_file_says_what_was_measured_where_and_whether_it_is_good_enough(path: Path) -> None:
    result: dict[str, Any] = json.loads(path.read_text())
    assert result["name"] == path.stem
    assert result["command"].startswith(("python -m benchmarks.", "python -m demo."))
    assert result["machine"]["cpu"] or result["machine"].get("gpu")
    assert datetime.date.fromisoformat(result["date"]) >= datetime.date(2025, 1, 1)
    assert result["versions"]["torch"] not in ("", "absent")
    assert isinstance(result["seed"], int)
    assert result["raw"], "the repetitions stand beside the figures"
    assert result["metrics"]
    for metric in result["metrics"]:
        assert metric.keys() <= {"metric", "value", "unit", "goal", "holds", "notes"}
        assert metric["metric"]
        assert isinstance(metric["value"], int | float)
        assert isinstance(metric["unit"], str)
        assert ("goal" in metric) == ("holds" in metric), "a bar has a verdict, and a verdict has its bar"
        if "holds" in metric:
            assert isinstance(metric["holds"], bool)
            assert metric["holds"] or metric.get("notes") or result.get("notes"), f"{metric['metric']}: not met, and no reason"


def test_no_result_file_names_a_folder_of_the_machine_that_made_it() -> None:
    for path in FILES:
        text = path.read_text()
        assert not any(sign in text for sign in ("/home/", "/tmp/", "/root/", "/Users/")), path.name
