"""``assay summarize``: what the pairs of a scores file teach, feature by feature. A description, not a test."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.cli.connect import add_flags, connect
from assay.cli.parts import manifest_of
from assay.cli.tally import COUNT_COLUMNS, FEATURE_COLUMNS, add_counts, add_features, counts_text
from assay.errors import ConnectionFailed, InputError, NotReady
from assay.extras import pyarrow
from assay.model import Feature
from assay.summary import TAU, FeatureShare, Summary

CAVEAT = (
    "This describes the pairs and tests nothing: no correction for the number of features looked at, for length, or for\n"
    "prompts that repeat. 'mean' is the mean over pairs of 1{chosen shows it} - 1{rejected shows it}, ± is its 95%% interval\n"
    "for this feature alone; a response shows a feature that fires on more than %g of its tokens."
)
INEXACT = (
    "From rankings only: a feature outside a pair's strongest counts as showing on neither side. Score with\n"
    "--include-features to count every feature."
)


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("summarize", help="what the pairs of a scores file teach", description=__doc__)
    parser.add_argument("scores", type=Path, metavar="PATH", help="a .parquet file written by assay score")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="features to print (default 20)")
    parser.add_argument(
        "--tau",
        type=float,
        default=TAU,
        metavar="N",
        help=f"least share of tokens of an expressed feature (default {TAU})",
    )
    parser.add_argument("--no-labels", action="store_true", help="do not ask the server for labels")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints it."""
    summary = read(args.scores, args.tau)
    rows = summary.features(args.top)
    labels, note = ({}, "") if args.no_labels else _labels(args, rows)
    if args.json:
        print(json.dumps(_object(summary, rows, labels), indent=1))
        return 0
    print(counts_text(summary), end="\n\n")
    print(table_text(rows, labels), end="\n\n")
    print(CAVEAT % summary.tau)
    for line in ("" if summary.exact else INEXACT, note):
        if line:
            print(line)
    return 0


def read(path: Path, tau: float = TAU) -> Summary:
    """A scores file, added up.

    Raises:
        InputError: it is no scores file.
    """
    pa, parquet = pyarrow(), pyarrow("pyarrow.parquet")
    summary = Summary(tau=tau)
    try:
        with parquet.ParquetFile(path) as file:
            names = list(dict.fromkeys([*COUNT_COLUMNS, *FEATURE_COLUMNS]))
            missing = set(names) - set(file.schema_arrow.names)
            if missing:
                raise InputError(f"{path.name} is no scores file: it has no {', '.join(sorted(missing))}", reason="NO_SCORES")
            for batch in file.iter_batches(batch_size=512, columns=names):
                add_counts(summary, [batch])
                add_features(summary, [batch])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no scores file: {str(error).splitlines()[0]}", reason="NO_SCORES") from None
    return summary


def table_text(rows: list[FeatureShare], labels: Mapping[int, Feature]) -> str:
    """The features as a table; a label comes with how well it detects, where that was measured."""
    lines = [f"{'feature':>8}  {'mean':>7}  {'±':>6}  {'pairs':>6}  {'chosen only':>12}  {'rejected only':>14}  label"]
    for row in rows:
        feature = labels.get(row.feature)
        label = feature.label if feature else ""
        if feature and feature.detection_score is not None:
            label += f"  (detects {feature.detection_score:.2f})"
        only = [f"{count:,} ({100 * count / row.pairs:.0f}%)" for count in (row.chosen_only, row.rejected_only)]
        numbers = f"{row.feature:>8}  {row.disparity:>+7.3f}  {row.margin:>6.3f}  {row.pairs:>6,}"
        lines.append(f"{numbers}  {only[0]:>12}  {only[1]:>14}  {label}".rstrip())
    return "\n".join(lines)


def _labels(args: argparse.Namespace, rows: list[FeatureShare]) -> tuple[Mapping[int, Feature], str]:
    """Labels from the server, where one answers that has the SAE of the file; else none, and why."""
    manifest = manifest_of(args.scores) or {}
    wanted = manifest.get("model", {}).get("sae")
    try:
        with connect(args) as client:
            if wanted is not None and client.model(timeout=5).sae_fingerprint != wanted:
                return {}, f"No labels: the server at {args.address} has another SAE than these scores."
            return client.features(row.feature for row in rows), ""
    except (ConnectionFailed, NotReady) as error:
        return {}, f"No labels: {error.message}"


def _object(summary: Summary, rows: list[FeatureShare], labels: Mapping[int, Feature]) -> dict[str, Any]:
    features: list[dict[str, Any]] = []
    for row in rows:
        label = labels.get(row.feature)
        features.append(
            {
                "feature": row.feature,
                "disparity": row.disparity,
                "margin95": row.margin,
                "pairs": row.pairs,
                "chosen_only": row.chosen_only,
                "rejected_only": row.rejected_only,
                "label": label.label if label else "",
                "detection_score": label.detection_score if label else None,
            }
        )
    return {
        "scored": summary.scored,
        "errors": dict(summary.errors),
        "unreadable": dict(summary.unreadable),
        "tau": summary.tau,
        "exact": summary.exact,
        "features": features,
    }
