"""A worker process that describes shards: ``python -m assay_server.store.text_worker``.

Reads frames from standard input and answers each on standard output, in order: 8 bytes of length, little-endian, then a shard's
Parquet file; back the same with ``texts.described`` of it. It ends when its input does, so it never outlives a server, however
that ended.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Generator
from typing import IO

from assay_server.errors import EngineFailure
from assay_server.store.texts import described

_LENGTH = 8


class TextWorker:
    """One worker process, asked for one shard at a time. Blocks: call it in a thread of its own."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "assay_server.store.text_worker"]
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def described(self, pairs: bytes) -> bytes:
        """``texts.described`` in that process. Raises EngineFailure where it died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            send(self._process.stdin, pairs)
            answer = receive(self._process.stdout)
        except OSError:
            answer = None
        if answer is None:
            raise EngineFailure(
                f"The process that reads texts ended with status {self._process.wait()}; see the server's log.",
                reason="TEXT_WORKER_DIED",
            )
        return answer

    def close(self) -> None:
        """End the process, at work or not."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()


@contextlib.contextmanager
def text_worker() -> Generator[TextWorker]:
    """A worker process for as long as the block runs."""
    worker = TextWorker()
    try:
        yield worker
    finally:
        worker.close()


def send(pipe: IO[bytes], data: bytes) -> None:
    """Write one frame."""
    view = memoryview(len(data).to_bytes(_LENGTH, "little") + data)
    while view:  # a raw pipe may take a part
        view = view[pipe.write(view) or 0 :]
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes | None:
    """Read one frame; None where the pipe ends before it is whole."""
    head = _exactly(pipe, _LENGTH)
    return None if head is None else _exactly(pipe, int.from_bytes(head, "little"))


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the requests end."""
    while (pairs := receive(requests)) is not None:
        send(answers, described(pairs))


def _exactly(pipe: IO[bytes], count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        part = pipe.read(min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
