"""A server of its own for one loop, on a free loopback port; it has stopped when the block ends, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS, STOP_SECONDS = 300.0, 40.0


class LoopFailed(RuntimeError):
    """A step of the loop did not work; the message says which and what to look at."""


@contextmanager
def serving(model: Path, sae: Path, scratch: Path, flags: Sequence[str] = ()) -> Generator[str]:
    """The address of ``assay serve --whole-model`` with its data in `scratch`.

    Raises:
        LoopFailed: it ended before it was ready, with the end of its log.
    """
    ready, log = scratch / "ready.json", scratch / "server.log"
    command = [sys.executable, "-m", "assay", "serve", "--model", str(model), "--sae", str(sae), "--whole-model"]
    command += ["--port", "0", "--metrics-port", "-1", "--data-dir", str(scratch / "data"), "--ready-file", str(ready), *flags]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        yield _address(process, ready, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if ready.exists():
            where = json.loads(ready.read_text())
            return f"{where['host']}:{where['port']}"
        if process.poll() is not None:
            raise LoopFailed(f"the server ended with code {process.returncode} before it was ready:\n{_tail(log)}")
        time.sleep(0.1)
    raise LoopFailed(f"the server was not ready after {START_SECONDS:.0f} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
