"""``assay plan DATASET|AUDIT`` and ``assay plans``: what to do about what was found, and what to expect of it.

A plan is made from the decisions that `assay decide` recorded on an audit (the last one on each hypothesis counts, KEEP is left
out), or from concepts given here. It trains nothing: it says what training would shift with it, what else would move along, and
what speaks against it.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from typing import Any

from assay.cli.connect import add_flags, connect
from assay.cli.findings import aligned, concept_text, one_line, plain
from assay.cli.reading import say
from assay.cli.watching import begun, waited
from assay.client import Client
from assay.errors import InputError
from assay.interventions import (
    EditedSpan,
    Intervene,
    Intervention,
    InterventionFamily,
    InterventionMode,
    InterventionParameters,
    Plan,
    ResponseSide,
    decided,
)

FAMILIES = {one.value.replace("_", "-"): one for one in InterventionFamily}
MODES = {one.value.replace("_", "-"): one for one in InterventionMode}
SPANS = {one.value.replace("_", "-"): one for one in EditedSpan}
DEFAULT_WIDTH = 150
_SIDE_EFFECTS = 3  # of each intervention, in the table


def add_command(commands: Any) -> None:
    """Adds both commands."""
    parser = commands.add_parser("plan", help="compile decisions into what a trainer applies", description=__doc__)
    parser.add_argument("source", metavar="NAME", help="audits/ID, for its decisions; or datasets/ID")
    parser.add_argument(
        "--concept",
        action="append",
        default=[],
        metavar="NAME",
        help="use this concept, not the decisions; repeatable",
    )
    parser.add_argument("--mode", choices=MODES, help="direction of the intervention on each --concept")
    parser.add_argument("--strength", type=float, metavar="N", help="lambda, at least 0 (default: the decision's, else 1)")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="family (default reward-shaping); repeatable")
    parser.add_argument("--name", default="", metavar="TEXT", help="display name (default: the dataset's)")
    parser.add_argument("--json", action="store_true", help="print the plan as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    knobs = parser.add_argument_group("parameters", "of every intervention; a family refuses those that it does not read")
    knobs.add_argument("--coefficient", type=float, metavar="N", help="factor of the unit direction (default: measured)")
    knobs.add_argument("--share", type=float, metavar="N", help="share of the pairs to change (default 0.05 or 0.1)")
    knobs.add_argument("--span", choices=SPANS, help="tokens whose residual changes (default final-turn-on)")
    knobs.add_argument("--side", choices=[one.value for one in ResponseSide], help="responses that change (default both)")
    knobs.add_argument("--prompt", default="", metavar="TEXT", help="prompt text that asks for the concept")
    add_flags(parser)
    parser.set_defaults(run=run)
    listing = commands.add_parser("plans", help="list, show, delete plans", description="Plans, newest first; or one in full.")
    listing.add_argument("plan", nargs="?", default="", metavar="NAME", help="plans/ID to show, or datasets/ID to list its plans")
    listing.add_argument("--delete", action="store_true", help="delete the plan")
    listing.add_argument("--json", action="store_true", help="print JSON")
    add_flags(listing)
    listing.set_defaults(run=run_list)


def run(args: argparse.Namespace) -> int:
    """Makes a plan, or finds the same one again, and prints it."""
    with connect(args) as client:
        dataset, interventions = asked(client, args)
        parts = [dataset, *(one.to_proto().SerializeToString(deterministic=True).hex() for one in interventions), args.name]
        parts.append(str(client.model().identity))
        operation = begun(
            "plan",
            parts,
            lambda request_id: client.create_plan(dataset, interventions, display_name=args.name, request_id=request_id),
        )
        if operation.done and not args.quiet:
            say("the same plan was made before, and is shown again")
        plan = waited(operation, quiet=args.quiet)
    print(json.dumps(plain(plan), indent=1) if args.json else text(plan, width=_width()))
    if not args.quiet:
        say(next_steps(plan))
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Lists plans, shows one, or deletes it."""
    with connect(args) as client:
        named = bool(args.plan) and not args.plan.startswith("datasets/")
        if args.delete:
            if not named:
                raise InputError("--delete takes the plan's name", reason="NO_PLAN")
            client.delete_plan(args.plan)
            say(f"deleted {args.plan}")
            return 0
        found = [client.plan(args.plan)] if named else list(client.plans(args.plan))
    if args.json:
        print(json.dumps(plain(found[0] if named else found), indent=1))
    elif named:
        print(text(found[0], width=_width()))
    else:
        print(listed(found) if found else "no plan yet: assay plan AUDIT")
    return 0


