"""docs/readability.md is what the result files say, and no text of a pair is among them."""

import json
from typing import Any

import pytest

from benchmarks.readability import page as pages
from experiments.results import RESULTS

PRESENT = sorted(RESULTS.glob("readability-*.json"))
needs_results = pytest.mark.skipif(not PRESENT, reason="there is no readability result: nothing to check")


@needs_results
def test_the_page_is_what_the_result_files_say() -> None:
    assert pages.PAGE.read_text() == pages.page(), "stale: run `python -m benchmarks.readability.page`"


@needs_results
def test_results_hold_figures_and_names_of_concepts_but_no_text_of_pairs() -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for key, inner in value.items() for text in [str(key), *strings(inner)]]
        if isinstance(value, list):
            return [text for inner in value for text in strings(inner)]
        return [value] if isinstance(value, str) else []

    for path in PRESENT:
        longest = max(strings(json.loads(path.read_text())["raw"]), key=len)
        assert len(longest) < 60, f"{path.name}: {len(longest)} characters in one string"


@needs_results
def test_an_experiment_without_a_result_is_named_as_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    present = pages.results()
    name = next(iter(present))
    monkeypatch.setattr(pages, "results", lambda: {key: value for key, value in present.items() if key != name})
    assert f"| {name.removeprefix('readability-')} | not measured |  |" in pages.page()
