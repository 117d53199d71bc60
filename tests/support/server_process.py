"""``assay serve`` as a process of its own, and what can be seen of it and done to it from outside.

The port stays the same over kills and restarts, as it does for a server behind an address.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import lasting_port
from tests.support.waiting import PATIENCE, wait_until


class ServerProcess:
    """One server; a context manager that leaves nothing behind.

    Args:
        model, sae: folders.
        scratch: an empty folder for its ready file and its log.
        flags: more of its command line.
    """

    def __init__(self, model: Path, sae: Path, scratch: Path, *flags: str) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self.log_file = scratch / "server.log"
        self._ready_file = scratch / "ready.json"
        self._command = [sys.executable, "-m", "assay", "serve", "--model", str(model), "--sae", str(sae)]
        self._command += ["--ready-file", str(self._ready_file), "--metrics-port", "-1", "--device", "cpu", *flags]
        self._process: subprocess.Popen[bytes] | None = None
        self._metrics_port = 0
        self.port = lasting_port()

    @property
    def address(self) -> str:
        """host:port of gRPC."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What it wrote on stdout and stderr, over all its lives."""
        return self.log_file.read_text(errors="replace")

    def start(self) -> Self:
        """Start it, and wait until it serves."""
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        """Start it, on the port that it has for all its lives."""
        assert self._process is None, "already started"
        self._ready_file.unlink(missing_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with self.log_file.open("ab") as sink:
            command = [*self._command, "--port", str(self.port)]
            self._process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)

    def wait_until_ready(self) -> None:
        """Wait until it serves."""
        wait_until(self._is_ready, "the server is ready")
        ready = json.loads(self._ready_file.read_text())
        assert (ready["pid"], ready["port"]) == (self.pid, self.port)
        self._metrics_port = ready["metrics_port"]

    def kill(self) -> None:
        """``kill -9``."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def ask_to_stop(self) -> None:
        """SIGTERM; see ``wait``."""
        self._running().send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code, once it ended."""
        code = self._running().wait(PATIENCE)
        self._process = None
        return code

    def stop(self) -> None:
        """End it, whatever it does."""
        if self._process is not None:
            self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by its name and labels as Prometheus writes them: ``name{a="b",c="d"}``, labels sorted."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=PATIENCE) as response:
            text = response.read().decode()
        return {
            _series(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """One sample; 0 where it was never counted."""
        return self.metrics().get(_series(name, labels), 0.0)

    def total(self, name: str) -> float:
        """The sum of a metric over its labels."""
        return sum(value for series, value in self.metrics().items() if series.partition("{")[0] == name)

    def rest(self) -> None:
        """Wait until no call is open and nothing waits for the device."""

        def at_rest() -> bool:
            return not self.total("assay_requests_in_flight") and not self.total("assay_queued_tokens")

        wait_until(at_rest, "no call is open and nothing is queued")

    def _is_ready(self) -> bool:
        assert self._running().poll() is None, self.log[-4000:]
        return self._ready_file.exists()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process


def _series(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name
