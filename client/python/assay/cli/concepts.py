"""``assay concepts``: stored concepts and feature clusters.

assay concepts                                            all concepts, newest first
assay concepts create NAME --from examples.jsonl          from examples; or feature/17, cluster/3, labels:TEXT, datasets/ID
assay concepts show ID                                    with its held-out report and its nearest features
assay concepts delete ID
assay concepts clusters                                   the SAE's feature clusters
assay concepts compute-clusters datasets/ID               makes them, from how features fire together on a dataset
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

from assay.cli.connect import add_flags, connect
from assay.cli.examples import read_examples
from assay.cli.findings import aligned, one_line, plain
from assay.cli.interrupts import interrupts
from assay.cli.reading import how
from assay.cli.test import METHODS
from assay.cli.watching import waited
from assay.client import Client
from assay.concepts import ConceptSource, FeatureCluster, FromCluster, FromDataset, FromLabels, StoredConcept
from assay.data.formats import As
from assay.errors import InputError
from assay.tensors import Tensor

ACTIONS = ["list", "create", "show", "delete", "clusters", "compute-clusters"]


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "concepts",
        help="stored concepts and feature clusters",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", default="list", choices=ACTIONS)
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="the concept, or the dataset of clusters")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="TEXT",
        help="with create: the concept's source, as above",
    )
    parser.add_argument("--id", default="", metavar="NAME", help="with create: the concept's id (default: made from the name)")
    parser.add_argument("--method", choices=METHODS, help="with create: how the concept is made from examples")
    parser.add_argument(
        "--as", dest="as_", choices=["auto", "chat", "text"], default="auto", help="how to read the prompts of examples"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of every random choice (default 0)")
    parser.add_argument("--top", type=int, default=50, metavar="N", help="with clusters: clusters to print (default 50)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.action not in ("list", "clusters") and not args.name:
        raise InputError(f"no name given: assay concepts {args.action} NAME", reason="NO_NAME")
    if args.action == "create" and not args.source:
        raise InputError(
            "a concept is made --from examples.jsonl, feature/17, cluster/3, labels:TEXT or datasets/ID", reason="NO_SOURCE"
        )
    with connect(args) as client, interrupts():
        _ACTIONS[args.action](args, client)
    return 0


def source_of(text: str, as_: As) -> ConceptSource:
    """What --from names; InputError where it names nothing."""
    kind, _, rest = text.partition("/")
    if kind == "feature" and rest.isdigit():
        return {int(rest): 1.0}
    if kind == "cluster" and rest.isdigit():
        return FromCluster(int(rest))
    if kind == "datasets" and not Path(text).exists():
        return FromDataset(text)
    if text.startswith("labels:"):
        return FromLabels(text.removeprefix("labels:"))
    if not Path(text).is_file():
        raise InputError(
            f"--from {text!r} is no file of examples, and not feature/17, cluster/3, labels:TEXT or datasets/ID",
            reason="NO_SUCH_SOURCE",
        )
    return read_examples(Path(text), as_)


def _list(args: argparse.Namespace, client: Client) -> None:
    every = list(client.concepts())
    if args.json:
        print(json.dumps(plain(every), indent=1))
    elif not every:
        print("no concept yet: assay concepts create NAME --from examples.jsonl")
    else:
        rows = [["concept", "made", "is", "held-out AUROC", "name"]]
        for one in every:
            when = one.create_time.strftime("%Y-%m-%d %H:%M") if one.create_time else ""
            auroc = f"{one.report.auroc:.3f}" if one.report else ""
            rows.append([one.name, when, kind_text(one), auroc, one_line(one.display_name)])
        print("\n".join(aligned(rows, left={0, 1, 2, 4})))


def _create(args: argparse.Namespace, client: Client) -> None:
    source = source_of(args.source, how(args, client.model()))
    method = METHODS[args.method] if args.method else None
    operation = client.create_concept(args.name, source, concept_id=args.id, method=method, seed=args.seed)
    _print(args, waited(operation, quiet=args.quiet))


def _show(args: argparse.Namespace, client: Client) -> None:
    _print(args, client.concept(args.name))


def _delete(args: argparse.Namespace, client: Client) -> None:
    client.delete_concept(args.name)
    print(f"{args.name} is gone; audits that tested it keep what they found")


def _clusters(args: argparse.Namespace, client: Client) -> None:
    every = list(islice(client.clusters(), args.top))
    if args.json:
        print(json.dumps(plain(every), indent=1))
    elif not every:
        print("no clusters yet: assay concepts compute-clusters datasets/ID")
    else:
        print(clusters_text(every))


def _compute_clusters(args: argparse.Namespace, client: Client) -> None:
    made = waited(client.compute_clusters(args.name, seed=args.seed), quiet=args.quiet)
    if args.json:
        print(json.dumps(plain(made), indent=1))
        return
    print(
        f"{made.clusters:,} clusters of {made.features:,} features, of {made.candidates:,} that fired often enough in "
        f"{made.samples:,} responses; {made.edges:,} edges"
    )


_ACTIONS = {
    "list": _list,
    "create": _create,
    "show": _show,
    "delete": _delete,
    "clusters": _clusters,
    "compute-clusters": _compute_clusters,
}


def _print(args: argparse.Namespace, concept: StoredConcept) -> None:
    print(json.dumps(plain(concept), indent=1) if args.json else "\n".join(concept_lines(concept)))


def concept_lines(concept: StoredConcept) -> list[str]:
    """A concept with what is known of it."""
    rows = [("concept", f"{concept.name} {one_line(concept.display_name)}"), ("is", kind_text(concept))]
    if (report := concept.report) is not None:
        rows += [
            ("fitted on", f"{report.fitted_positive:,} examples that show it, {report.fitted_negative:,} that do not"),
            ("held out", f"{report.held_out_positive:,} and {report.held_out_negative:,}"),
            ("AUROC", f"{report.auroc:.3f} [{report.auroc_low:.3f}, {report.auroc_high:.3f}]; 0.5 is chance"),
            ("random", f"{report.random_auroc:.3f} on average, {report.random_auroc_max:.3f} at most"),
            ("PR-AUC", f"{report.pr_auc:.3f}; {report.base_rate:.3f} is chance"),
            ("F1", f"{report.f1:.3f} at a threshold of {report.threshold:.4g}"),
        ]
    rows += [("near", f"feature/{one.feature} {one.cosine:+.3f} {one_line(one.label)}") for one in concept.nearest]
    return [f"{name:<12}{text}".rstrip() for name, text in rows]


def kind_text(concept: StoredConcept) -> str:
    """What is scored, in a few words."""
    kind = concept.kind
    if isinstance(kind, int):
        return f"feature/{kind}"
    if isinstance(kind, Tensor):
        how_made = f" by {concept.method.value.replace('_', ' ')}" if concept.method else ""
        return f"a direction{how_made}"
    return f"{len(kind)} features" if kind is not None else "unknown"


def clusters_text(every: list[FeatureCluster]) -> str:
    """Clusters as a table."""
    rows = [["cluster", "size", "features", "label"]]
    for one in every:
        first = " ".join(map(str, one.features[:8])) + (" …" if len(one.features) > 8 else "")
        rows.append([one.name, str(len(one.features)), first, one_line(one.label)])
    return "\n".join(aligned(rows, left={0, 2, 3}))
