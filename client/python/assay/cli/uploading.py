"""A file of pairs as a dataset on the server: uploaded, gone on with, or only named."""

import argparse
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from assay.audits import Dataset
from assay.cli.progress import Progress
from assay.cli.reading import StrictStop, announcement, check_limit, opened, say, total_of
from assay.client import Client
from assay.data import PairFile
from assay.errors import AssayError
from assay.model import ModelInfo
from assay.pairs import Pair
from assay.upload import derived_id

DATASET_HELP = "a file of pairs (.jsonl, .json, both also .gz; .parquet; a datasets folder), or a stored one: datasets/ID"


def dataset_of(args: argparse.Namespace, client: Client, model: ModelInfo) -> Dataset:
    """The dataset that the command is about: the one that is named, or the file's, uploaded where the server lacks it.

    Rows that hold no pair are left out and counted; with --strict the first one ends the command.
    """
    if str(args.file).startswith("datasets/") and not Path(args.file).exists():
        return client.dataset(str(args.file))
    check_limit(args)
    file = opened(args, args.file, model)
    total = total_of(args, file)
    if not args.quiet:
        say(announcement(file, total))
    left_out: Counter[str] = Counter()
    with Progress(total, quiet=args.quiet, what="uploading") as progress:
        try:
            dataset = client.upload_pairs(
                _pairs(args, file, left_out, progress),
                request_id=derived_id("file", file.digest, file.reading, str(args.limit)),
                display_name=args.name or file.path.name,
            )
        except (KeyboardInterrupt, AssayError):
            say("stopped while uploading; what the server has stays there, and the same command goes on from it")
            raise
    if not args.quiet:
        rows = f"; {left_out.total():,} rows hold no pair ({_reasons(left_out)})" if left_out else ""
        say(f"{dataset.name}: {dataset.pairs:,} pairs, {dataset.prompts:,} prompts{rows}")
    return dataset


def _pairs(args: argparse.Namespace, file: PairFile, left_out: Counter[str], progress: Progress) -> Iterator[Pair]:
    for row in islice(file.rows(), args.limit):
        progress.advance(failed=row.pair is None)
        if row.pair is not None:
            yield row.pair
        elif row.error is not None:
            if args.strict:
                raise StrictStop(f"line {row.line}: {row.error.message}", reason=row.error.reason)
            left_out[row.error.reason] += 1


def _reasons(counter: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counter.most_common())
