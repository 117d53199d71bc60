"""``assay audits``: audits that were made or are under way; their findings again, cancelled, deleted.

assay audits                                              all of them, newest first
assay audits show ID [--report report.html]               one's findings, as `assay audit` printed them
assay audits show ID --hypothesis ID                      one hypothesis with the pairs for and against it
assay audits cancel operations/ID                         ends one that is under way
assay audits delete ID                                    with its hypotheses and decisions
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from assay.audits import Audit, View
from assay.cli import audit as audit_command
from assay.cli.connect import add_flags, connect
from assay.cli.findings import (
    aligned,
    concept_text,
    condition_text,
    decision_text,
    effect_text,
    evidence_lines,
    number,
    one_line,
    plain,
    share,
)
from assay.client import Client
from assay.errors import InputError
from assay.hypotheses import Hypothesis, LengthVerdict
from assay.names import hypothesis_name


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "audits",
        help="list, show, cancel and delete audits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", default="list", choices=["list", "show", "cancel", "delete"])
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="audits/ID or ID; operations/ID to cancel")
    parser.add_argument("--hypothesis", metavar="NAME", help="show this hypothesis with its evidence")
    parser.add_argument("--report", type=Path, metavar="PATH", help="with show: write the report as HTML")
    parser.add_argument("--parquet", type=Path, metavar="PATH", help="with show: write every hypothesis as Parquet")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="with show --all: findings per view (default 20)")
    parser.add_argument("--all", action="store_true", help="with show: every finding by rank, as a table, instead of cards")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.action != "list" and not args.name:
        raise InputError(f"no name given: assay audits {args.action} ID", reason="NO_NAME")
    for path in (args.report, args.parquet):
        audit_command.check_folder(path)
    with connect(args) as client:
        if args.action == "list":
            _list(args, client)
        elif args.action == "show":
            _show(args, client)
        elif args.action == "cancel":
            client.operation(args.name).cancel()
            print(f"{args.name} is being cancelled")
        else:
            client.delete_audit(args.name)
            print(f"{args.name} is gone, with its hypotheses and decisions")
    return 0


def _list(args: argparse.Namespace, client: Client) -> None:
    every = list(client.audits())
    running = {one.status.progress.target: one.name for one in client.operations() if not one.done}
    if args.json:
        print(json.dumps([plain(one) | {"operation": running.get(one.name, "")} for one in every], indent=1))
    elif not every:
        print("no audit yet: assay audit FILE --report report.html")
    else:
        print(list_text(every, running))


def list_text(every: list[Audit], running: dict[str, str]) -> str:
    """Audits as a table; one that is under way with its operation's name."""
    rows = [["audit", "made", "state", "findings", "dataset", "name"]]
    for one in every:
        when = one.create_time.strftime("%Y-%m-%d %H:%M") if one.create_time else ""
        state = f"{one.state.value} {running[one.name]}" if one.name in running else one.state.value
        count = f"{sum(view.findings_controlled for view in one.views):,}" if one.views else ""
        rows.append([one.name, when, state, count, one.dataset, one_line(one.display_name)])
    return "\n".join(aligned(rows, left=set(range(len(rows[0]))) - {3}))


def _show(args: argparse.Namespace, client: Client) -> None:
    audit = client.get_audit(args.name)
    audit_command.export(args, client, audit)
    if args.hypothesis is None:
        audit_command.show(args, client, audit)
        return
    found = client.hypothesis(hypothesis_name(args.name, args.hypothesis), highlights=True)
    if args.json:
        print(json.dumps(plain(found), indent=1))
        return
    width = shutil.get_terminal_size((audit_command.DEFAULT_WIDTH, 24)).columns
    print("\n".join(hypothesis_lines(found, width=width)))


def hypothesis_lines(found: Hypothesis, *, width: int) -> list[str]:
    """One hypothesis with everything that speaks for and against it."""
    rows = [
        ("hypothesis", found.name),
        ("concept", concept_text(found.concept)),
        ("where", f"{condition_text(found.condition)}: {found.inside:,} pairs inside, {found.outside:,} outside"),
    ]
    rows.insert(2, ("family", found.concept.family))
    unit = " sd" if found.view is View.PROMPT_CONDITIONED else ""
    for name, effect in (("raw", found.raw), ("controlled", found.controlled)):
        if effect is not None:
            numbers = f"{effect_text(effect)}{unit}, z = {effect.z:+.2f}, p = {number(effect.p)}, q = {number(effect.q)}"
            rows.append((name, effect.reason or numbers))
    rows += known_rows(found)
    stable = "stable" if found.rank_stable else "not stable"
    rows.append(("rank", f"{found.rank}; by halves {found.rank_first_half} and {found.rank_second_half}: {stable}"))
    rows.append(("finding", "yes" if found.finding else "no"))
    if found.decision is not None:
        rows.append(("decided", decision_text(found.decision)))
    lines = [f"{name:<12}{text}" for name, text in rows]
    lines += evidence_lines("for it", found.supporting, width=width)
    return lines + evidence_lines("against it", found.contradicting, width=width)


def known_rows(found: Hypothesis) -> list[tuple[str, str]]:
    """What not every audit knows of a hypothesis: each with its scale."""
    rows: list[tuple[str, str]] = []
    if found.log_odds is not None:
        z = "" if found.log_odds_z is None else f", z = {found.log_odds_z:+.2f}"
        rows.append(("log-odds", f"{found.log_odds:+.3f} nats{z}"))
    if found.length_verdict is not None:
        weak = " (weaker, or undecided)" if found.length_verdict is LengthVerdict.WEAKENED else ""
        rows.append(("verdict", f"{found.length_verdict.value}{weak} once controlled for"))
    if found.only_chosen is not None and found.only_rejected is not None:
        rows.append(("pairs", f"{found.only_chosen:,} with it in chosen only, {found.only_rejected:,} in rejected only"))
    if found.carried_by is not None:
        left = found.left_without_top
        rest = "" if left is None else f"; without the strongest 5%, {share(left)} is left"
        rows.append(("carried by", f"half of the effect by {share(found.carried_by)} of the pairs{rest}"))
    return rows
