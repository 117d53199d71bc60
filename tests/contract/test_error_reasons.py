"""Programs switch on an error's reason: every one that the server can give is named by a test."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


def given(tree: ast.AST) -> Iterator[ast.expr]:
    """What a module gives as a reason: ``reason=...`` of a call, and what it assigns to ``reason`` or ``default_reason``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "reason":
            yield node.value
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(ast.unparse(target) in ("reason", "default_reason") for target in targets):
                yield node.value


def reasons() -> dict[str, str]:
    """Every reason in the server's source, with a place that gives it."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "server" / "assay_server").rglob("*.py")):
        for value in given(ast.parse(path.read_text(encoding="utf-8"))):
            for part in ast.walk(value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and REASON.fullmatch(part.value):
                    found.setdefault(part.value, f"{path.relative_to(ROOT)}:{part.lineno}")
    return found


def test_every_reason_that_the_server_gives_is_named_by_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    named = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", tests))
    found = reasons()
    assert len(found) > 100, "the search itself is broken"
    assert {reason: place for reason, place in found.items() if reason not in named} == {}
