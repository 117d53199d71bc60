"""``assay decide`` and ``assay decisions``: decisions on what an audit found.

assay decide AUDIT HYPOTHESIS MODE          one decision
assay decide AUDIT/hypotheses/ID MODE       the same, as a card of `assay audit` or of the report has it
assay decide --from decisions.json          those that were collected on the report's page
assay decisions AUDIT                       what was decided

explain-away takes a concept out of the learning signal, amplify puts more of it in, keep says that it is meant. Decisions are
kept; the last one on a hypothesis counts.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.cli.connect import add_flags, connect
from assay.cli.deciding import read_decisions, record_decisions
from assay.cli.findings import aligned, decision_text, one_line, plain
from assay.errors import InputError
from assay.hypotheses import Decision, DecisionMode
from assay.names import hypothesis_name, resource

MODES = {one.value.replace("_", "-"): one for one in DecisionMode}


def add_command(commands: Any) -> None:
    """Adds both commands."""
    parser = commands.add_parser(
        "decide",
        help="record a decision on a finding",
        description=__doc__,
        usage="%(prog)s [options] ([AUDIT] HYPOTHESIS MODE | [AUDIT] --from PATH)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help=f"AUDIT: audits/ID or ID; HYPOTHESIS: the id that `assay audit` prints, or audits/ID/hypotheses/ID; "
        f"MODE: {', '.join(MODES)}",
    )
    parser.add_argument("--from", dest="file", type=Path, metavar="PATH", help="record the decisions that a report's page saved")
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
    """Records a decision, or those of a file."""
    if args.file is not None:
        return _run_file(args)
    if args.strength is not None and not args.strength >= 0:
        raise InputError(f"--strength {args.strength} is under 0: the mode says the direction", reason="BAD_STRENGTH")
    name, mode = _asked(args.words)
    with connect(args) as client:
        decision = client.decide(name, mode, strength=args.strength, note=args.note, author=args.author)
    print(json.dumps(plain(decision), indent=1) if args.json else f"{decision.hypothesis}: {decision_text(decision)}")
    return 0


def _asked(words: Sequence[str]) -> tuple[str, DecisionMode]:
    """The hypothesis and the mode that [AUDIT] HYPOTHESIS MODE name."""
    if len(words) not in (2, 3) or (len(words) == 2 and "/hypotheses/" not in words[0]):
        raise InputError("give AUDIT HYPOTHESIS MODE, or AUDIT/hypotheses/ID MODE, or --from PATH", reason="NO_NAME")
    if words[-1] not in MODES:
        raise InputError(f"{one_line(words[-1])!r} is none of {', '.join(MODES)}", reason="BAD_MODE")
    name = hypothesis_name(words[0], words[1]) if len(words) == 3 else resource(words[0], "audits")
    return name, MODES[words[-1]]


def _run_file(args: argparse.Namespace) -> int:
    if len(args.words) > 1 or args.strength is not None or args.note:
        raise InputError("--from takes hypotheses, modes, strengths and notes from the file", reason="TWO_SOURCES")
    file = read_decisions(args.file)
    if args.words and resource(args.words[0], "audits") != file.audit:
        raise InputError(f"{args.file} holds decisions on {file.audit}, not on {args.words[0]}", reason="OTHER_AUDIT")
    with connect(args) as client:
        done = record_decisions(client, file, author=args.author)
    if args.json:
        told = {"recorded": done.recorded, "known": done.known, "failed": dict(done.failed)}
        print(json.dumps(plain(told), indent=1))
    else:
        for decision in done.recorded:
            print(f"{decision.hypothesis}: {decision_text(decision)}")
        print(f"{len(done.recorded)} recorded, {len(done.known)} recorded before, {len(done.failed)} failed")
    if done.stopped is not None:
        raise done.stopped
    if done.failed:
        why = "; ".join(f"{name}: {message}" for name, message in done.failed)
        raise InputError(f"{len(done.failed)} of {len(file.decisions)} decisions are not recorded. {why}", reason="NOT_RECORDED")
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
