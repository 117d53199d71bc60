"""``make loop``: audit, decide, plan, train with and without the plan, compare rollouts, one HTML page.

    python -m demo.loop [--pairs FILE] [--out out/loop.html] [--decide] [--train 96] [--strength 2]

A server is started with the demo model and SAE and keeps the whole model (``--whole-model``). It audits the shortest pairs of the
file; the finding that is decided about (by default the first that chosen responses show more of; ``--decide`` asks you) is
explained away by reward shaping. Two LoRA policies are trained by DPO on the same pairs in the same order, one with the plan. All
of them answer prompts that neither has seen, the server compares what they wrote with what it predicted, and the page says it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from demo import ASSETS
from demo.loop.serving import LoopFailed
from demo.model import DemoModelError, ensure_model
from demo.wheels import WheelError


def main(arguments: list[str] | None = None) -> int:
    """Run the loop; returns the exit code."""
    args = _arguments(arguments)
    try:
        if not args.pairs.exists():
            raise LoopFailed(f"{args.pairs} is not there; PAIRS takes a .jsonl, .jsonl.gz or .parquet file of preference pairs")
        model = args.model or ensure_model(progress=_say)
        _use_cores(args.threads)
        from demo.loop.run import Loop

        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="assay-loop-") as scratch:
            Loop(args, model, Path(scratch), _say).run()
        _say(f"The page is {args.out}: open it in a browser, no network needed. The loop took {time.monotonic() - began:.0f} s.")
    except (LoopFailed, DemoModelError, WheelError) as error:
        print(f"loop: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("loop: interrupted; the server has stopped", file=sys.stderr)
        return 130
    return 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo.loop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, default=ASSETS / "pairs.jsonl", help="preference pairs (default: the sample pairs)")
    parser.add_argument("--out", type=Path, default=Path("out/loop.html"), help="the page (default: out/loop.html)")
    parser.add_argument("--decide", action="store_true", help="ask which finding to decide about, and what")
    parser.add_argument("--strength", type=float, default=2.0, help="of the plan, λ (default: 2)")
    parser.add_argument("--train", type=int, default=96, help="pairs to train on, at most (default: 96)")
    parser.add_argument("--held-out", type=int, default=24, help="pairs for the positive control (default: 24)")
    parser.add_argument("--prompts", type=int, default=64, help="unseen prompts to roll out on, at most (default: 64)")
    parser.add_argument("--tokens", type=int, default=48, help="of a rollout, at most (default: 48)")
    parser.add_argument("--longest", type=int, default=200, help="tokens of a pair's longer side, at most (default: 200)")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=4, help="pairs (default: 4)")
    parser.add_argument("--dtype", default="bfloat16", help="of policy and server (default: bfloat16)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of this process (default: one a core)")
    parser.add_argument("--model", type=Path, default=None, help="folder of a chat model (default: the demo model)")
    parser.add_argument("--sae", type=Path, default=ASSETS / "sae", help="folder of its SAE (default: the demo SAE)")
    parser.add_argument("--labels", type=Path, default=None, help="feature labels (default: the demo SAE's, with it)")
    parser.add_argument("--serve", default="", metavar="FLAGS", help="more flags of `assay serve`, as one word")
    args = parser.parse_args(arguments)
    if args.labels is None and args.sae == ASSETS / "sae":
        args.labels = ASSETS / "labels.jsonl.gz"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    return args


def _use_cores(threads: int) -> None:
    """Before torch is loaded: the server's process computes only while this one waits for it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    if threads or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads or os.cpu_count() or 1)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
