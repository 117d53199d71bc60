"""``assay datasets``: the pairs that the server keeps.

assay datasets                    all of them, newest first
assay datasets delete ID          with their features
"""

import argparse
import json
from typing import Any

from assay.cli.connect import add_flags, connect
from assay.cli.findings import aligned, one_line, plain
from assay.errors import InputError


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "datasets",
        help="list and delete stored datasets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", default="list", choices=["list", "delete"])
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="datasets/ID or ID")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.action == "delete" and not args.name:
        raise InputError("no name given: assay datasets delete ID", reason="NO_NAME")
    with connect(args) as client:
        if args.action == "delete":
            client.delete_dataset(args.name)
            print(f"{args.name} is gone, with its features")
            return 0
        every = list(client.datasets())
    if args.json:
        print(json.dumps(plain(every), indent=1))
        return 0
    rows = [["dataset", "made", "pairs", "prompts", "metadata", "name"]]
    for one in every:
        when = one.create_time.strftime("%Y-%m-%d %H:%M") if one.create_time else ""
        keys = one_line(", ".join(one.metadata_keys))
        rows.append([one.name, when, f"{one.pairs:,}", f"{one.prompts:,}", keys, one_line(one.display_name)])
    print("\n".join(aligned(rows, left={0, 1, 4, 5})) if every else "no dataset yet: assay audit FILE")
    return 0
