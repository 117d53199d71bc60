"""``assay compare --dataset D --rollouts FILE --noise FILE``: whether training did what its data predicted.

ROLLOUTS holds pairs of a prompt, a response after training (chosen) and one before (rejected); NOISE two independent responses of
the model before training on the same prompts. MARGINS holds the trained policy's implicit-reward margins on preference pairs,
which say whether it moved at all: a number a line, {"margin": ...} a line, or a JSON list.
"""

import argparse
import gzip
import json
import math
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from assay.cli.audit import DEFAULT_WIDTH, check_folder
from assay.cli.connect import add_flags, connect
from assay.cli.findings import aligned, concept_text, plain
from assay.cli.interrupts import interrupts
from assay.cli.reading import add_reading_flags, say
from assay.cli.uploading import DATASET_HELP, dataset_of
from assay.cli.watching import begun, waited
from assay.comparisons import Agreement, ComparisonOptions, ConceptShift, Estimate, RolloutComparison
from assay.errors import InputError

LEGEND = (
    "shift: mean over pairs; + where the response after training, or the chosen one, expresses the concept more. noise: what\n"
    "two rollouts of the same model differ by. *: over the noise floor. with gap: squared correlation with predicted shift and\n"
    "imitation gap together. Labels are part of no figure."
)
_MARGIN_KEYS = ("margin", "rewards/margins", "margins")


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("compare", help="compare rollouts with what the data predicted", description=__doc__)
    parser.add_argument("--dataset", required=True, metavar="PATH", help=f"what the model was trained on: {DATASET_HELP}")
    parser.add_argument(
        "--rollouts", required=True, metavar="PATH", help="responses after training as chosen, before as rejected; or datasets/ID"
    )
    parser.add_argument(
        "--noise", required=True, metavar="PATH", help="two responses of the model before training; or datasets/ID"
    )
    parser.add_argument("--margins", type=Path, metavar="PATH", help="the trained policy's margins, for conclusions")
    parser.add_argument("--margins-of", default="", metavar="TEXT", help='display name of those pairs: "held-out pairs"')
    parser.add_argument("--plan", default="", metavar="NAME", help="the plan that the training applied")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="write a plot of observed against predicted shifts as SVG")
    parser.add_argument("--top", type=int, default=15, metavar="N", help="concepts to print (default 15)")
    parser.add_argument("--json", action="store_true", help="print the comparison as one JSON object, without the plot")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_reading_flags(parser)
    comparing = parser.add_argument_group("comparing", "every default is the method's own; the result says what was used")
    comparing.add_argument(
        "--concept", action="append", default=[], metavar="NAME", help="also compare this stored concept; repeatable"
    )
    comparing.add_argument("--tau", type=float, metavar="N", help="least share of tokens of an expressed feature (default 0.01)")
    comparing.add_argument("--level", type=float, metavar="N", help="coverage of intervals (default 0.95)")
    comparing.add_argument(
        "--min-telling", type=int, metavar="N", help="training pairs that must tell the sides apart (default 25)"
    )
    comparing.add_argument("--draws", type=int, metavar="N", help="bootstrap draws over prompts (default 1000)")
    comparing.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws (default 0)")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Uploads what the server lacks, compares, prints what follows and what does not."""
    check_folder(args.plot)
    margins = None if args.margins is None else margins_of(args.margins)
    options = ComparisonOptions(
        concepts=args.concept,
        tau=args.tau,
        interval_level=args.level,
        min_telling=args.min_telling,
        draws=args.draws,
        seed=args.seed,
        keep=min(5000, max(500, args.top)),
    )
    with connect(args) as client, interrupts():
        model = client.model()
        names = [
            dataset_of(argparse.Namespace(**{**vars(args), "file": file, "name": ""}), client, model).name
            for file in (args.dataset, args.rollouts, args.noise)
        ]
        asked = [*names, args.plan, str(options), str(margins), args.margins_of, str(model.identity)]
        operation = begun(
            "compare",
            asked,
            lambda request_id: client.compare_rollouts(
                *names,
                plan=args.plan,
                margins=margins,
                margins_of=args.margins_of,
                options=options,
                request_id=request_id,
            ),
        )
        found = waited(operation, quiet=args.quiet)
    if args.plot is not None:
        found.save_plot(args.plot)
        if not args.quiet:
            say(f"wrote {args.plot}")
    show(args, found)
    return 0


def margins_of(path: Path) -> list[float]:
    """The numbers of a file of margins. Raises InputError where one is none, with its place."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    if path.name.removesuffix(".gz").endswith(".json"):
        rows = [(f"entry {place}", value) for place, value in enumerate(_list(path, text))]
    else:
        lines = enumerate(text.splitlines(), 1)
        rows = [(f"line {number}", _line(line)) for number, line in lines if line.strip()]
    found: list[float] = []
    for place, value in rows:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{path.name}, {place}: no finite number, and no object with one under margin", reason="BAD_MARGINS")
        found.append(float(value))
    return found


def _list(path: Path, text: str) -> list[Any]:
    """The list of a JSON file, or that under "margins"."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path.name} is no JSON: {error}", reason="BAD_MARGINS") from None
    if isinstance(value, dict):
        value = cast(dict[str, Any], value).get("margins")
    if not isinstance(value, list):
        raise InputError(f'{path.name} holds no list of margins, and none under "margins"', reason="BAD_MARGINS")
    return [_margin(one) for one in cast(list[Any], value)]


def _line(line: str) -> Any:
    try:
        return _margin(json.loads(line))
    except ValueError:
        return None


def _margin(value: Any) -> Any:
    """A number, or that of an object under one of the names that trainers give it."""
    if not isinstance(value, dict):
        return value
    known = cast(dict[str, Any], value)
    return next((known[key] for key in _MARGIN_KEYS if key in known), None)


def show(args: argparse.Namespace, found: RolloutComparison) -> None:
    """Prints conclusions, figures and shifts; or all of it as JSON."""
    if args.json:
        said = plain(found)
        said.pop("plot_svg")
        print(json.dumps(said, indent=1))
        return
    width = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    for line in found.conclusions:
        print(textwrap.fill(line, width, initial_indent="- ", subsequent_indent="  "))
    print()
    print("\n".join(figure_lines(found)))
    if found.shifts[: args.top]:
        print()
        print("\n".join(shift_lines(found.shifts[: args.top], width=width)))
        print()
        print(LEGEND)


def figure_lines(found: RolloutComparison) -> list[str]:
    """The three agreements under each other."""
    rows = [["over", "concepts", "squared Pearson", "with gap", "R²", "Spearman", "slope"]]
    for name, one in (("retained", found.retained), ("above noise", found.above_noise), ("noise itself", found.noise_floor)):
        rows.append([name, f"{one.concepts:,}", *_figures(one)])
    return aligned(rows, left={0})


def _figures(one: Agreement) -> list[str]:
    return [_estimate(value) for value in (one.pearson_squared, one.with_gap, one.r_squared, one.spearman, one.slope)]


def _estimate(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def shift_lines(shifts: Sequence[ConceptShift], *, width: int) -> list[str]:
    """The shifts as a table of lines of `width` characters."""
    rows = [["", "concept", "predicted", "observed", "noise"]]
    for one in shifts:
        observed = f"{one.observed.value:+.3f} [{one.observed.low:+.3f}, {one.observed.high:+.3f}]"
        mark = "*" if one.clears_noise else ""
        rows.append([mark, concept_text(one.concept), f"{one.predicted:+.3f}", observed, f"{one.noise:+.3f}"])
    return aligned(rows, left={0, 1}, shrinking={1}, width=width)
