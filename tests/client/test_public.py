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


def test_serving_without_the_servers_packages_names_the_command_that_installs_them() -> None:
    said = python(
        "sys.modules['assay_server'] = None\n"
        "sys.stderr = sys.stdout\n"
        "from assay.cli import main\n"
        "print(main(['serve', '--port', '0']))"
    )
    assert "pip install 'assay[server]'" in said
    assert said.strip().endswith("2")


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
