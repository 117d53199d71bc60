"""Cards keep their figures between two markers, where a program writes them and a test compares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- generated -->", "<!-- end -->"


def generated(card: Path) -> str:
    """What stands between the markers of `card`."""
    return card.read_text(encoding="utf-8").split(BEGIN, 1)[1].split(END, 1)[0].strip()


def regenerate(card: Path, text: str) -> None:
    """Put `text` between the markers of `card`; everything else of it stays."""
    head, rest = card.read_text(encoding="utf-8").split(BEGIN, 1)
    card.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def result_table(result: Path) -> str:
    """The metrics of a result file (STYLE.md) as a Markdown table."""
    metrics: list[dict[str, Any]] = json.loads(result.read_text(encoding="utf-8"))["metrics"]
    rows = [f"| {m['metric']} | {m['value']:.4g} {m['unit']} | {m.get('goal', '')} | {_verdict(m)} |" for m in metrics]
    return "\n".join(["| measured | value | goal | holds |", "| --- | ---: | --- | --- |", *rows])


def _verdict(metric: dict[str, Any]) -> str:
    return {True: "yes", False: "no", None: ""}[metric.get("holds")]
