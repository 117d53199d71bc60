"""``assay audit FILE``: uploads the pairs, tests what they would teach, and says what was found.

It goes on where an earlier run of the same command stopped: the upload after what the server has, the audit after its last
finished part, and one that is done is shown again. Ctrl-C leaves the audit running on the server, where `assay audits cancel`
ends it; the same command waits for it again.
"""

import argparse
import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

from assay.audits import Audit, AuditOptions, ConceptFamily, Correction, Nuisance, View, ViewSummary
from assay.cli.cards import card_lines
from assay.cli.connect import add_flags, connect
from assay.cli.findings import LEGEND, NUISANCES, explained_lines, note_lines, number, plain, summary_line, table
from assay.cli.interrupts import interrupts
from assay.cli.reading import add_reading_flags, say
from assay.cli.uploading import DATASET_HELP, dataset_of
from assay.cli.watching import begun, waited
from assay.client import Client
from assay.errors import InputError
from assay.hypotheses import Hypothesis

FAMILIES = [one.value for one in ConceptFamily]
VIEWS = {"global": View.GLOBAL, "feature": View.FEATURE_CONDITIONED, "prompt": View.PROMPT_CONDITIONED}
CORRECTIONS = {"bh": Correction.BENJAMINI_HOCHBERG, "by": Correction.BENJAMINI_YEKUTIELI}
DEFAULT_WIDTH = 150
CONTROL_PAIRS = 2000


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("audit", help="what a dataset would teach, tested and corrected", description=__doc__)
    parser.add_argument("file", metavar="PATH", help=DATASET_HELP)
    parser.add_argument("--report", type=Path, metavar="PATH", help="write the report as one HTML page that needs no network")
    parser.add_argument("--parquet", type=Path, metavar="PATH", help="write every hypothesis as Parquet, for pandas or DuckDB")
    parser.add_argument("--name", default="", metavar="TEXT", help="display name of dataset and audit (default: the file's name)")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="with --all: findings to print per view (default 20)")
    parser.add_argument("--all", action="store_true", help="print every finding by rank, as a table, instead of cards")
    parser.add_argument("--json", action="store_true", help="print audit and findings as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_reading_flags(parser)
    testing = parser.add_argument_group("testing", "every default is the method's own; the audit records what was used")
    testing.add_argument("--view", action="append", choices=VIEWS, help="test only this view; repeatable (default: all)")
    testing.add_argument(
        "--family",
        action="append",
        choices=FAMILIES,
        help="test only this family; repeatable (default: all)",
    )
    testing.add_argument("--concept", action="append", default=[], metavar="NAME", help="also test this concept; repeatable")
    testing.add_argument(
        "--metadata",
        action="append",
        default=[],
        metavar="NAME",
        help="metadata key of conditions; repeatable",
    )
    add_statistics_flags(testing)
    testing.add_argument("--correction", choices=CORRECTIONS, help="bh: Benjamini-Hochberg (default); by: Benjamini-Yekutieli")
    testing.add_argument("--max-t-flips", type=int, metavar="N", help="flips of the family-wise test (default 1024; 0: none)")
    testing.add_argument(
        "--data-clusters", type=int, default=0, metavar="N", help="clusters of pairs (default: from their number)"
    )
    testing.add_argument("--min-inside", type=int, metavar="N", help="fewest pairs of a condition (default 25)")
    testing.add_argument("--min-features", type=int, metavar="N", help="fewest features of a conditioned concept (default 10)")
    testing.add_argument("--keep", type=int, metavar="N", help="hypotheses kept per view (default 1000)")
    testing.add_argument("--evidence", type=int, metavar="N", help="evidence pairs per side (default 5)")
    testing.add_argument(
        "--controls",
        action="store_true",
        help="read a sample of the pairs once more, to hold what the SAE explains against the residuals and a random dictionary",
    )
    testing.add_argument(
        "--control-pairs", type=int, metavar="N", help=f"pairs of that sample, with --controls (default {CONTROL_PAIRS:,})"
    )
    add_flags(parser)
    parser.set_defaults(run=run)


def add_statistics_flags(group: Any) -> None:
    """The flags that an audit and a single test share."""
    group.add_argument(
        "--control",
        metavar="LIST",
        help="nuisances to control for: length, format, provenance, or none (default: length)",
        type=nuisances,
    )
    group.add_argument("--q", type=float, metavar="N", help="largest q of a finding, or p of a single test (default 0.05)")
    group.add_argument("--tau", type=float, metavar="N", help="least share of tokens of an expressed feature (default 0.01)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of every random choice (default 0)")


def nuisances(text: str) -> tuple[Nuisance, ...]:
    """The value of --control."""
    if text == "none":
        return ()
    try:
        return tuple(NUISANCES[one.strip()] for one in text.split(","))
    except KeyError:
        known = ", ".join(NUISANCES)
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {known}, and not none") from None


def _control_pairs(args: argparse.Namespace) -> int:
    if args.control_pairs is None:
        return CONTROL_PAIRS if args.controls else 0
    if not args.controls:
        raise InputError("--control-pairs is the size of what --controls reads: give --controls too", reason="NO_CONTROLS")
    return args.control_pairs


def run(args: argparse.Namespace) -> int:
    """Uploads, audits, writes the files, prints the findings."""
    options = options_of(args)
    for path in (args.report, args.parquet):
        check_folder(path)
    with connect(args) as client, interrupts():
        model = client.model()
        dataset = dataset_of(args, client, model)
        asked = [dataset.name, options.to_proto().SerializeToString(deterministic=True).hex(), args.name, str(model.identity)]
        operation = begun(
            "audit",
            asked,
            lambda request_id: client.audit(dataset, options, display_name=args.name, request_id=request_id),
        )
        if operation.done and not args.quiet:
            say("the same audit was made before, and is shown again")
        audit = waited(operation, quiet=args.quiet)
        export(args, client, audit)
        show(args, client, audit)
    if not args.quiet:
        say(next_steps(audit, args))
    return 0


def options_of(args: argparse.Namespace) -> AuditOptions:
    """The options that the flags give."""
    return AuditOptions(
        views=[VIEWS[one] for one in args.view or ()],
        families=[ConceptFamily(one) for one in args.family or ()],
        concepts=args.concept,
        tau=args.tau,
        q_level=args.q,
        correction=CORRECTIONS[args.correction] if args.correction else None,
        nuisances=args.control,
        max_t_flips=args.max_t_flips,
        data_clusters=args.data_clusters,
        min_inside=args.min_inside,
        min_features=args.min_features,
        metadata_keys=args.metadata,
        seed=args.seed,
        keep=args.keep,
        evidence=args.evidence,
        control_pairs=_control_pairs(args),
    )


def check_folder(path: Path | None) -> None:
    """InputError where a file could not be written for want of its folder, before any work is done."""
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent} to write {path.name} to", reason="NO_SUCH_FOLDER")


