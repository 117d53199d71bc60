"""``assay score FILE --out scores.parquet``: scores every pair of a file, and goes on where it was interrupted.

The output has one row for each row of the input (`assay.cli.table` has the columns). Rows that hold no pair and pairs that
cannot be scored are rows with an error. Until it is complete, the output is a folder of parts beside it (`assay.cli.parts`):
the same command goes on after its last part, also after a crash or ``kill -9``.
"""

import argparse
import json
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from assay.cli.connect import add_flags, connect
from assay.cli.interrupts import INTERRUPTED, Interrupts, interrupts
from assay.cli.parts import Parts, ResumeRefused, manifest_of
from assay.cli.progress import Progress, duration
from assay.cli.reading import (
    FILE_HELP,
    StrictStop,
    add_reading_flags,
    announcement,
    check_limit,
    how,
    opened,
    say,
    total_of,
)
from assay.cli.table import Record, plain, record
from assay.cli.tally import add_counts, counts_text
from assay.client import Client
from assay.data import PairFile, Row
from assay.data.formats import As
from assay.errors import AssayError, InputError
from assay.extras import pyarrow
from assay.model import ModelInfo
from assay.options import CacheMode, Concept, ScoreOptions, Truncation
from assay.pairs import Pair
from assay.results import PairResult
from assay.summary import Summary

PART_ROWS = 512
PART_SECONDS = 20.0

Outcome = tuple[Row, PairResult | None]
Refused = ResumeRefused


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("score", help="score the pairs of a file", description=__doc__)
    parser.add_argument("file", type=Path, metavar="PATH", help=FILE_HELP)
    parser.add_argument("--out", required=True, metavar="PATH", help=".parquet or .jsonl file; - for JSON Lines on stdout")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing or half-written output")
    add_reading_flags(parser)
    asking = parser.add_argument_group("scoring")
    asking.add_argument("--top-k", type=int, metavar="N", help="features per ranking (default: the server's, 16)")
    asking.add_argument("--include-features", action="store_true", help="write every pooled feature of both responses")
    asking.add_argument("--include-prompt", action="store_true", help="with --include-features: those of the prompt too")
    asking.add_argument(
        "--concept",
        action="append",
        default=[],
        metavar="LIST",
        help="NAME=FEATURE[:WEIGHT],...: score along a feature or a weighted sum of features; repeatable",
    )
    asking.add_argument("--truncate", choices=["refuse", "prompt-start", "response-end"], default="refuse")
    asking.add_argument("--no-cache", action="store_true", help="neither read nor write the server's cache")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Scores the file."""
    kind = _check(args)
    with connect(args) as client, interrupts() as signals:
        model = client.model()
        options = options_of(args)
        file = opened(args, args.file, model)
        if kind == "-":
            return _to_stdout(args, client, file, options)
        manifest = _manifest(args, file, how(args, model), model)
        out = Path(args.out)
        if _finished(args, out, manifest):
            return 0
        return _to_file(args, client, file, options, Parts(out, manifest), signals, kind)


def outcomes(rows: Iterator[Row], client: Client, options: ScoreOptions) -> Iterator[Outcome]:
    """Each row with its result, in the rows' order; None for a row that holds no pair."""
    waiting: deque[Row] = deque()

    def pairs() -> Iterator[Pair]:
        for row in rows:
            waiting.append(row)
            if row.pair is not None:
                yield row.pair

    for result in client.score(pairs(), options):
        while waiting[0].pair is None:
            yield waiting.popleft(), None
        yield waiting.popleft(), result
    while waiting:
        yield waiting.popleft(), None


def options_of(args: argparse.Namespace) -> ScoreOptions:
    """The options that the flags give."""
    return ScoreOptions(
        top_k=args.top_k,
        concepts=[_concept(text) for text in args.concept],
        include_features=args.include_features,
        include_prompt=args.include_prompt,
        truncation=Truncation[args.truncate.upper().replace("-", "_")],
        cache_mode=CacheMode.BYPASS if args.no_cache else CacheMode.READ_WRITE,
    )


def _to_stdout(args: argparse.Namespace, client: Client, file: PairFile, options: ScoreOptions) -> int:
    for row, result in outcomes(islice(file.rows(), args.limit), client, options):
        _stop_if_strict(args, row, result)
        print(json.dumps(plain(record(row, result)), ensure_ascii=False, separators=(",", ":")), flush=True)
    return 0


