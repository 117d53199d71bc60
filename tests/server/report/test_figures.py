import json
from importlib.resources import files
from typing import Any

import pytest
from assay_server import figures

VALUES = (0.0, 1e-7, 0.00094, 0.00096, 0.0094, 0.0096, 0.1234, 0.9994, 0.9996, 1.0, 12.3456)
PROBABILITIES = (0.0, 1e-320, 1e-300, 9.99e-301, 1.4e-9, 9.6e-5, 0.000999, 0.001, 0.04999, 0.5, 0.99949, 0.9996, 1.0)


def test_effects_have_a_sign_and_no_more_digits_than_they_need() -> None:
    assert [figures.signed(value) for value in (0.41234, -0.0312, 0.0042, -0.00042, 0.0, -0.0)] == [
        "+0.412",
        "−0.031",
        "+0.0042",
        "−0.00042",
        "0",
        "0",
    ]


def test_both_ends_of_an_interval_have_the_same_digits() -> None:
    assert figures.interval(0.0008, 0.0792) == "[+0.001, +0.079]"
    assert figures.interval(-0.0004, 0.002) == "[−0.0004, +0.0020]"


def test_small_probabilities_are_powers_of_ten() -> None:
    texts = [figures.probability(value).replace("\u202f", " ") for value in (0.5, 0.0321, 1.0, 4.2e-7, 9.7e-5, 1e-12, 0.0)]
    assert texts == ["0.500", "0.032", "1", "4 × 10⁻⁷", "10⁻⁴", "10⁻¹²", "under 10⁻³⁰⁰"]


def test_shares_are_never_all_or_nothing_where_something_is_missing_or_there() -> None:
    assert [figures.share(part, 1000) for part in (0, 1, 10, 735, 999, 1000)] == [
        "0%",
        "under 1%",
        "1%",
        "74%",
        "over 99%",
        "100%",
    ]
    assert figures.share(3, 0) == "0%"


def test_counts_durations_and_instants_read_like_sentences() -> None:
    assert [figures.count(value) for value in (0, 999, 1234567)] == ["0", "999", "1,234,567"]
    assert [figures.seconds(value) for value in (0.04, 12.4, 200.0, 7505.0)] == ["0.0 s", "12 s", "3 min 20 s", "2 h 05 min"]
    assert figures.instant(1795500000.0) == "24 November 2026, 06:00 UTC"
    assert figures.instant(0.0) == ""
    assert [figures.plural(value, "pair") for value in (1, 2)] == ["1 pair", "2 pairs"]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_browser_writes_the_same_figures(chromium: Any, sign: float) -> None:
    script = (files("assay_server.report") / "assets" / "format.js").read_text(encoding="utf-8")
    values = [sign * value for value in VALUES]
    counts = [0, 7, 999, 1000, 1234567]
    page = chromium.new_page()
    shown = page.evaluate(
        f"""() => {{ {script}
        const values = {json.dumps(values)}, probabilities = {json.dumps(PROBABILITIES)}, counts = {json.dumps(counts)};
        return [values.map((value) => signed(value)), values.map((high) => interval({{low: -0.02, high}})),
                probabilities.map(probability), counts.map(count), counts.map((value) => plural(value, "pair"))]; }}"""
    )
    page.close()
    assert shown[0] == [figures.signed(value) for value in values]
    assert shown[1] == [figures.interval(-0.02, value) for value in values]
    assert shown[2] == [figures.probability(value) for value in PROBABILITIES]
    assert shown[3] == [figures.count(value) for value in counts]
    assert shown[4] == [figures.plural(value, "pair") for value in counts]
