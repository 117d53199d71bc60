"""The text of docs/readability.md: what each experiment asks, how, and what its figures say. Sentences are made from figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.readability.calibration import EFFECTS, bound
from benchmarks.readability.data import Subject
from benchmarks.readability.edits import MARKS
from benchmarks.readability.expected import EXPECTED
from benchmarks.readability.naming import evidence, median_place
from benchmarks.readability.told import FIRST, SHOWN, TOLD_BY
from benchmarks.validity.sections import prose


def naming(raw: dict[str, Any]) -> list[str]:
    """Written everywhere."""
    edits: dict[str, Any] = raw["edits"]
    rates = list(next(iter(edits.values())))
    lines = [
        f"## Is an edit named? {_title(raw)}",
        "",
        *prose(f"""
            Each of {len(edits)} edits is written into the chosen response of some of {raw["pairs"]:,} pairs, over real labels,
            {raw["repeats"]} times over other pairs{_pool(raw)}. {_tested(raw)} *Place* is that of the first card that says that
            chosen responses have more of what names the edit, in its title or among the {SHOWN - 1} concepts that it lists along
            with it; what names it was written down before anything was measured (`benchmarks/readability/expected.py`).
            {_cards(raw)} Where nothing is edited there are {raw["cards"]}. *Unedited* is the place on the same pairs without
            any edit: what the data teaches anyway is named anyway.
            *Evidence* is the share of edited pairs among the five shown for that card's title.
        """),
        "",
        "| edit | named by | unedited | " + " | ".join(f"place at {float(rate):.0%}" for rate in rates) + " | evidence at 5% |",
        "| --- | --- | ---: |" + " ---: |" * len(rates) + " ---: |",
    ]
    for name, entry in edits.items():
        cells = [_places(entry[rate]) for rate in rates]
        lead = _most([trial["title"] for trial in entry[rates[0]] if trial["title"]])
        unedited = raw["unedited"][name]["place"]
        before = "—" if unedited is None else f"{unedited}"
        lines.append(f"| {name} | {lead} | {before} | {' | '.join(cells)} | {evidence(entry[rates[0]]):.2f} |")
    return [*lines, "", *_naming_says(raw, rates)]


def _naming_says(raw: dict[str, Any], rates: list[str]) -> list[str]:
    said: list[str] = []
    for rate in rates:
        places = {name: median_place(entry[rate]) for name, entry in raw["edits"].items()}
        late = [name for name, place in places.items() if place > FIRST]
        told = f"all {len(places)} are named among the first {FIRST} cards" if not late else f"not named: {', '.join(late)}"
        said.append(
            f"Written into {float(rate):.0%} of the pairs: {told}; the median place is {np.median(list(places.values())):g}."
        )
    before = [name for name, entry in raw["unedited"].items() if entry["place"] is not None]
    if before:
        said.append(f"Named without any edit too, so that their places tell little: {', '.join(before)}.")
    said.append(
        "A phrase can be written in words that no lexicon holds; such phrases are among those that are written, so that evidence"
        " and places pay for what the lexicons miss."
    )
    return prose(" ".join(said))


def conditional(raw: dict[str, Any]) -> list[str]:
    """Written under a topic."""
    topics: dict[str, Any] = raw["topics"]
    sizes = "; ".join(f"{name}, {entry['edited']} of {entry['pairs']} pairs" for name, entry in topics.items())
    lines = [
        f"## Is an edit named under its condition? {_title(raw)}",
        "",
        *prose(f"""
            The topic of a prompt, by its words, becomes a value of a metadata key, and half of the topic's pairs get the edit
            ({sizes}). {_tested(raw)} Place is that of the first card that names the edit under the right value.
            {_cards(raw)}
        """),
        "",
        "| topic | edit | place | title | stability | cards |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for topic, entry in topics.items():
        for name, case in entry["edits"].items():
            place = "—" if case["place"] is None else case["place"]
            title = case["title"] or "—"
            lines.append(f"| {topic} | {name} | {place} | {title} | {case['stability']:.2f} | {case['cards']} |")
    anyway = sum(case["place"] is not None for entry in topics.values() for case in entry["unedited"].values())
    cases = [case for entry in topics.values() for case in entry["edits"].values()]
    high = sum(case["place"] is not None and case["place"] <= FIRST for case in cases)
    said = (
        f"{high} of {len(cases)} are named under the right value among the first {FIRST} cards; without any edit, {anyway} are."
    )
    return [*lines, "", *prose(said)]


def calibration(raw: dict[str, Any]) -> list[str]:
    """Nothing to find."""
    lines = [
        f"## What is reported where there is nothing to find? {_title(raw)}",
        "",
        *prose(f"""
            {raw["pairs"]:,} pairs, {raw["runs"]} relabelled datasets: a fair coin a prompt decides which response is called
            chosen. {_tested(raw)} A run of a family is false if any of its tests is a finding. With {raw["runs"]} runs, a share
            of up to {bound(raw["runs"]):.3f} agrees with 0.05.
        """),
        "",
        "| family | effect | tests a run | runs with a finding (95% interval) | findings a run |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, entry in raw["families"].items():
        for effect in EFFECTS:
            shown = entry[effect]
            low, high = shown["interval"]
            share = f"{shown['false_share']:.3f} ({low:.3f} to {high:.3f})"
            lines.append(f"| {name} | {effect} | {entry['tests']:,.0f} | {share} | {shown['findings']:.2f} |")
    page = raw["any_card"]
    low, high = page["interval"]
    return [
        *lines,
        "",
        *prose(f"""
            {_cards(raw)} A page of all of them holds a card in {page["false_share"]:.3f} of the runs ({low:.3f} to {high:.3f}).
            Each family keeps its own 5%; the page keeps it for all of them together, as families are chosen first.
        """),
    ]


def _title(raw: dict[str, Any]) -> str:
    return "(texts alone)" if raw["subject"] == Subject.NONE else "(texts and SAE)"


def _tested(raw: dict[str, Any]) -> str:
    if raw["subject"] == Subject.NONE:
        return "Descriptors and words are tested, and no SAE concept: no model read the pairs."
    return "SAE features and clusters, descriptors and words are tested."


def _cards(raw: dict[str, Any]) -> str:
    if raw.get("told_by") == TOLD_BY:
        return "Cards are those of lessons that a page shows, at most ten."
    return "Measured before there were cards: each lesson of a view, stable or not, counts as one, in the order of lessons."


def _pool(raw: dict[str, Any]) -> str:
    return "" if raw["pool"] == raw["pairs"] else f" of {raw['pool']} that a model read with the edit"


def _places(trials: list[dict[str, Any]]) -> str:
    """The median, and the range where draws differ."""
    middle = median_place(trials)
    known = [trial["place"] for trial in trials if trial["place"] is not None]
    shown = "—" if not np.isfinite(middle) else f"{middle:g}"
    missed = len(trials) - len(known)
    notes = [f"{min(known)} to {max(known)}"] if known and min(known) < max(known) else []
    notes += [f"{missed} of {len(trials)} draws not named"] if missed else []
    return f"{shown} ({'; '.join(notes)})" if notes else shown


def _most(names: list[str]) -> str:
    return max(sorted(set(names)), key=names.count) if names else "—"


def expected() -> list[str]:
    """What names each edit."""
    lines = ["## What names an edit", "", "| edit | kind | descriptors | words |", "| --- | --- | --- | --- |"]
    for name, one in EXPECTED.items():
        kind = "mark" if name in MARKS else "phrase"
        lines.append(f"| {name} | {kind} | {', '.join(one.descriptors)} | {', '.join(one.phrases)} |")
    return lines