def export(args: argparse.Namespace, client: Client, audit: Audit) -> None:
    """Writes the requested files."""
    for path, form in ((args.report, "html"), (args.parquet, "parquet")):
        if path is not None:
            client.export_audit(audit, path, form)
            if not args.quiet:
                say(f"wrote {path}")


def show(args: argparse.Namespace, client: Client, audit: Audit) -> None:
    """Prints the audit as cards, all of its findings as tables, or both as JSON."""
    width = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    if not args.all and not args.json:
        told = [line for view in audit.views for line in (summary_line(view, audit), *note_lines(view, width=width))]
        print("\n".join([*told, "", *card_lines(client.cards(audit), width=width)]))
        return
    found = {view.view: findings(client, audit, view, args.top, every=args.all) for view in audit.views if view.view is not None}
    if args.json:
        rows = {key.value: plain(rows) for key, rows in found.items()}
        print(json.dumps({"audit": plain(audit), "cards": plain(client.cards(audit)), "findings": rows}, indent=1))
        return
    for view in audit.views:
        print("\n".join([summary_line(view, audit), *note_lines(view, width=width)]))
        rows = found.get(view.view, []) if view.view else []
        if rows:
            print(table(rows, width=width))
        elif view.view is not None and not view.reason:
            print(nearest(client, audit, view.view))
        print()
    if lines := explained_lines(audit):
        print("\n".join([*lines, ""]))
    if any(found.values()):
        print(LEGEND)


def findings(client: Client, audit: Audit, view: ViewSummary, top: int, *, every: bool = False) -> list[Hypothesis]:
    """The first findings of a view: those that lead its distinct lessons where it has any, or `every` one by rank."""
    lessons = view.lessons > 0 and not every
    wanted = f'view = "{view.view.value if view.view else ""}" AND ' + ("leads = true" if lessons else "finding = true")
    order = "lesson" if lessons else "rank"
    return list(islice(client.hypotheses(audit, wanted, order, page_size=min(1000, max(1, top))), top))


def nearest(client: Client, audit: Audit, view: View) -> str:
    """That a view found nothing, and how near it came."""
    first = next(client.hypotheses(audit, f'view = "{view.value}"', "rank", page_size=1), None)
    level = audit.options.q_level if audit.options.q_level is not None else 0.05
    near = f" (first by rank: {first.concept.name}, q = {number(first.effect.q)})" if first is not None else ""
    return f"no finding at q <= {level:g}{near}"


def next_steps(audit: Audit, args: argparse.Namespace) -> str:
    """What to do with the result."""
    short = audit.name.removeprefix("audits/")
    lines = [
        f"read it             {'open ' + str(args.report) if args.report else f'assay audits show {short} --report report.html'}",
        f"see the evidence    assay audits show {short} --hypothesis ID",
        f"say what is wanted  assay decide {short} ID explain-away|amplify|keep --note WHY, or decide in the report",
        f"all findings        assay audits show {short} --all",
        f"test your own       assay test {audit.dataset} --concept examples.jsonl",
    ]
    return "\n".join(lines)
