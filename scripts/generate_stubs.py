"""Generates the Python stubs under client/python/assay/v1 from proto/, byte for byte the same on every machine.

Invariants:

- One pinned protoc writes them. `GRPCIO_TOOLS` is unpacked into the ignored `.build/protoc-VERSION`, apart from the
  virtual environment: generated code refuses a runtime older than its generator, so the pin is the floor of `assay`'s
  own dependencies (grpcio>=1.80, protobuf>=6.33), while the environment is free to hold newer ones.
- `google/rpc/*.proto` come from the installed googleapis-common-protos; no copy of theirs is kept in the repository.
- A `_pb2_grpc.py` is written only for a file that defines a service.

    python scripts/generate_stubs.py            writes the stubs
    python scripts/generate_stubs.py --check    fails, naming the files, if the committed stubs differ
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

GRPCIO_TOOLS = "1.80.0"

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
STUBS = ROOT / "client" / "python"
PACKAGE = Path("assay") / "v1"
INIT = '"""Generated from proto/assay/v1 by `make proto`. Do not edit."""\n'


def main(argv: list[str] | None = None) -> int:
    """Writes or checks the stubs; returns the process's exit status."""
    parser = argparse.ArgumentParser(description="Generate the Python stubs of the contract.")
    parser.add_argument("--check", action="store_true", help="compare with the committed stubs instead of writing them")
    check: bool = parser.parse_args(argv).check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        if check:
            return report(stale(fresh / PACKAGE, STUBS / PACKAGE))
        replace(fresh / PACKAGE, STUBS / PACKAGE)
    return 0


def generate(out: Path) -> None:
    """Writes all stubs under `out`; raises `subprocess.CalledProcessError` if protoc refuses a file."""
    files = sorted(PROTO.rglob("*.proto"))
    services = [file for file in files if "\nservice " in file.read_text(encoding="utf-8")]
    protoc(files, f"--python_out={out}", f"--pyi_out={out}")
    protoc(services, f"--grpc_python_out={out}")
    (out / PACKAGE / "__init__.py").write_text(INIT, encoding="utf-8")


def protoc(files: list[Path], *options: str) -> None:
    """Runs the pinned protoc on `files` with the include paths of this project."""
    tools = pinned_tools()
    includes = [f"-I{PROTO}", f"-I{sysconfig.get_paths()['purelib']}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *options, *map(str, files)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(tools)})


def pinned_tools() -> Path:
    """The folder that holds the pinned grpcio-tools; installed there, without dependencies, on first use."""
    tools = ROOT / ".build" / f"protoc-{GRPCIO_TOOLS}"
    if not (tools / "grpc_tools").is_dir():
        tools.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tools.parent) as scratch:
            target = Path(scratch) / "tools"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--target", str(target), f"grpcio-tools=={GRPCIO_TOOLS}"], check=True)
            shutil.rmtree(tools, ignore_errors=True)
            target.rename(tools)
    return tools


def stale(fresh: Path, committed: Path) -> list[str]:
    """Names of the generated files that are missing, changed or no longer generated in `committed`."""
    return sorted(
        name for name in generated(fresh) | generated(committed) if content(fresh / name) != content(committed / name)
    )


def generated(folder: Path) -> set[str]:
    """Names of the files in `folder` that this script answers for."""
    return {path.name for path in folder.glob("*.py*") if path.is_file()}


def content(path: Path) -> bytes | None:
    """The file's bytes, or None where there is no such file."""
    return path.read_bytes() if path.is_file() else None


def replace(fresh: Path, committed: Path) -> None:
    """Makes the generated files in `committed` those of `fresh`, touching only files that differ."""
    committed.mkdir(parents=True, exist_ok=True)
    for name in stale(fresh, committed):
        (committed / name).unlink(missing_ok=True)
        if (fresh / name).is_file():
            shutil.copyfile(fresh / name, committed / name)


def report(names: list[str]) -> int:
    """Prints what is stale; returns the exit status."""
    for name in names:
        print(f"stale stub: {(STUBS / PACKAGE / name).relative_to(ROOT)}", file=sys.stderr)
    if names:
        print("Run `make proto` and commit the result.", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
