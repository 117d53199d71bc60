"""``assay decide AUDIT HYPOTHESIS MODE`` and ``assay decisions AUDIT``: decisions on what an audit found.

explain-away takes a concept out of the learning signal, amplify puts more of it in, keep says that it is meant. Decisions are
kept; the last one on a hypothesis counts.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from assay.cli.connect import add_flags, connect
from assay.cli.findings import aligned, decision_text, one_line, plain
from assay.errors import InputError
from assay.hypotheses import Decision, DecisionMode
from assay.names import hypothesis_name

MODES = {one.value.replace("_", "-"): one for one in DecisionMode}


def add_command(commands: Any) -> None:
    """Adds both commands."""
    parser = commands.add_parser("decide", help="record a decision on a finding", description=__doc__)
    parser.add_argument("audit", metavar="AUDIT", help="audits/ID or ID")
    parser.add_argument("hypothesis", metavar="HYPOTHESIS", help="the id that `assay audit` prints, or audits/ID/hypotheses/ID")
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--strength", type=float, metavar="N", help="strength, at least 0 (default 1)")
    parser.add_argument("--note", default="", metavar="TEXT", help="reason of the decision")
    parser.add_argument("--author", default="", metavar="TEXT", help="author of the decision")
    parser.add_argument("--json", action="store_true", help="print the decision as one JSON object")
    add_flags(parser)
    parser.set_defaults(run=run)
    listing = commands.add_parser("decisions", help="list decisions", description="Decisions, oldest first.")
    listing.add_argument("audit", nargs="?", default="", metavar="AUDIT", help="audits/ID or ID (default: all)")
    listing.add_argument("--json", action="store_true", help="print them as a JSON list")
    add_flags(listing)
    listing.set_defaults(run=run_list)


def run(args: argparse.Namespace) -> int:
    """Records a decision."""
    if args.strength is not None and not args.strength >= 0:
        raise InputError(f"--strength {args.strength} is under 0: the mode says the direction", reason="BAD_STRENGTH")
    name = hypothesis_name(args.audit, args.hypothesis)
    with connect(args) as client:
        decision = client.decide(name, MODES[args.mode], strength=args.strength, note=args.note, author=args.author)
    print(json.dumps(plain(decision), indent=1) if args.json else f"{decision.hypothesis}: {decision_text(decision)}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Prints decisions."""
    with connect(args) as client:
        every = list(client.decisions(args.audit))
    if args.json:
        print(json.dumps(plain(every), indent=1))
    elif every:
        print(text(every))
    else:
        print("no decision yet: assay decide AUDIT HYPOTHESIS explain-away|amplify|keep")
    return 0


def text(every: Sequence[Decision]) -> str:
    """Decisions as a table; those that a later one replaced are marked."""
    last = {one.hypothesis: one.name for one in every}
    rows = [["when", "hypothesis", "decision", "counts", "author", "note"]]
    for one in every:
        when = one.create_time.strftime("%Y-%m-%d %H:%M") if one.create_time else ""
        counts = "yes" if last[one.hypothesis] == one.name else "no"
        rows.append([when, one.hypothesis, decision_text(one), counts, one_line(one.author), one_line(one.note)])
    return "\n".join(aligned(rows, left=set(range(len(rows[0])))))
