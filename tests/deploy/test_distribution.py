"""The distribution as it would be published: what the wheel holds, what it asks for, and that all versions agree."""

import json
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"assay": ROOT / "client" / "python" / "assay", "assay_server": ROOT / "server" / "assay_server"}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read(f"assay-{VERSION}.dist-info/METADATA").decode())


def test_the_wheel_holds_every_module_and_stub_and_no_other_package(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if name.endswith((".py", ".pyi"))}
    wanted = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in SOURCES.items()
        for path in folder.rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    }
    assert held == wanted
    assert {name.split("/")[0] for name in wheel.namelist()} == {*SOURCES, f"assay-{VERSION}.dist-info"}


def test_the_licence_travels_with_it(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    licence = wheel.read(f"assay-{VERSION}.dist-info/licenses/LICENSE").decode()
    assert "Apache License\n                           Version 2.0, January 2004" in licence


def test_installed_bare_it_asks_for_grpc_and_protobuf_alone(metadata: Message) -> None:
    bare = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.split(">=")[0] for line in bare) == ["googleapis-common-protos", "grpcio", "protobuf"]


def test_the_versions_that_the_stubs_need_are_the_versions_that_it_asks_for(metadata: Message) -> None:
    """Generated code refuses an older runtime at import: a floor below it would install and then fail."""
    floors = dict(line.split(">=") for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line)
    grpc_stub = (SOURCES["assay"] / "v1" / "model_pb2_grpc.py").read_text(encoding="utf-8")
    generated_by = grpc_stub.split("GRPC_GENERATED_VERSION = '")[1].split("'")[0]
    assert numbers(floors["grpcio"]) >= numbers(generated_by)[:2]
    protobuf_stub = (SOURCES["assay"] / "v1" / "model_pb2.py").read_text(encoding="utf-8")
    assert numbers(floors["protobuf"]) >= numbers(protobuf_stub.split("# Protobuf Python Version: ")[1].split("\n")[0])[:2]


def test_the_commands_are_there_after_installing(wheel: zipfile.ZipFile) -> None:
    entries = wheel.read(f"assay-{VERSION}.dist-info/entry_points.txt").decode()
    assert "[console_scripts]\nassay = assay.cli:main\n" in entries
    assert "[assay.commands]\nserve = assay_server.main:main\n" in entries


def test_the_typescript_client_has_the_same_version() -> None:
    folder = ROOT / "client" / "typescript"
    assert json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"] == VERSION
    assert json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["version"] == VERSION


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
