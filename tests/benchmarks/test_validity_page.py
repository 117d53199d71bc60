"""docs/validity.md and its plots are what the result files say, and a stale one is noticed."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.validity import page as pages
from benchmarks.validity.plots import PLOTS, digest
from experiments.results import RESULTS

PRESENT = sorted(RESULTS.glob("validity-*.json"))
needs_results = pytest.mark.skipif(not PRESENT, reason="there is no validity result: nothing to check")


@needs_results
def test_the_page_is_what_the_result_files_say() -> None:
    assert pages.PAGE.read_text() == pages.page(), "stale: run `python -m benchmarks.validity.page`"


@needs_results
def test_no_plot_was_drawn_from_other_figures() -> None:
    assert pages.stale_plots() == [], "stale: run `python -m benchmarks.validity.page`"


@needs_results
def test_a_plot_of_other_figures_counts_as_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (_, source) in PLOTS.items():
        (tmp_path / f"{name}.svg").write_text(f"<svg>{digest({'other': source})}</svg>")
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    assert set(pages.stale_plots()) == {name for name, (_, source) in PLOTS.items() if source in pages.results()}


@needs_results
def test_results_hold_figures_and_names_of_features_but_no_text_of_pairs() -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for key, inner in value.items() for text in [str(key), *strings(inner)]]
        if isinstance(value, list):
            return [text for inner in value for text in strings(inner)]
        return [value] if isinstance(value, str) else []

    for path in PRESENT:
        longest = max(strings(json.loads(path.read_text())["raw"]), key=len)
        assert len(longest) < 130, f"{path.name}: {len(longest)} characters in one string"


@needs_results
def test_an_experiment_without_a_result_is_named_as_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    present = pages.results()
    name = next(iter(present))
    monkeypatch.setattr(pages, "results", lambda: {key: value for key, value in present.items() if key != name})
    assert f"| {name.removeprefix('validity-')} | not measured |  |" in pages.page()
