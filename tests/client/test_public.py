"""What `import assay` gives, and what it must not bring along."""

import subprocess
import sys
import tomllib
from pathlib import Path

import assay
import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ["torch", "numpy", "pyarrow", "rich", "transformers", "sae_lens", "assay_server", "pandas", "datasets"]


def python(code: str) -> str:
    """Runs code in a fresh interpreter; returns what it printed."""
    path = f"{ROOT / 'client/python'}"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_public_is_exactly_what_is_exported() -> None:
    modules = {name for name in vars(assay) if isinstance(getattr(assay, name), type(sys)) and not name.startswith("_")}
    public = {name for name in vars(assay) if not name.startswith("_")} - modules
    assert public | {"__version__"} == set(assay.__all__)
    assert assay.__all__ == sorted(assay.__all__)


def test_every_public_class_and_function_has_a_docstring() -> None:
    assert [name for name in assay.__all__ if name != "__version__" and not getattr(assay, name).__doc__] == []


@pytest.mark.parametrize("module", ["assay", "assay.data", "assay.summary", "assay.cli"])
def test_importing_brings_nothing_heavy(module: str) -> None:
    found = python(f"import {module}; print([name for name in {HEAVY} if name in sys.modules])")
    assert found.strip() == "[]"


def test_reading_parquet_without_pyarrow_names_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1")
    said = python(
        "sys.modules['pyarrow'] = None\n"
        "import assay, assay.data\n"
        f"try: assay.data.open_pairs({str(tmp_path / 'pairs.parquet')!r})\n"
        "except assay.MissingExtra as error: print(error)"
    )
    assert "pip install 'assay[cli]'" in said


def added(folder: Path, target: str) -> None:
    """A distribution that adds `assay serve`, as the server's does, on a path."""
    about = folder / "a_server-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: a-server\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[assay.commands]\nserve = {target}\n")


def serve(path: Path, before: str = "") -> str:
    """What `assay serve --port 0` prints, then its exit code, where only `path` may add commands."""
    return python(
        "import importlib.metadata as metadata\n"
        f"every = [entry for one in metadata.distributions(path=[{str(path)!r}]) for entry in one.entry_points]\n"
        "metadata.entry_points = lambda **wanted: metadata.EntryPoints(every).select(**wanted)\n"
        f"sys.path.insert(0, {str(path)!r})\n"
        f"{before}\n"
        "sys.stderr = sys.stdout\n"
        "from assay.cli import main\n"
        "print(main(['serve', '--model', 'm', '--sae', 's']))"
    )


def test_serving_calls_what_an_installed_package_adds(tmp_path: Path) -> None:
    added(tmp_path, "a_server:run")
    (tmp_path / "a_server.py").write_text("def run(argv):\n    print(argv)\n    return 7\n")
    assert serve(tmp_path) == "['--model', 'm', '--sae', 's']\n7\n"


def test_serving_without_the_servers_packages_names_the_command_that_installs_them(tmp_path: Path) -> None:
    assert "no installed package adds it" in serve(tmp_path)
    added(tmp_path, "assay_server.main:main")
    without_torch = f"sys.path.insert(1, {str(ROOT / 'server')!r}); sys.modules['torch'] = None"
    for before in ("sys.modules['assay_server'] = None", without_torch):
        *said, code = serve(tmp_path, before).splitlines()
        assert "pip install 'assay[server]'" in said[0]
        assert len(said) == 1
        assert code == "2"


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert assay.__version__ == project["version"]


def test_the_exception_tree_of_the_docstring_is_the_tree_of_the_code() -> None:
    drawn = assay.errors.__doc__ or ""
    family = [
        name
        for name in assay.__all__
        if isinstance(getattr(assay, name), type) and issubclass(getattr(assay, name), assay.AssayError)
    ]
    for name in family:
        assert f" {name}" in drawn, f"{name} is missing from the tree in assay.errors"
