"""``assay dataplan PLAN --out plan.parquet``: what a plan does to each pair of its dataset, as a file.

One row per usable pair, by the row that it has in the dataset: weight, flip, offsets of stored scores, token masks, inoculation
texts, vectors that apply. The plan's fingerprints and texts stand in the file's metadata.
"""

import argparse
from pathlib import Path
from typing import Any

from assay.cli.audit import check_folder
from assay.cli.connect import add_flags, connect
from assay.cli.reading import say
from assay.intervention_results import PlanTarget


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("dataplan", help="what a plan does to each pair, as Parquet", description=__doc__)
    parser.add_argument("plan", metavar="NAME", help="plans/ID or ID")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the Parquet file to write")
    add_target_flags(parser)
    add_flags(parser)
    parser.set_defaults(run=run)


def add_target_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say what a plan is about to be applied to."""
    group = parser.add_argument_group("applied to", "another one than the plan's is refused, with both fingerprints")
    group.add_argument("--dataset-fingerprint", default="", metavar="TEXT", help="SHA-256 of the pairs")
    group.add_argument("--model-fingerprint", default="", metavar="TEXT", help="SHA-256 of the model being trained")
    group.add_argument("--tokenizer-fingerprint", default="", metavar="TEXT", help="SHA-256 of its tokenizer")


def target_of(args: argparse.Namespace) -> PlanTarget:
    """What these flags say."""
    return PlanTarget(args.model_fingerprint, args.tokenizer_fingerprint, args.dataset_fingerprint)


def run(args: argparse.Namespace) -> int:
    """Writes the file."""
    check_folder(args.out)
    with connect(args) as client:
        client.export_data_plan(args.plan, args.out, target=target_of(args))
    say(f"wrote {args.out}")
    return 0
