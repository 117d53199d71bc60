"""docs/training.md and its plots are what the result files say; no result holds a pair's text."""

import json
from typing import Any

import pytest

from benchmarks.training import page as pages
from experiments.results import RESULTS

PRESENT = sorted(RESULTS.glob("training-*.json"))
needs_results = pytest.mark.skipif(not PRESENT, reason="there is no training result: nothing to check")


@needs_results
def test_the_page_is_what_the_result_files_say() -> None:
    assert pages.PAGE.read_text() == pages.page(), "stale: run `python -m benchmarks.training.page`"


@needs_results
def test_no_plot_was_drawn_from_other_figures() -> None:
    assert pages.stale_plots() == [], "stale: run `python -m benchmarks.training.page`"


@needs_results
def test_results_hold_figures_and_sentences_of_the_server_but_no_text_of_pairs() -> None:
    def strings(value: Any, key: str = "") -> list[str]:
        if key in ("warnings", "conclusions"):  # the server's own sentences, which quote no pair
            return []
        if isinstance(value, dict):
            return [text for name, inner in value.items() for text in [str(name), *strings(inner, name)]]
        if isinstance(value, list):
            return [text for inner in value for text in strings(inner)]
        return [value] if isinstance(value, str) else []

    for path in PRESENT:
        longest = max(strings(json.loads(path.read_text())["raw"]), key=len)
        assert len(longest) < 90, f"{path.name}: {len(longest)} characters in one string"


def test_an_experiment_without_a_result_is_named_as_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "results", dict)
    assert "| explaining | not measured |  |" in pages.page()
