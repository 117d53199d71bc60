"""``assay test FILE --concept CONCEPT``: one stated hypothesis about a dataset, tested alone and corrected for nothing else.

CONCEPT is feature/17, cluster/3, concepts/ID or examples.jsonl from which a concept is made first (`assay.cli.examples`
has its lines). --where and --where-prompt say where it should hold; everywhere, unless they do.
"""

import argparse
import json
import shutil
from typing import Any

from assay.audits import AuditOptions
from assay.cli.audit import DEFAULT_WIDTH, add_statistics_flags
from assay.cli.connect import add_flags, connect
from assay.cli.examples import Named, concept_of
from assay.cli.findings import condition_text, effect_text, evidence_lines, number, one_line, plain
from assay.cli.interrupts import interrupts
from assay.cli.reading import add_reading_flags, how
from assay.cli.uploading import DATASET_HELP, dataset_of
from assay.cli.watching import begun, waited
from assay.concepts import ProbeMethod, StoredConcept
from assay.errors import InputError
from assay.hypotheses import Hypothesis

METHODS = {one.value.replace("_", "-"): one for one in ProbeMethod}
SHOWN = 3  # pairs of evidence, a side


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("test", help="test one hypothesis of your own", description=__doc__)
    parser.add_argument("file", metavar="PATH", help=DATASET_HELP)
    about = "feature/17, feature/17@max, cluster/3, text/ID, word/PHRASE, concepts/ID or examples.jsonl"
    parser.add_argument("--concept", required=True, metavar="NAME", help=about)
    parser.add_argument("--where", metavar="TEXT", help="only pairs with metadata KEY=VALUE, or in audits/ID/conditions/NAME")
    parser.add_argument("--where-prompt", metavar="NAME", default="", help="only pairs whose prompt expresses this concept")
    parser.add_argument("--method", choices=METHODS, help="how a concept is made from examples (default difference-of-means)")
    parser.add_argument("--name", default="", metavar="TEXT", help="display name of the dataset (default: the file's name)")
    parser.add_argument("--json", action="store_true", help="print the hypothesis as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_reading_flags(parser)
    add_statistics_flags(parser.add_argument_group("testing"))
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Uploads, makes the concept, tests it, prints the answer."""
    where = condition_of(args)
    options = AuditOptions(tau=args.tau, q_level=args.q, nuisances=args.control, seed=args.seed)
    method = METHODS[args.method] if args.method else None
    with connect(args) as client, interrupts():
        model = client.model()

        def named(text: str) -> Named:
            return concept_of(text, client, how(args, model), method=method, seed=args.seed, quiet=args.quiet)

        concept = named(args.concept)
        prompt = named(args.where_prompt).name if args.where_prompt else ""
        dataset = dataset_of(args, client, model)
        asked = [dataset.name, concept.name, str(where), prompt, str(model.identity)]
        asked.append(options.to_proto().SerializeToString(deterministic=True).hex())
        operation = begun(
            "test",
            asked,
            lambda request_id: client.test(
                dataset, concept.name, where=where, where_prompt=prompt, options=options, request_id=request_id
            ),
        )
        found = waited(operation, quiet=args.quiet)
    if args.json:
        print(json.dumps({"concept": plain(concept.made), "hypothesis": plain(found)}, indent=1))
        return 0
    width = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    print("\n".join(answer_lines(found, concept.made, args.q if args.q is not None else 0.05, width=width)))
    return 0


def condition_of(args: argparse.Namespace) -> tuple[str, str] | str | None:
    """What --where says; InputError where it says nothing that can be, or there are two conditions."""
    if args.where is None:
        return None
    if args.where_prompt:
        raise InputError("a hypothesis has one condition: give --where or --where-prompt", reason="TWO_CONDITIONS")
    if args.where.startswith("audits/"):
        return args.where
    key, sign, value = args.where.partition("=")
    if not sign or not key:
        raise InputError(
            f"--where {args.where!r} is neither KEY=VALUE of the pairs' metadata nor audits/ID/conditions/NAME",
            reason="BAD_WHERE",
        )
    return key, value


def answer_lines(found: Hypothesis, made: StoredConcept | None, level: float, *, width: int) -> list[str]:
    """The answer, what it rests on, and how good the concept is."""
    label = f" {one_line(found.concept.label)}" if found.concept.label else ""
    rows = [("concept", f"{found.concept.name}{label}")]
    if made is not None and made.report is not None:
        report = made.report
        rivals = "random sets of features" if made.method is ProbeMethod.FEATURES else "random directions"
        rows.append(
            (
                "made from",
                f"{report.fitted_positive + report.held_out_positive:,} examples that show it and "
                f"{report.fitted_negative + report.held_out_negative:,} that do not",
            )
        )
        rows.append(
            (
                "held out",
                f"AUROC {report.auroc:.3f} [{report.auroc_low:.3f}, {report.auroc_high:.3f}]; "
                f"{rivals} {report.random_auroc:.3f}, at most {report.random_auroc_max:.3f}",
            )
        )
    pairs = f"{found.inside:,} pairs" + (f" inside, {found.outside:,} outside" if found.condition is not None else "")
    rows.append(("where", f"{condition_text(found.condition)}: {pairs}, {found.prompts:,} prompts that tell them apart"))
    for name, effect in (("raw", found.raw), ("controlled", found.controlled)):
        if effect is not None:
            detail = effect.reason or f"{effect_text(effect)}, z = {effect.z:+.2f}, p = {number(effect.p)}"
            rows.append((name, detail))
    rows.append(("answer", verdict(found, level)))
    lines = [f"{name:<12}{text}" for name, text in rows]
    lines += evidence_lines("for it", found.supporting[:SHOWN], width=width)
    lines += evidence_lines("against it", found.contradicting[:SHOWN], width=width)
    return lines


def verdict(found: Hypothesis, level: float) -> str:
    """The answer in a sentence."""
    effect = found.effect
    where = "" if found.condition is None else " there than elsewhere"
    if effect.reason:
        return f"it cannot be told. {effect.reason}"
    if effect.p > level:
        return f"no: p = {number(effect.p)} is over {level:g}" + _only_raw(found, level)
    more = "more" if effect.estimate > 0 else "less"
    return f"yes: chosen responses express it {more}{where} (p = {number(effect.p)}, of this one test)"


def _only_raw(found: Hypothesis, level: float) -> str:
    return "; raw it passes, so that what is controlled for explains it" if found.controlled and found.raw.p <= level else ""
