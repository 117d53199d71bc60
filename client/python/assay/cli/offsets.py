"""``assay offsets PLAN FILE --out offsets.parquet --beta 0.1``: what goes inside the sigmoid of each pair of a file.

One row for each row of the file, in its order; a row without an offset says why. The file appears when it is whole: after an
interruption the command starts again, and what needs a forward pass is answered by the server's cache.

| column                              | holds                                                             |
|-------------------------------------|-------------------------------------------------------------------|
| line, id                            | of the pair                                                       |
| offset                              | o of -log sigmoid(beta D + o)                                     |
| offset_chosen, offset_rejected      | o+ and o-                                                         |
| ref_chosen_logps, ref_rejected_logps | what to add to the reference, with --beta: -o+/beta and -o-/beta |
| stored                              | whether no forward pass was needed                                |
| error_reason, error_message         | why there is none                                                 |
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from assay.cli.audit import check_folder
from assay.cli.connect import add_flags, connect
from assay.cli.dataplan import add_target_flags, target_of
from assay.cli.progress import Progress
from assay.cli.reading import FILE_HELP, StrictStop, add_reading_flags, announcement, check_limit, opened, say, total_of
from assay.client import Client
from assay.data import PairFile, Row
from assay.errors import InputError
from assay.extras import pyarrow
from assay.files import replacing
from assay.intervention_results import OffsetResult
from assay.options import Truncation

Record = dict[str, Any]
_CHUNK = 4096
_PLAIN = ("offset", "offset_chosen", "offset_rejected", "ref_chosen_logps", "ref_rejected_logps")


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("offsets", help="a plan's offsets of the pairs of a file", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("plan", metavar="PLAN", help="plans/ID or ID")
    parser.add_argument("file", type=Path, metavar="PATH", help=FILE_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help=".parquet or .jsonl file to write")
    parser.add_argument("--beta", type=float, metavar="N", help="the trainer's beta: adds the equivalent shift of the reference")
    parser.add_argument("--dataset-pairs-only", action="store_true", help="fail pairs that are not in the plan's dataset")
    parser.add_argument("--truncate", choices=["prompt-start", "response-end"], help="shorten sequences longer than the context")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_reading_flags(parser)
    add_target_flags(parser)
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the file; tells how many pairs have no offset."""
    if args.beta is not None and not args.beta > 0:
        raise InputError(f"--beta {args.beta} is not over 0", reason="BAD_BETA")
    if args.out.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{args.out.name} is neither .parquet nor .jsonl", reason="UNKNOWN_FORMAT")
    check_folder(args.out)
    check_limit(args)
    with connect(args) as client:
        file = opened(args, args.file, client.model())
        total = total_of(args, file)
        if not args.quiet:
            say(announcement(file, total))
        with Progress(total, quiet=args.quiet, what="offsets") as progress:
            failed = _write(args.out, _counted(records(client, args, file), progress))
    if not args.quiet:
        said = f"; {failed:,} have none, and say why" if failed else ""
        say(f"wrote {args.out}: {total:,} rows{said}")
    return 0


def records(client: Client, args: argparse.Namespace, file: PairFile) -> Iterator[Record]:
    """One record for each row, in order. Rows that hold no pair wait beside the stream for their turn."""
    waiting: list[Row] = []

    def pairs() -> Iterator[Any]:
        for row in islice(file.rows(), args.limit):
            if row.pair is None and args.strict:
                raise StrictStop(f"line {row.line}: {row.error.message if row.error else ''}", reason="UNREADABLE")
            waiting.append(row)
            if row.pair is not None:
                yield row.pair

    truncation = Truncation[args.truncate.upper().replace("-", "_")] if args.truncate else Truncation.REFUSE
    results = client.offsets(
        args.plan,
        pairs(),
        beta=args.beta,
        target=target_of(args),
        dataset_pairs_only=args.dataset_pairs_only,
        truncation=truncation,
    )
    for result in results:
        while waiting[0].pair is None:
            yield unreadable(waiting.pop(0))
        row = waiting.pop(0)
        if args.strict and result.error is not None:
            raise StrictStop(f"line {row.line}: {result.error.message}", reason=result.error.reason)
        yield record(row, result)
    yield from map(unreadable, waiting)


def record(row: Row, result: OffsetResult) -> Record:
    """The columns of one pair."""
    columns: Record = {"line": row.line, "id": result.id}
    if result.offset is None:
        error = result.error
        return columns | {"error_reason": error.reason if error else "", "error_message": error.message if error else ""}
    one = result.offset
    columns |= {"offset": one.offset, "offset_chosen": one.chosen, "offset_rejected": one.rejected, "stored": one.stored}
    if one.shift is not None:
        columns |= {"ref_chosen_logps": one.shift.ref_chosen_logps, "ref_rejected_logps": one.shift.ref_rejected_logps}
    return columns


def unreadable(row: Row) -> Record:
    """The columns of a row that holds no pair."""
    error = row.error
    reason, message = (error.reason, error.message) if error else ("UNREADABLE", "")
    return {"line": row.line, "error_reason": reason, "error_message": message}


def _counted(rows: Iterator[Record], progress: Progress) -> Iterator[Record]:
    for row in rows:
        progress.advance(failed="error_reason" in row)
        yield row


def _write(path: Path, rows: Iterator[Record]) -> int:
    """Writes the file, whole or not at all; returns how many rows have no offset."""
    failed = 0
    with replacing(path) as temporary:
        if path.suffix == ".jsonl":
            with temporary.open("w", encoding="utf-8") as stream:
                for row in rows:
                    failed += "error_reason" in row
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            return failed
        pa, parquet = pyarrow(), pyarrow("pyarrow.parquet")
        numbers = [(name, pa.float64()) for name in _PLAIN]
        texts = [("error_reason", pa.string()), ("error_message", pa.string())]
        schema = pa.schema([("line", pa.int64()), ("id", pa.string()), *numbers, ("stored", pa.bool_()), *texts])
        with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            while chunk := list(islice(rows, _CHUNK)):
                failed += sum("error_reason" in row for row in chunk)
                writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
    return failed
