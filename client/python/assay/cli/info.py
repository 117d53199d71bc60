"""``assay info``: what the server has loaded, how well model and SAE fit together, and what it accepts."""

import argparse
import dataclasses
import json
from typing import Any

from assay.cli.connect import add_flags, connect
from assay.model import ModelInfo


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("info", help="what the server has loaded", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints it."""
    with connect(args) as client:
        model = client.model()
    print(json.dumps(dataclasses.asdict(model), indent=1) if args.json else _text(model))
    return 0


def _text(model: ModelInfo) -> str:
    template = model.template_fingerprint[:12] or "none: raw text only"
    rows = {
        "model": f"{model.model_id} ({model.model_architecture}, fingerprint {model.model_fingerprint[:12]})",
        "whole model": model.whole_model_fingerprint[:12] or "not kept: no log-probabilities, and no plan that needs them",
        "hook": f"{model.hook} ({model.hook_module}); {model.blocks_run} of {model.blocks_total} blocks run",
        "SAE": f"{model.sae_id} ({model.sae_architecture}, {model.d_in} -> {model.d_sae}, {model.sae_fingerprint[:12]})",
        "fit": f"explained variance {model.explained_variance:.3f}, L0 {model.mean_l0:.1f} on "
        f"{model.calibration_tokens} calibration tokens",
        "labels": f"{model.labelled_features} of {model.d_sae} features",
        "template": template,
        "runs on": f"{model.device} in {model.dtype}, context {model.context_tokens} tokens",
        "server": model.server_version,
        "overrides": "; ".join(model.overrides) or "none",
    }
    limits = {f"  {one.name}": f"{getattr(model.limits, one.name):,}" for one in dataclasses.fields(model.limits)}
    lines = [f"{name:<28}{value}" for name, value in (rows | {"limits": ""} | limits).items()]
    return "\n".join(line.rstrip() for line in lines)
