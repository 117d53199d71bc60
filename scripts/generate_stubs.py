"""Generates the contract's stubs from proto/, byte for byte the same on every machine.

    python scripts/generate_stubs.py python             writes client/python/assay/v1
    python scripts/generate_stubs.py typescript         writes client/typescript/src/gen (after `npm ci` there)
    python scripts/generate_stubs.py python --check     fails, naming the files, if the committed stubs differ
    python scripts/generate_stubs.py imports            fills .build/googleapis, where buf finds google's protos

Invariants:

- One pinned protoc writes them. `GRPCIO_TOOLS` is unpacked under the ignored `.build/`, apart from the virtual
  environment: generated code refuses a runtime older than its generator, so the pin is the floor of `assay`'s own
  dependencies (grpcio>=1.80, protobuf>=6.33), while the environment is free to hold newer ones.
- `google/**/*.proto` come from a pinned googleapis-common-protos; no copy of them is kept in the repository.
- The folders written hold nothing else, so a stub whose message is gone is removed, and `--check` names it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

GRPCIO_TOOLS = "grpcio-tools==1.80.0"
GOOGLEAPIS = "googleapis-common-protos==1.76.0"

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
BUILD = ROOT / ".build"
TYPESCRIPT = ROOT / "client" / "typescript"
TARGETS: dict[str, Path] = {
    "python": ROOT / "client" / "python" / "assay" / "v1",
    "typescript": TYPESCRIPT / "src" / "gen",
    "imports": BUILD / "googleapis",
}
TS_PROTO_OPTIONS = (
    "env=node",
    "esModuleInterop=true",
    "importSuffix=.js",
    "oneof=unions-value",
    "outputJsonMethods=false",
    "outputServices=grpc-js",
    "removeEnumPrefix=true",
    "stringEnums=true",
    "useExactTypes=false",
)
# What the client decodes out of a rich status: the message, its ErrorInfo, BadRequest and RetryInfo.
STATUS_PROTOS = ("google/rpc/status.proto", "google/rpc/error_details.proto")
# Long work. The package holds operations.proto under another name than the one its own Python module registers.
OPERATIONS_PROTO = "google/longrunning/operations.proto"
OPERATIONS_PACKAGED = "google/longrunning/operations_proto.proto"
OPERATIONS_IMPORTS = tuple(
    f"google/api/{name}.proto" for name in ("annotations", "client", "field_behavior", "http", "launch_stage")
)


def main(argv: list[str] | None = None) -> int:
    """Writes or checks one target; returns the process's exit status."""
    parser = argparse.ArgumentParser(description="Generate the stubs of the contract.")
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--check", action="store_true", help="compare with what is there instead of writing it")
    arguments = parser.parse_args(argv)
    generators: dict[str, Callable[[Path], None]] = {
        "python": generate_python,
        "typescript": generate_typescript,
        "imports": generate_imports,
    }
    committed = TARGETS[arguments.target]
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        generators[arguments.target](fresh)
        names = stale(fresh, committed)
        if arguments.check:
            return report(names, committed)
        replace(names, fresh, committed)
    return 0


def generate_python(out: Path) -> None:
    """Writes messages, their types and, for files that define a service, the gRPC stubs."""
    files = contract()
    services = [file for file in files if "\nservice " in (PROTO / file).read_text(encoding="utf-8")]
    with tempfile.TemporaryDirectory() as scratch:
        protoc(files, f"--python_out={scratch}", f"--pyi_out={scratch}")
        protoc(services, f"--grpc_python_out={scratch}")
        shutil.copytree(Path(scratch) / "assay" / "v1", out, dirs_exist_ok=True)
    (out / "__init__.py").write_text('"""Generated from proto/assay/v1 by `make proto`. Do not edit."""\n', "utf-8")


def generate_typescript(out: Path) -> None:
    """Writes messages and @grpc/grpc-js stubs with the ts-proto that client/typescript/package-lock.json pins."""
    plugin = TYPESCRIPT / "node_modules" / ".bin" / "protoc-gen-ts_proto"
    if not plugin.exists():
        raise SystemExit(f"{plugin.relative_to(ROOT)} is not there: run `npm ci` in client/typescript")
    options = (f"--plugin=protoc-gen-ts_proto={plugin}", f"--ts_proto_opt={','.join(TS_PROTO_OPTIONS)}")
    protoc([*contract(), *STATUS_PROTOS, OPERATIONS_PROTO], *options, f"--ts_proto_out={out}")


def generate_imports(out: Path) -> None:
    """Copies the google protos that ours import, directly or not."""
    for name in (*STATUS_PROTOS, *OPERATIONS_IMPORTS, OPERATIONS_PROTO):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        source = OPERATIONS_PACKAGED if name == OPERATIONS_PROTO else name
        shutil.copyfile(pinned(GOOGLEAPIS) / source, out / name)


def contract() -> list[str]:
    """Our own proto files, as protoc names them."""
    return sorted(str(file.relative_to(PROTO)) for file in PROTO.rglob("*.proto"))


def protoc(files: list[str], *options: str) -> None:
    """Runs the pinned protoc on `files`; raises `subprocess.CalledProcessError` if it refuses one."""
    environment = {**os.environ, "PYTHONPATH": str(pinned(GRPCIO_TOOLS))}
    with tempfile.TemporaryDirectory() as imports:
        generate_imports(Path(imports))
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{imports}", *options, *files]
        subprocess.run(command, check=True, env=environment)


def pinned(requirement: str) -> Path:
    """The folder under .build/ that holds this one requirement; installed there, alone, on first use."""
    folder = BUILD / requirement.replace("==", "-")
    if not folder.is_dir():
        BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            target = Path(scratch) / "package"
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
            subprocess.run([*pip, "--target", str(target), requirement], check=True)
            target.rename(folder)
    return folder


def stale(fresh: Path, committed: Path) -> list[str]:
    """Names of the files that are missing, changed or no longer generated in `committed`."""
    return sorted(name for name in names_in(fresh) | names_in(committed) if content(fresh / name) != content(committed / name))


def names_in(folder: Path) -> set[str]:
    """Relative names of the files in `folder`, byte code left out."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {name.as_posix() for name in files if "__pycache__" not in name.parts}


def content(path: Path) -> bytes | None:
    """The file's bytes, or None where there is no such file."""
    return path.read_bytes() if path.is_file() else None


def replace(names: list[str], fresh: Path, committed: Path) -> None:
    """Makes the named files in `committed` those of `fresh`; files that agree keep their time stamps."""
    for name in names:
        (committed / name).unlink(missing_ok=True)
        if (fresh / name).is_file():
            (committed / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / name, committed / name)


def report(names: list[str], committed: Path) -> int:
    """Prints what is stale; returns the exit status."""
    for name in names:
        print(f"stale stub: {(committed / name).relative_to(ROOT)}", file=sys.stderr)
    if names:
        print("Run `make proto` and commit the result.", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
