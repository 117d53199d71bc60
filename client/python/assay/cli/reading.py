"""The flags that say how a file of pairs is read, and the file that they open."""

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from assay.data import Format, PairFile, open_pairs
from assay.data.formats import As
from assay.errors import AssayError, InputError
from assay.model import ModelInfo

FILE_HELP = ".jsonl, .json (both also .gz), .parquet, or a datasets folder"


class StrictStop(AssayError):
    """--strict, and a row could not be read or a pair not scored."""


def add_reading_flags(parser: argparse.ArgumentParser) -> Any:
    """Adds the group of flags; returns it."""
    reading = parser.add_argument_group("reading")
    reading.add_argument("--format", choices=["auto", *(one.value for one in Format)], default="auto")
    reading.add_argument(
        "--as",
        dest="as_",
        choices=["auto", "chat", "text"],
        default="auto",
        help="read text prompts and transcripts as chat turns or as raw text; auto: chat where the model has a template",
    )
    reading.add_argument("--split", metavar="NAME", help="split of a datasets folder")
    reading.add_argument("--limit", type=int, metavar="N", help="read only the first N rows")
    reading.add_argument("--strict", action="store_true", help="stop at the first row or pair that fails")
    return reading


def opened(args: argparse.Namespace, path: str | Path, model: ModelInfo) -> PairFile:
    """The file, read as the flags and the model's template say."""
    return open_pairs(path, format=None if args.format == "auto" else Format(args.format), as_=how(args, model), split=args.split)


def how(args: argparse.Namespace, model: ModelInfo) -> As:
    """Whether text is read as chat turns or raw."""
    if args.as_ != "auto":
        return args.as_
    return "chat" if model.has_chat_template else "text"


def total_of(args: argparse.Namespace, file: PairFile) -> int:
    """Rows that are taken."""
    return file.total if args.limit is None else min(file.total, args.limit)


def check_limit(args: argparse.Namespace) -> None:
    """InputError where --limit is no count."""
    if args.limit is not None and args.limit < 0:
        raise InputError(f"--limit {args.limit} is negative", reason="BAD_LIMIT")


def announcement(file: PairFile, total: int) -> str:
    """What is read, and as what: told by the first row that can be read, before thousands are."""
    first = next((row for row in islice(file.rows(), 100) if row.pair is not None), None)
    file.formats.clear()
    if first is None or first.pair is None or first.format is None:
        return f"{file.path.name}: {total:,} rows, of which the first {min(total, 100)} hold no pair"
    as_ = "raw text" if isinstance(first.pair.prompt, str) else "chat turns"
    return f"{file.path.name}: {total:,} rows, the first in the format {first.format.value}, prompts read as {as_}"


def say(text: str) -> None:
    """Prints a line on standard error."""
    print(text, file=sys.stderr, flush=True)
