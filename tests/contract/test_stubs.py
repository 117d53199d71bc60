"""The committed stubs: what they import, what they offer, and that a stale one is noticed."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pool

from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PROTOS = sorted((ROOT / "proto").rglob("*.proto"))
MODULES = [f"assay.v1.{path.stem}_pb2" for path in PROTOS]
SERVICES = {"assay.v1.ModelService": "model", "assay.v1.ScoringService": "scoring"}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """scripts/generate_stubs.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_stubs", ROOT / "scripts" / "generate_stubs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_proto_has_its_stub_and_every_stub_its_proto() -> None:
    stubs = (ROOT / "client" / "python" / "assay" / "v1").glob("*_pb2.py")
    assert sorted(path.stem for path in stubs) == sorted(f"{path.stem}_pb2" for path in PROTOS)


def test_stubs_import_without_warnings_and_without_the_server() -> None:
    modules = [*MODULES, *(f"assay.v1.{stem}_pb2_grpc" for stem in SERVICES.values())]
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
heavy = sorted({{"torch", "numpy", "transformers", "assay_server"}} & set(sys.modules))
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=PATIENCE)


@pytest.mark.parametrize(("service", "stem"), SERVICES.items())
def test_each_method_has_a_client_stub_and_a_servicer(service: str, stem: str) -> None:
    importlib.import_module(f"assay.v1.{stem}_pb2")
    grpc_module = importlib.import_module(f"assay.v1.{stem}_pb2_grpc")
    methods = {method.name for method in descriptor_pool.Default().FindServiceByName(service).methods}
    name = service.rsplit(".", maxsplit=1)[-1]
    servicer = getattr(grpc_module, f"{name}Servicer")
    assert methods
    assert methods == {attribute for attribute in vars(servicer) if not attribute.startswith("_")}


def test_streamed_pairs_flow_both_ways_and_nothing_else_streams() -> None:
    for service, stem in SERVICES.items():
        importlib.import_module(f"assay.v1.{stem}_pb2")
        for method in descriptor_pool.Default().FindServiceByName(service).methods:
            streams = (method.client_streaming, method.server_streaming)
            assert streams == ((True, True) if method.name == "StreamPairs" else (False, False)), method.full_name


def test_a_changed_a_missing_and_a_leftover_stub_are_all_stale(generator: ModuleType, tmp_path: Path) -> None:
    fresh, committed = tmp_path / "fresh", tmp_path / "committed"
    for folder in (fresh, committed):
        (folder / "v1").mkdir(parents=True)
        (folder / "v1" / "same.py").write_text("same")
        (folder / "v1" / "changed.py").write_text(folder.name)
    (fresh / "v1" / "missing.py").write_text("new")
    (committed / "v1" / "leftover.py").write_text("old")
    assert generator.stale(fresh, committed) == ["v1/changed.py", "v1/leftover.py", "v1/missing.py"]

    generator.replace(generator.stale(fresh, committed), fresh, committed)

    assert generator.stale(fresh, committed) == []
    assert sorted(path.name for path in (committed / "v1").iterdir()) == ["changed.py", "missing.py", "same.py"]


def test_byte_code_beside_a_stub_is_not_stale(generator: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    (tmp_path / "committed" / "__pycache__").mkdir(parents=True)
    (tmp_path / "committed" / "__pycache__" / "a.pyc").write_bytes(b"\0")
    assert generator.stale(tmp_path / "fresh", tmp_path / "committed") == []
