"""``make demo``: a server with the demo model and SAE, the sample pairs (or yours) streamed through it and audited.

    python -m demo [--pairs FILE] [--out FOLDER] [--top 12] [--metadata KEY] [--dtype auto] [--redis-url URL]

It ends with the audit's findings and the report in out/report.html. The sample's hidden lesson (demo/assets/PAIRS.md) stands
out there: formatting everywhere, and flattery where the topic is own-writing.

Everything it does is a command that you could type: it prints each one, starts with ``$``, then runs it. The server listens on
a free loopback port and stops when the demo ends, however it ends.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from demo.model import DemoModelError, ensure_model
from demo.wheels import WheelError

ASSETS = Path(__file__).parent / "assets"
START_SECONDS = 300.0
STOP_SECONDS = 40.0


class DemoFailed(RuntimeError):
    """A step of the demo did not work; the message says which and what to look at."""


def main() -> int:
    """Run the demo; returns the exit code."""
    args = _arguments()
    try:
        if not args.pairs.exists():
            raise DemoFailed(f"{args.pairs} is not there; PAIRS takes a .jsonl, .jsonl.gz or .parquet file of preference pairs")
        model = ensure_model(progress=_say)
        with tempfile.TemporaryDirectory(prefix="assay-demo-") as scratch, _server(model, args, Path(scratch)) as address:
            scores = args.out / f"{args.pairs.name.split('.')[0]}.parquet"
            _assay("info", "--address", address)
            flags = ["--out", str(scores), "--overwrite", "--include-features", "--include-prompt", "--address", address]
            _assay("score", str(args.pairs), *flags)
            _assay("summarize", str(scores), "--top", str(args.top), "--address", address)
            report = args.out / "report.html"
            flags = [word for key in _metadata(args) for word in ("--metadata", key)]
            files = ["--report", str(report), "--parquet", str(args.out / "hypotheses.parquet")]
            _assay("audit", str(args.pairs), *files, *flags, "--top", str(args.top), "--address", address)
        _say(f"The scores are in {scores}: one row a pair, for pandas, DuckDB or `assay summarize`.")
        _say(f"The report is {report}: open it in a browser, no network needed.")
    except (DemoFailed, DemoModelError, WheelError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; the server has stopped", file=sys.stderr)
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, default=ASSETS / "pairs.jsonl", help="preference pairs (default: the sample pairs)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of scores and report (default: out)")
    parser.add_argument("--top", type=int, default=12, help="features and findings to print (default: 12)")
    parser.add_argument(
        "--metadata",
        action="append",
        metavar="KEY",
        help="audit where it has each value too (default: topic, of the sample pairs)",
    )
    parser.add_argument("--dtype", default="auto", help="float32 or bfloat16 (default: what suits the device)")
    parser.add_argument("--redis-url", default="", help="cache in this Redis instead of in the server's memory")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def _metadata(args: argparse.Namespace) -> list[str]:
    """Keys whose values are conditions of the audit."""
    if args.metadata is not None:
        return args.metadata
    return ["topic"] if args.pairs.resolve() == (ASSETS / "pairs.jsonl").resolve() else []


@contextmanager
def _server(model: Path, args: argparse.Namespace, scratch: Path) -> Generator[str]:
    """A server's address; it has stopped when the block ends."""
    ready, log = scratch / "ready.json", scratch / "server.log"
    flags = ["--model", str(model), "--sae", str(ASSETS / "sae"), "--labels", str(ASSETS / "labels.jsonl.gz")]
    flags += ["--dtype", args.dtype, "--port", "0", "--metrics-port", "-1", "--ready-file", str(ready)]
    flags += ["--data-dir", str(scratch / "data"), "--audits-reuse-cache"]  # the pairs were read a moment ago
    flags += ["--redis-url", args.redis_url] if args.redis_url else []
    _show("serve", *flags)
    with log.open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-m", "assay", "serve", *flags], stderr=sink, stdout=sink)
    try:
        where = _wait_until_ready(process, ready, log)
        _say(f"serving on {where['host']}:{where['port']}, metrics on http://{where['host']}:{where['metrics_port']}/metrics")
        yield f"{where['host']}:{where['port']}"
    finally:
        _stop(process, log)


def _wait_until_ready(process: "subprocess.Popen[bytes]", ready: Path, log: Path) -> dict[str, str]:
    began = time.monotonic()
    while time.monotonic() - began < START_SECONDS:
        if process.poll() is not None:
            raise DemoFailed(f"the server ended with code {process.returncode} before it was ready:\n{_tail(log)}")
        if ready.exists():
            return json.loads(ready.read_text())
        time.sleep(0.1)
    raise DemoFailed(f"the server was not ready after {START_SECONDS:.0f} s:\n{_tail(log)}")


def _stop(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise DemoFailed(f"the server did not stop within {STOP_SECONDS:.0f} s and was killed:\n{_tail(log)}") from None
    if process.returncode != 0:
        raise DemoFailed(f"the server ended with code {process.returncode}:\n{_tail(log)}")
    _say("the server has stopped")


def _assay(*words: str) -> None:
    """Run an ``assay`` command in the foreground."""
    _show(*words)
    code = subprocess.run([sys.executable, "-m", "assay", *words], env=os.environ, check=False).returncode
    if code:
        raise DemoFailed(f"`assay {words[0]}` ended with code {code}")


def _show(*words: str) -> None:
    print(f"\n$ assay {shlex.join(_short(word) for word in words)}", flush=True)


def _short(word: str) -> str:
    """Paths below here or the home folder, as one would type them."""
    for base, sign in ((Path.cwd(), ""), (Path.home(), "~/")):
        if word.startswith(f"{base}/"):
            return sign + word.removeprefix(f"{base}/")
    return word


def _say(text: str) -> None:
    print(text, flush=True)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


if __name__ == "__main__":
    sys.exit(main())
