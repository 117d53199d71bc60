"""Labels from a Neuronpedia export (``python -m assay_server.labelling.neuronpedia EXPORT --d-sae N --out labels.jsonl.gz``).

Neuronpedia's bucket holds, for each source (one SAE), ``explanations/batch-N.jsonl.gz`` with one object a line::

    {"modelId": "gemma-2-2b", "layer": "20-gemmascope-res-16k", "index": "204", "description": "time-related phrases",
     "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini", "embedding": "[...]", ...}

and ``features/batch-N.jsonl.gz`` with ``pos_str`` (promoted tokens) and ``frac_nonzero`` (firing rate). Read are: a folder of
such batches (or the source's folder with both), one file, gzipped or not, JSON lines or one JSON list, and what the API gives for
one feature (an object with ``explanations``).

Invariants:
- One label per feature: the one with the best detection score, else the newest, else the first read. Empty ones are none.
- ``detection_score`` is Neuronpedia's ``eleuther_recall`` (delphi's detection scoring) where the export carries it, never another
  score; ``label_method`` names type and model of the explanation.
- Nothing is downloaded, and a file of several sources is refused unless one is named: labels of another SAE look as plausible.
"""

import argparse
import gzip
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from assay_server.labelling.labels import BadLabels, FeatureLabel, write_labels
from assay_server.labelling.prompts import tidy

DETECTION = "eleuther_recall"
_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_PROMOTED = 10
_MAX_BYTES = 1 << 30  # of one batch, unpacked


@dataclass(frozen=True, slots=True)
class _Explanation:
    """One explanation, and what it is preferred by."""

    label: FeatureLabel
    score: float
    created: str


def read_export(path: Path, *, d_sae: int, source: str = "") -> list[FeatureLabel]:
    """The labels of an export, ascending by feature.

    Args:
        path: file or folder; batches are read in natural order.
        d_sae: features of the SAE; an id outside is an error.
        source: Neuronpedia's source id ("20-gemmascope-res-16k"); "" where the export holds one only.

    Raises:
        BadLabels: nothing to read, a malformed file, an id outside the SAE, or several sources and none named.
    """
    explanations: dict[int, _Explanation] = {}
    facts: dict[int, FeatureLabel] = {}
    sources: set[str] = set()
    for where, entry in _entries(path):
        named = _source(entry)
        if source and named and named != source:
            continue
        sources.add(named)
        if len(sources - {""}) > 1:
            raise BadLabels(
                f"{path.name} holds labels of several SAEs ({', '.join(sorted(sources - {''}))}); name one with --source."
            )
        id = _index(entry, d_sae, where)
        if found := _facts(entry, id):
            facts[id] = found
        for explanation in _explanations(entry, id):
            if _rank(explanation) > _rank(explanations.get(id)):
                explanations[id] = explanation
    if not explanations:
        named = f" of source {source}" if source else ""
        raise BadLabels(f"{path.name} holds no explanation{named}; give the export's explanations folder or one of its batches.")
    return [_merged(explanations[id].label, facts.get(id)) for id in sorted(explanations)]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m assay_server.labelling.neuronpedia",
        description="Turns a Neuronpedia export into a label file for `assay serve --labels`.",
    )
    parser.add_argument("export", type=Path, help="a batch, or a folder of batches")
    parser.add_argument("--d-sae", type=int, required=True, help="features of the SAE that is served")
    parser.add_argument("--source", default="", help="Neuronpedia's source id, where the export holds several")
    parser.add_argument("--out", type=Path, default=Path("labels.jsonl.gz"), help="file to write (default: labels.jsonl.gz)")
    args = parser.parse_args(argv)
    try:
        labels = read_export(args.export, d_sae=args.d_sae, source=args.source)
        write_labels(args.out, labels)
    except (BadLabels, OSError) as error:
        print(f"neuronpedia: {error}", file=sys.stderr)
        return 1
    scored = sum(label.detection_score is not None for label in labels)
    print(f"{args.out}: {len(labels)} labels of {args.d_sae} features, {scored} with a detection score")
    return 0


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    files = sorted((p for p in path.rglob("*") if p.is_file() and p.name.endswith(_SUFFIXES)), key=_natural)
    if path.is_file():
        files = [path]
    if not files:
        raise BadLabels(f"{path.name} is neither a file nor a folder with {', '.join(_SUFFIXES)} files.")
    for file in files:
        for number, value in _values(file):
            where = f"{file.name} {number}"
            if not isinstance(value, dict):
                raise BadLabels(f"{where} is not a JSON object.")
            yield where, cast("dict[str, Any]", value)