def _to_file(
    args: argparse.Namespace,
    client: Client,
    file: PairFile,
    options: ScoreOptions,
    parts: Parts,
    interrupts: Interrupts,
    kind: str,
) -> int:
    total = total_of(args, file)
    with parts:
        if not args.quiet:
            say(announcement(file, total))
        if parts.rows and not args.quiet:
            say(f"going on after the {parts.rows:,} rows that are in {parts.folder}")
        rows = islice(file.rows(skip=parts.rows), max(0, total - parts.rows))
        start, before = time.monotonic(), parts.rows
        writer = _Writer(parts, interrupts)
        try:
            with Progress(total, parts.rows, quiet=args.quiet) as progress:
                for row, result in outcomes(rows, client, options):
                    _stop_if_strict(args, row, result)
                    writer.add(record(row, result))
                    progress.advance(failed=result is None or not result.ok)
            writer.flush()
        except (KeyboardInterrupt, AssayError) as stop:
            writer.flush()
            say(f"stopped after {parts.rows:,} of {total:,} rows; the same command goes on from there")
            if isinstance(stop, AssayError):
                raise
            return INTERRUPTED
        _report(parts, file, parts.rows - before, time.monotonic() - start, quiet=args.quiet)
        parts.join(kind)
        if not args.quiet:
            say(f"wrote {parts.rows:,} rows to {parts.out}")
            if kind == "parquet":
                say(f"what they teach: assay summarize {parts.out}")
    return 0


class _Writer:
    """Gathers rows into parts; a signal never splits a part from its count."""

    def __init__(self, parts: Parts, interrupts: Interrupts) -> None:
        self._parts = parts
        self._interrupts = interrupts
        self._records: list[Record] = []
        self._since = time.monotonic()

    def add(self, row: Record) -> None:
        self._records.append(row)
        if len(self._records) >= PART_ROWS or time.monotonic() - self._since >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        with self._interrupts.deferred():
            if self._records:
                self._parts.write(self._records)
                self._records = []
            self._since = time.monotonic()


def _check(args: argparse.Namespace) -> str:
    """The kind of output: "parquet", "jsonl" or "-"; InputError where it is none of them."""
    check_limit(args)
    if args.out == "-":
        return "-"
    suffix = Path(args.out).suffix
    if suffix not in (".parquet", ".jsonl"):
        raise InputError(f"--out {args.out} is neither .parquet nor .jsonl nor -", reason="UNKNOWN_KIND")
    pyarrow()  # says now what is missing
    return suffix[1:]


def _manifest(args: argparse.Namespace, file: PairFile, as_: As, model: ModelInfo) -> dict[str, Any]:
    """All that decides the content of the output."""
    return {
        "version": 1,
        "input": {"sha256": file.digest, "rows": file.total},
        "reading": {"format": args.format, "as": as_, "limit": args.limit},
        "asking": {
            "top_k": args.top_k,
            "include_features": args.include_features,
            "include_prompt": args.include_prompt,
            "concepts": args.concept,
            "truncate": args.truncate,
        },
        "model": model.identity,
    }


def _finished(args: argparse.Namespace, out: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether there is nothing to do, because an equal run has ended; with --overwrite, removes the old output."""
    folder = Parts(out, manifest).folder
    if args.overwrite:
        if folder.exists():
            with Parts(out, {}, adopt=True):  # not from under a process that is at work
                shutil.rmtree(folder)
        return False
    if not out.exists():
        return False
    if out.suffix == ".parquet" and manifest_of(out) == json.loads(json.dumps(manifest)):
        shutil.rmtree(folder, ignore_errors=True)  # left by a crash between the last rename and the tidying up
        say(f"{out} is there already, complete, from the same input, options and model")
        return True
    raise ResumeRefused(f"{out} exists, from another run: --overwrite replaces it", reason="OUTPUT_EXISTS")


def _concept(text: str) -> Concept:
    name, _, weights = text.partition("=")
    try:
        parsed = [(int(one.partition(":")[0]), one.partition(":")[2]) for one in weights.split(",")]
        if len(parsed) == 1 and not parsed[0][1]:
            return Concept.feature(name, parsed[0][0])
        return Concept.features(name, {feature: float(weight or 1.0) for feature, weight in parsed})
    except ValueError:
        raise InputError(f"--concept {text!r} is not NAME=FEATURE[:WEIGHT],...", reason="BAD_CONCEPT") from None


def _stop_if_strict(args: argparse.Namespace, row: Row, result: PairResult | None) -> None:
    error = row.error if result is None else result.error
    if args.strict and error is not None:
        raise StrictStop(f"line {row.line}: {error.message}", reason=error.reason)


def _report(parts: Parts, file: PairFile, rows: int, seconds: float, *, quiet: bool) -> None:
    if quiet:
        return
    summary = Summary()
    add_counts(summary, parts.batches())
    say(counts_text(summary))
    formats = ", ".join(f"{one.value} {count:,}" for one, count in file.formats.most_common()) or "nothing"
    if rows:
        say(f"read as             {formats}")
        say(f"this run            {rows:,} rows in {duration(seconds)}, {rows / max(seconds, 1e-9):.1f} pairs/s")
