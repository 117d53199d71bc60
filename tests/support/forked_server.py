"""``assay serve`` in a process of its own that starts in a second: for tests that kill it often.

Importing torch, transformers and sae_lens takes longer than everything that a small server does. One process imports them once,
before gRPC has started anything, and forks a server for each life: the same ``serve`` as the command's, with a pid of its own,
which ``kill -9`` ends like any other. Run as a module, this is that process.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Self

import psutil

from tests.support.ports import lasting_port
from tests.support.waiting import PATIENCE, wait_until


class ForkedServer:
    """One server with many lives, on one port; a context manager that leaves nothing behind.

    Args:
        model, sae: folders.
        scratch: an empty folder for its ready file and its log.
        flags: more of its command line.
    """

    def __init__(self, model: Path, sae: Path, scratch: Path, *flags: str) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._ready_file = scratch / "ready.json"
        self._log_file = scratch / "server.log"
        self._flags = ["--model", str(model), "--sae", str(sae), "--device", "cpu", "--metrics-port", "0", *flags]
        self._flags += ["--ready-file", str(self._ready_file), "--threads", "1"]
        self._mother: subprocess.Popen[str] | None = None
        self._pid = 0
        self.port = lasting_port()

    @property
    def address(self) -> str:
        """host:port of gRPC."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it wrote, over all its lives."""
        return self._log_file.read_text(errors="replace")

    def start(self) -> Self:
        """A new life, on the port of the one before; waits until it serves."""
        assert self._pid == 0, "it lives"
        self._ready_file.unlink(missing_ok=True)
        mother = self._running()
        assert mother.stdin is not None
        assert mother.stdout is not None
        mother.stdin.write(json.dumps([*self._flags, "--port", str(self.port)]) + "\n")
        mother.stdin.flush()
        self._pid = int(mother.stdout.readline())
        wait_until(self._is_ready, "the server is ready")
        return self

    def kill(self) -> None:
        """``kill -9``."""
        os.kill(self._pid, signal.SIGKILL)
        wait_until(lambda: not _lives(self._pid), "the killed server is gone")
        self._pid = 0

    def close(self) -> None:
        """End whatever still runs of it, in whatever state it is, and wait until all of it is gone."""
        if self._mother is None:
            return
        self._mother.send_signal(signal.SIGSTOP)  # no server is born from here on
        servers = psutil.Process(self._mother.pid).children()
        for server in servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                server.kill()
        _, left = psutil.wait_procs(servers, PATIENCE)
        self._mother.kill()
        self._mother.communicate()
        self._mother, self._pid = None, 0
        assert not left, f"killed, and still there: {left}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> "subprocess.Popen[str]":
        if self._mother is None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            with self._log_file.open("ab") as sink:
                self._mother = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(self._log_file)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=sink,
                    text=True,
                )
        return self._mother

    def _is_ready(self) -> bool:
        assert _lives(self._pid), self.log[-4000:]
        return self._ready_file.exists()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _mother(log: str) -> None:
    import sae_lens  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from assay_server.config import load_config
    from assay_server.service import serve
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a child that ended is gone, not a zombie
    children: list[int] = []
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sink = os.open(log, os.O_WRONLY | os.O_APPEND)
            for stream in (0, 1, 2):
                os.dup2(sink, stream)
            code = 1
            try:
                code = serve(load_config(json.loads(line), {}))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
        print(child, flush=True)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    _mother(sys.argv[1])