def _values(file: Path) -> Iterator[tuple[str, Any]]:
    """Each object of a file, and where it stands: a list's entries, an object alone, or a line each."""
    try:
        with gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise BadLabels(f"{file.name} unpacks to more than {_MAX_BYTES} bytes; split it.")
        text = data.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadLabels(f"Cannot read {file.name}: {error}.") from error
    if text.lstrip().startswith("["):
        yield from ((f"entry {number}", value) for number, value in enumerate(_parsed(text, file.name), start=1))
        return
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if lines and not lines[0][1].rstrip().endswith("}"):  # one object over several lines
        yield "entry 1", _parsed(text, file.name)
        return
    for number, line in lines:
        yield f"line {number}", _parsed(line, f"{file.name} line {number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLabels(f"{where} is not JSON: {error}.") from error


def _index(entry: Mapping[str, Any], d_sae: int, where: str) -> int:
    raw = entry.get("index")
    id = int(raw) if isinstance(raw, str) and re.fullmatch(r"[0-9]{1,9}", raw) else raw
    if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id < d_sae:
        raise BadLabels(f"{where}: index is {raw!r}; the SAE has features 0 to {d_sae - 1}. Is the export another SAE's?")
    return id


def _source(entry: Mapping[str, Any]) -> str:
    layer = entry.get("layer")
    return layer if isinstance(layer, str) else ""


def _explanations(entry: Mapping[str, Any], id: int) -> Iterator[_Explanation]:
    nested: Any = entry.get("explanations")
    several = cast("list[Any]", nested) if isinstance(nested, list) else [entry]
    for raw in several:
        if not isinstance(raw, dict):
            continue
        given = cast("dict[str, Any]", raw)
        text = given.get("description")
        label = tidy(text) if isinstance(text, str) else ""
        if label:
            score = _detection(given.get("scores"))
            made = FeatureLabel(id, label=label, label_method=_method(given), detection_score=score)
            yield _Explanation(made, -1.0 if score is None else score, str(given.get("createdAt") or ""))


def _method(entry: Mapping[str, Any]) -> str:
    parts = [str(entry[key]) for key in ("typeName", "explanationModelName") if entry.get(key)]
    return ":".join(["neuronpedia", *(tidy(part) for part in parts)])


def _detection(scores: Any) -> float | None:
    best: float | None = None
    for raw in cast("Iterable[Any]", scores) if isinstance(scores, list) else ():
        score = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
        value = score.get("value")
        named = score.get("explanationScoreTypeName") == DETECTION
        if named and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1:
            best = float(value) if best is None else max(best, float(value))
    return best


def _facts(entry: Mapping[str, Any], id: int) -> FeatureLabel | None:
    promoted: Any = entry.get("pos_str")
    rate: Any = entry.get("frac_nonzero")
    texts = [token for token in cast("list[Any]", promoted) if isinstance(token, str)] if isinstance(promoted, list) else []
    usable = isinstance(rate, int | float) and not isinstance(rate, bool) and math.isfinite(rate) and 0 < rate <= 1
    if not texts and not usable:
        return None
    return FeatureLabel(id, promoted_tokens=tuple(texts[:_PROMOTED]), firing_rate=float(rate) if usable else None)


def _merged(label: FeatureLabel, facts: FeatureLabel | None) -> FeatureLabel:
    return label if facts is None else replace(label, promoted_tokens=facts.promoted_tokens, firing_rate=facts.firing_rate)


def _rank(explanation: _Explanation | None) -> tuple[float, str]:
    return (-2.0, "") if explanation is None else (explanation.score, explanation.created)


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"([0-9]+)", str(path))]


if __name__ == "__main__":
    sys.exit(main())
