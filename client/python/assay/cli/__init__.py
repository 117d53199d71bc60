"""The command line: ``assay serve | info | score | summarize | audit | test | decide | ...``.

    assay serve --model ... --sae ...                     starts a server (needs assay[server])
    assay info                                            what the server has loaded
    assay score pairs.jsonl --out scores.parquet          scores a file; the same command goes on after an interruption
    assay summarize scores.parquet                        what the pairs teach, feature by feature
    assay audit pairs.jsonl --report report.html          the same, tested, corrected, controlled for length
    assay test pairs.jsonl --concept examples.jsonl       one hypothesis of your own
    assay decide AUDIT HYPOTHESIS explain-away            records a decision; assay decisions lists them
    assay plan AUDIT                                      the decisions, compiled, with what to expect; assay plans lists
    assay offsets PLAN pairs.jsonl --out offsets.parquet  what goes inside the sigmoid of each pair
    assay dataplan PLAN --out plan.parquet                weights, flips, masks and texts, pair by pair
    assay compare --dataset D --rollouts R --noise N      whether training did what its data predicted
    assay audits | datasets | concepts                    what the server keeps

| exit code | meaning                                                                          |
|-----------|----------------------------------------------------------------------------------|
| 0         | done; pairs that could not be scored are counted, named in the output, and no failure |
| 1         | the server failed, or answered what the contract does not allow                  |
| 2         | the command, the installation, the input file or the request is at fault         |
| 3         | the server is not there, not ready, or too busy; a scores file can be resumed    |
| 4         | --strict, and a row could not be read or a pair not scored; can be resumed       |
| 130       | interrupted by Ctrl-C or SIGTERM; can be resumed, and an audit goes on meanwhile |

Invariant: standard output carries results only; progress, summaries of a run and errors go to standard error.
"""

import argparse
import sys
from collections.abc import Sequence

from assay.cli import (
    audit,
    audits,
    compare,
    concepts,
    dataplan,
    datasets,
    decide,
    info,
    offsets,
    plan,
    score,
    summarize,
    test,
)
from assay.cli.reading import StrictStop
from assay.errors import (
    AssayError,
    ConnectionFailed,
    DeadlineExceeded,
    InputError,
    InvalidRequest,
    MissingExtra,
    NotReady,
    Overloaded,
    Unauthenticated,
)
from assay.extras import server_command
from assay.version import __version__

_USAGE = 2
_ABSENT = 3
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code of the table above."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["serve"]:
            return int(server_command("serve")(arguments[1:]))
        args = _parser().parse_args(arguments)
        return int(args.run(args))
    except AssayError as error:
        print(f"assay: {error}", file=sys.stderr)
        return _code(error)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of a pipe has seen enough
            sys.stderr.close()
            return 1
        print(f"assay: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        print("assay: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _code(error: AssayError) -> int:
    if isinstance(error, StrictStop):
        return 4
    if isinstance(error, ConnectionFailed | NotReady | Overloaded | DeadlineExceeded):
        return _ABSENT
    usage = (InputError, InvalidRequest, MissingExtra, Unauthenticated, score.Refused)
    return _USAGE if isinstance(error, usage) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="assay",
        description="Reads what preference pairs teach a language model, through its own sparse autoencoder.",
        epilog="exit codes: 0 done; 1 server fault; 2 wrong command, input or request; 3 no server, not ready or too busy; "
        "4 stopped by --strict; 130 interrupted. After 3, 4 and 130 the same command goes on where it stopped.",
    )
    parser.add_argument("--version", action="version", version=f"assay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("serve", help="start a server (assay serve --help)", add_help=False)
    for module in (info, score, summarize, audit, test, decide, plan, offsets, dataplan, compare, audits, datasets, concepts):
        module.add_command(commands)
    return parser
