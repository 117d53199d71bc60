"""The blocking client is generated from the asyncio client: the committed files are current, the rewriting keeps its rules."""

import importlib.util
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import assay
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "generate_blocking.py"


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_blocking", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_blocking_client_is_the_generated_one() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_edited_or_left_over_module_is_named_and_then_mended(
    generator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "client"
    shutil.copytree(generator.TARGET, target)
    monkeypatch.setattr(generator, "TARGET", target)
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    (target / "audits.py").write_text("edited = True\n")
    (target / "gone.py").write_text("left = True\n")
    assert generator.main(["--check"]) == 1
    assert capsys.readouterr().err.splitlines()[:2] == ["stale: client/audits.py", "stale: client/gone.py"]
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    assert not (target / "gone.py").exists()


@pytest.mark.parametrize(
    ("asyncio", "blocking"),
    [
        ("async def f(): pass", "def f(): pass"),
        ("async with a as b: pass", "with a as b: pass"),
        ("x = [one async for one in many]", "x = [one for one in many]"),
        ("x = await f(await g(1), 2)", "x = f(g(1), 2)"),
        ("x = (await f(1)).name", "x = f(1).name"),
        ("x = f((await g(1))[0], (await h)(2))", "x = f(g(1)[0], (h)(2))"),
        ("x = f(await g(1)).name", "x = f(g(1)).name"),
        ("x: Callable[[], Awaitable[list[int]]]", "x: Callable[[], list[int]]"),
        ("x: AsyncIterator[AsyncOperation[T]] = anext(y)", "x: Iterator[Operation[T]] = next(y)"),
        ('"""``await (await client.audit(d)).wait()``"""', '"""``client.audit(d).wait()``"""'),
        ('x = "an awaited, asynchronous word"', 'x = "an awaited, asynchronous word"'),
    ],
)
def test_what_awaits_is_rewritten_and_nothing_else(generator: Any, asyncio: str, blocking: str) -> None:
    assert generator.blocking(asyncio + "\n") == blocking + "\n"


def test_a_phrase_that_no_module_says_is_refused(generator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "PHRASES", [*generator.PHRASES, ("said nowhere", "")])
    with pytest.raises(ValueError, match="said nowhere"):
        generator.generated(generator.SOURCE)


@pytest.mark.parametrize(("blocking", "asyncio"), [(assay.Client, assay.AsyncClient), (assay.Operation, assay.AsyncOperation)])
def test_both_clients_have_the_same_methods_with_the_same_parameters(blocking: type, asyncio: type) -> None:
    assert parameters(blocking) == parameters(asyncio)


def parameters(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
    return {
        name: [(one.name, one.kind, one.default) for one in inspect.signature(method).parameters.values()]
        for name, method in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }
