"""A peer that speaks enough RESP to be taken for Redis and then answers whatever a test wants: the replies no real one gives."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Self

Answer = Callable[[Sequence[bytes]], bytes]


class LyingRedis:
    """Listens on a free loopback port; an asynchronous context manager.

    Args:
        answer: the bytes to send for a command (its name and arguments); b"" hangs up.
        tls: certificate to serve with; plain otherwise.
    """

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.connections = 0
        self.commands: list[tuple[bytes, ...]] = []
        self._tls = tls
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                command = await _read_command(reader)
                self.commands.append(command)
                reply = b"+OK\r\n" if command[0] == b"CLIENT" else self.answer(command)
                if not reply:
                    break
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._open.discard(writer)


def bulk(value: bytes | None) -> bytes:
    """``value`` as a RESP bulk string."""
    return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def array(values: Sequence[bytes | None]) -> bytes:
    """``values`` as a RESP array of bulk strings."""
    return b"*%d\r\n" % len(values) + b"".join(map(bulk, values))


async def _read_command(reader: asyncio.StreamReader) -> tuple[bytes, ...]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    arguments: list[bytes] = []
    for _ in range(count):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        arguments.append((await reader.readexactly(length + 2))[:-2])
    return tuple(arguments)
