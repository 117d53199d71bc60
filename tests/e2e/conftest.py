"""One small model on disk, one server of it that most tests share, and the TypeScript client built once."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from assay import Client

from tests.support.forked_server import ForkedServer
from tests.support.models import save_family
from tests.support.saes import build_sae, save_sae
from tests.support.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
TYPESCRIPT = ROOT / "client" / "typescript"
MAX_STREAMS = 8
MAX_TOKENS_IN_FLIGHT = 60_000
MAX_PAIRS = 128

Serve = Callable[..., ServerProcess]
Fork = Callable[..., ForkedServer]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random chat model and an SAE of it on disk, as an operator's would be; neither means anything."""
    folder = tmp_path_factory.mktemp("parts")
    return save_family("qwen2", folder / "model"), save_sae(build_sae("topk"), folder / "sae")


@pytest.fixture(scope="module")
def serve(parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Makes servers of the model, not started yet; whatever still runs after the module is killed."""
    made: list[ServerProcess] = []

    def make(*flags: str) -> ServerProcess:
        process = ServerProcess(*parts, tmp_path_factory.mktemp("server"), "--overrides", "VARIANCE", *flags)
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop()


@pytest.fixture
def fork(parts: tuple[Path, Path], tmp_path: Path) -> Iterator[Fork]:
    """``fork(name, *flags)`` makes a server to be killed often, its data directory ``tmp_path / name``; not started yet."""
    with ExitStack() as stack:

        def make(name: str, *flags: str) -> ForkedServer:
            data = ["--overrides", "VARIANCE", "--data-dir", str(tmp_path / name)]
            made = ForkedServer(*parts, tmp_path / f"{name}-server", *data, *flags)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(scope="session")
def server(parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server that tests share; they leave it as they found it, but for its cache."""
    limits = ["--max-streams", str(MAX_STREAMS), "--max-tokens-in-flight", str(MAX_TOKENS_IN_FLIGHT)]
    limits += ["--max-pairs-per-request", str(MAX_PAIRS), "--max-pairs-per-message", str(MAX_PAIRS)]
    limits += ["--stream-patience-seconds", "0.5"]
    scratch = tmp_path_factory.mktemp("shared-server")
    with ServerProcess(*parts, scratch, "--overrides", "VARIANCE", *limits) as process:
        yield process
        process.rest()
        process.ask_to_stop()
        assert process.wait() == 0, process.log[-4000:]
        assert "incident" not in process.log


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A blocking client of the shared server."""
    with Client(server.address) as one:
        yield one


@pytest.fixture(scope="session")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the TypeScript client, built once: all workers of pytest-xdist run what is in it."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the TypeScript client was NOT tested")
    if not (TYPESCRIPT / "node_modules").is_dir():
        pytest.skip("the TypeScript client's packages are not installed (make setup): it was NOT tested")
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "typescript.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "typescript.built").exists():
            build = ["npm", "run", "--silent", "build"]
            built = subprocess.run(build, cwd=TYPESCRIPT, capture_output=True, text=True, check=False)
            assert built.returncode == 0, built.stdout + built.stderr
            (shared / "typescript.built").touch()
    return TYPESCRIPT
