"""The Dockerfile, held against the linter, the build context and the server's own defaults.

No engine builds it here: what can be known without one is tested, the health check as the process that it is.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from assay_server.config import ServerConfig
from assay_server.telemetry.exporter import Exporter
from assay_server.telemetry.metrics import Metrics
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HEALTHCHECK = ROOT / "deploy" / "healthcheck.py"
SERVICE = "assay.v1.ScoringService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def instructions(name: str) -> list[str]:
    """Arguments of the Dockerfile's instructions of one name, continuation lines joined."""
    return re.findall(rf"^{name}\s+(.+)$", DOCKERFILE.replace("\\\n", " "), flags=re.MULTILINE)


def copied() -> list[str]:
    """Paths of the build context that the image is made of."""
    plain = [line for line in instructions("COPY") if "--from=" not in line]
    return [path for line in plain for path in [word for word in line.split() if not word.startswith("--")][:-1]]


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"
    result = subprocess.run(
        [hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 0, result.stdout


def test_the_server_runs_as_a_user_of_its_own_in_the_last_stage() -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.findall(r"^USER (\d+):\d+$", last, flags=re.MULTILINE) == ["10001"]
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT ")
    assert instructions("ENTRYPOINT") == ['["assay", "serve"]']


def test_the_ports_exposed_are_the_servers_defaults() -> None:
    config = ServerConfig()
    assert [line.split() for line in instructions("EXPOSE")] == [[str(config.port), str(config.metrics_port)]]


def test_what_is_copied_is_in_the_context_and_the_context_holds_little_else() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    assert "*" in ignore, "everything is left out that is not named"
    assert sorted(allowed) == sorted(copied())
    assert all((ROOT / path).exists() for path in copied())


def test_the_image_holds_every_package_that_the_distribution_declares() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert all(any(package.startswith(path) for path in copied()) for package in packages)
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= set(copied())


def test_the_torch_of_the_image_is_the_torch_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pinned = re.search(r"^TORCH := torch==(\S+)$", makefile, flags=re.MULTILINE)
    assert pinned is not None
    assert f"TORCH_VERSION={pinned[1]}" in instructions("ARG")


def check_health(**environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the health check as the container would: a process that knows the environment and nothing else."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("ASSAY_")}
    command = [sys.executable, HEALTHCHECK]
    return subprocess.run(
        command, env={**inherited, **environment}, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.fixture
def servicer() -> health.HealthServicer:
    return health.HealthServicer()


@pytest.fixture
def port(servicer: health.HealthServicer) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    bound = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield str(bound)
    server.stop(grace=None).wait()


def test_a_server_that_takes_work_is_healthy(servicer: health.HealthServicer, port: str) -> None:
    servicer.set(SERVICE, SERVING)
    result = check_health(ASSAY_PORT=port)
    assert result.returncode == 0, result.stderr


def test_a_server_that_is_loading_is_not_healthy(servicer: health.HealthServicer, port: str) -> None:
    servicer.set(SERVICE, NOT_SERVING)
    result = check_health(ASSAY_PORT=port)
    assert result.returncode == 1
    assert "NOT_SERVING" in result.stderr


def test_a_server_that_is_gone_is_not_healthy() -> None:
    result = check_health(ASSAY_PORT="1")
    assert result.returncode == 1
    assert "UNAVAILABLE" in result.stderr


@pytest.mark.parametrize(("serving", "status"), [(True, 0), (False, 1)])
def test_behind_tls_the_metrics_port_is_asked(serving: bool, status: int) -> None:
    exporter = Exporter(Metrics(), lambda: serving, host="127.0.0.1", port=0)
    try:
        result = check_health(ASSAY_TLS_CERT="/tls/cert.pem", ASSAY_METRICS_PORT=str(exporter.port))
    finally:
        exporter.close()
    assert result.returncode == status, result.stderr


def test_the_dockerfiles_health_check_is_the_one_tested_here() -> None:
    (command,) = re.findall(r"CMD (\[.+\])", instructions("HEALTHCHECK")[0])
    target = json.loads(command)[-1]
    assert any(line.split()[-2:] == ["deploy/healthcheck.py", target] for line in instructions("COPY"))
