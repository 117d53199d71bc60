"""deploy/compose.yaml and deploy/prometheus.yml, held against Compose itself, a real Redis and the real server's flags."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from assay_server.config import ServerConfig, load_config
from assay_server.telemetry.exporter import Exporter
from assay_server.telemetry.metrics import Metrics

from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "deploy" / "compose.yaml"
PROMETHEUS_FILE = ROOT / "deploy" / "prometheus.yml"


def compose_binary() -> str | None:
    """Docker Compose: the one that the dev extra carries on Linux, or the operator's own."""
    try:
        import compose
    except ImportError:
        return shutil.which("docker-compose")
    return str(Path(str(compose.__file__)).with_name("docker-compose"))


def run_compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    binary = compose_binary()
    if binary is None:
        pytest.skip("no docker-compose here: the dev extra carries one for Linux on x86-64 only")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ASSAY_", "TORCH_INDEX"))}
    command = [binary, "--file", str(COMPOSE_FILE), *arguments]
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as Compose reads them, its variables filled in."""
    result = run_compose("config", "--format", "json", ASSAY_MODELS="/srv/models")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["services"]


@pytest.fixture(scope="module")
def config(services: dict[str, Any]) -> ServerConfig:
    """The server's configuration, as the server itself reads Compose's command line."""
    return load_config(services["server"]["command"], services["server"].get("environment") or {})


def test_compose_accepts_the_file_without_a_warning() -> None:
    result = run_compose("config", "--quiet", ASSAY_MODELS="/srv/models")
    assert result.returncode == 0
    assert result.stderr == ""


def test_a_missing_models_folder_is_named() -> None:
    result = run_compose("config", "--quiet")
    assert result.returncode != 0
    assert "ASSAY_MODELS" in result.stderr


def test_the_server_accepts_its_command_line(config: ServerConfig) -> None:
    assert config.is_public
    assert config.model.startswith("/models/")
    assert config.sae.startswith("/models/")


def test_the_server_finds_redis_by_its_name(config: ServerConfig, services: dict[str, Any]) -> None:
    assert config.redis_url == "redis://redis:6379/0"
    assert set(services["redis"]["networks"]) & set(services["server"]["networks"])


def test_the_published_ports_are_the_servers_and_reach_loopback_alone(config: ServerConfig, services: dict[str, Any]) -> None:
    published = {port["target"] for port in services["server"]["ports"]}
    assert published == {config.port, config.metrics_port}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert {port.get("host_ip") for port in ports} == {"127.0.0.1"}


def test_redis_is_not_published(services: dict[str, Any]) -> None:
    assert "ports" not in services["redis"]
    assert "front" not in services["redis"]["networks"]


def test_accepted_work_has_time_to_finish(config: ServerConfig, services: dict[str, Any]) -> None:
    grace = services["server"]["stop_grace_period"]
    assert grace.endswith("s")
    assert int(grace.removesuffix("s")) > config.drain_seconds


@pytest.mark.parametrize("name", ["server", "redis", "prometheus"])
def test_every_service_is_bounded_and_holds_no_privilege(services: dict[str, Any], name: str) -> None:
    service = services[name]
    limits = service["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert int(limits["memory"]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    if name != "server":  # its check is the image's own
        assert service["healthcheck"]["test"][0] == "CMD"
        assert not service["image"].endswith(":latest")


@pytest.fixture(scope="module")
def redis_server(services: dict[str, Any]) -> Iterator[RedisServer]:
    """A real server, started with the arguments that the container gets."""
    program, *arguments = services["redis"]["command"]
    assert program == "redis-server"
    with RedisServer(arguments=tuple(arguments)) as server:
        yield server


def test_a_real_redis_takes_the_arguments_and_is_a_bounded_cache(redis_server: RedisServer, services: dict[str, Any]) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        settings = client.config_get("maxmemory", "maxmemory-policy", "save", "appendonly")
    assert settings == {"maxmemory": str(1 << 30), "maxmemory-policy": "allkeys-lru", "save": "", "appendonly": "no"}
    assert int(services["redis"]["deploy"]["resources"]["limits"]["memory"]) > 1 << 30


@pytest.fixture(scope="module")
def scrapes() -> dict[str, dict[str, Any]]:
    """Prometheus's jobs by name."""
    config = yaml.safe_load(PROMETHEUS_FILE.read_text(encoding="utf-8"))
    assert set(config) == {"global", "scrape_configs"}
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_prometheus_scrapes_the_server_where_it_is(
    scrapes: dict[str, dict[str, Any]], services: dict[str, Any], config: ServerConfig
) -> None:
    assert scrapes["assay"]["static_configs"] == [{"targets": [f"server:{config.metrics_port}"]}]
    assert set(services["prometheus"]["networks"]) & set(services["server"]["networks"])


def test_prometheus_asks_for_a_page_that_the_server_has(scrapes: dict[str, dict[str, Any]]) -> None:
    exporter = Exporter(Metrics(), lambda: True, host="127.0.0.1", port=0)
    try:
        url = f"http://127.0.0.1:{exporter.port}{scrapes['assay']['metrics_path']}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            assert response.status == 200
            assert b"\n# TYPE assay_" in b"\n" + response.read()
    finally:
        exporter.close()


def test_prometheus_reads_the_file_that_is_mounted(services: dict[str, Any]) -> None:
    mounts = {mount["target"]: mount for mount in services["prometheus"]["volumes"]}
    named = next(option for option in services["prometheus"]["command"] if option.startswith("--config.file="))
    mount = mounts[named.removeprefix("--config.file=")]
    assert Path(mount["source"]) == PROMETHEUS_FILE
    assert mount["read_only"] is True


def test_promtool_accepts_the_scrape_config() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here; the tests above hold what the server needs of the file")
    result = subprocess.run(
        [promtool, "check", "config", PROMETHEUS_FILE], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
