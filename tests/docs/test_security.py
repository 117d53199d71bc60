"""What SECURITY.md says of the sources: nothing pickles, and no remote code is trusted."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("server/assay_server", "client/python/assay")
    for path in (ROOT / folder).rglob("*.py")
    if "v1" not in path.parts
)
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def risks(tree: ast.AST) -> Iterator[str]:
    """What in a source unpickles or trusts remote code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PICKLES)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module] if node.module and node.module.split(".")[0] in PICKLES else []
        elif isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
            yield from [] if isinstance(node.value, ast.Constant) and node.value.value is False else [node.arg]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from [f"{node.value.id}.{node.attr}"] if (node.value.id, node.attr) == ("torch", "load") else []
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            named = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "trust_remote_code"]
            yield from ("trust_remote_code" for value in named if not (isinstance(value, ast.Constant) and value.value is False))


def test_no_source_unpickles_or_trusts_remote_code() -> None:
    assert len(SOURCES) > 100
    found = {path.relative_to(ROOT).as_posix(): list(risks(ast.parse(path.read_text(encoding="utf-8")))) for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "f(trust_remote_code=on)",
        "x = {'trust_remote_code': True}",
    ],
)
def test_a_source_that_does_is_noticed(code: str) -> None:
    assert list(risks(ast.parse(code)))
