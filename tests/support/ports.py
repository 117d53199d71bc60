"""Ports for servers that are killed and come back where they were.

A port that the kernel picked is free for anybody's next connection while its server is down. These lie below the range that
the kernel picks from, and two workers of pytest-xdist never try the same ones.
"""

import os
import random
import socket

_FIRST, _LAST, _WORKERS = 20_000, 32_000, 16


def lasting_port() -> int:
    """A free loopback port that nothing takes which does not ask for it by number."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    candidates = list(range(_FIRST + worker, _LAST, _WORKERS))
    for port in random.Random().sample(candidates, len(candidates)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {_FIRST} to {_LAST}")