def asked(client: Client, args: argparse.Namespace) -> tuple[str, list[Intervene]]:
    """The dataset's name, and what to do: about the concepts that the flags name, else about what was decided."""
    if args.strength is not None and not args.strength >= 0:
        raise InputError(f"--strength {args.strength} is under 0: the mode says the direction", reason="BAD_STRENGTH")
    is_dataset = args.source.startswith("datasets/")
    families = [FAMILIES[one] for one in args.family or ["reward-shaping"]]
    mode = MODES[args.mode] if args.mode else None
    parameters = parameters_of(args)
    if args.concept:
        if mode is None:
            raise InputError("--concept takes --mode explain-away or amplify", reason="MISSING_MODE")
        dataset = args.source if is_dataset else client.get_audit(args.source).dataset
        about: list[Any] = args.concept
    else:
        audits = list(client.audits(args.source)) if is_dataset else [client.get_audit(args.source)]
        dataset = args.source if is_dataset else audits[0].dataset
        about = [one.about for audit in audits for one in decided(list(client.decisions(audit)))]
        if not about:
            raise InputError(
                f"nothing was decided on {args.source}: assay decide AUDIT HYPOTHESIS explain-away|amplify, or give --concept",
                reason="NO_DECISION",
            )
    return dataset, [Intervene(one, mode, args.strength, family, parameters) for one in about for family in families]


def parameters_of(args: argparse.Namespace) -> InterventionParameters:
    """The options that the flags give."""
    return InterventionParameters(
        coefficient=args.coefficient,
        share=args.share,
        span=SPANS[args.span] if args.span else None,
        side=ResponseSide(args.side) if args.side else None,
        prompt=args.prompt,
    )


def text(plan: Plan, *, width: int) -> str:
    """Expected effects as a table, then side effects and warnings of each intervention."""
    head = ["id", "concept", "what", "mode", "strength", "telling pairs", "shift", "with plan", "mean |o|", "rows"]
    rows = [head, *(_row(one) for one in plan.interventions)]
    lines = [
        f"{plan.name}: {len(plan.interventions)} interventions for {plan.dataset}, {plan.pairs:,} pairs"
        + (f" ({plan.unusable_pairs:,} unusable)" if plan.unusable_pairs else ""),
        *aligned(rows, left={0, 1, 2, 3}, shrinking={1}, width=width),
    ]
    for one in plan.interventions:
        lines += [f"  {_id(one)} warning, {warning.code}: {one_line(warning.text)}" for warning in one.warnings]
        lines += _side_lines(one)
    return "\n".join(lines)


def listed(plans: Sequence[Plan]) -> str:
    """Plans as a table."""
    rows = [["plan", "made", "dataset", "name", "interventions", "warnings"]]
    for plan in plans:
        when = plan.create_time.strftime("%Y-%m-%d %H:%M") if plan.create_time else ""
        warnings = sum(len(one.warnings) for one in plan.interventions)
        what = ", ".join(dict.fromkeys(one.family.value.replace("_", "-") for one in plan.interventions))
        rows.append([plan.name, when, plan.dataset, one_line(plan.display_name), what, str(warnings)])
    return "\n".join(aligned(rows, left={0, 1, 2, 3, 4}))


def next_steps(plan: Plan) -> str:
    """What to do with it."""
    short = plan.name.removeprefix("plans/")
    return (
        f"offsets of pairs     assay offsets {short} FILE --out offsets.parquet --beta 0.1\n"
        f"rows, weights, masks assay dataplan {short} --out plan.parquet\n"
        "in a trainer         assay.trl and assay.hooks; docs/recipes-trl.md"
    )


def _row(one: Intervention) -> list[str]:
    expected = one.expected
    return [
        _id(one),
        concept_text(one.concept),
        one.family.value.replace("_", "-"),
        one.mode.value.replace("_", "-"),
        f"{one.strength:g}",
        f"{expected.telling_pairs:,}",
        f"{expected.shift_before:+.3f}",
        _shift(expected.shift_after),
        "" if expected.mean_offset is None else f"{expected.mean_offset:.2f}",
        f"{expected.rows:,}" if expected.rows else "",
    ]


def _side_lines(one: Intervention) -> list[str]:
    return [
        f"  {_id(one)} moves along: {concept_text(effect.concept)} (r = {effect.correlation:+.2f}), "
        f"{effect.shift_before:+.3f} -> {_shift(effect.shift_after)}"
        for effect in one.side_effects[:_SIDE_EFFECTS]
    ]


def _shift(value: float | None) -> str:
    return "not known" if value is None else f"{value:+.3f}"


def _id(one: Intervention) -> str:
    return one.name.rpartition("/")[2]


def _width() -> int:
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
