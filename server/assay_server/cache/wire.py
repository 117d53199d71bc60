"""Connections to Redis: send commands and read exactly their replies, in bounded time.

Connecting, TLS, AUTH and SELECT are redis-py's; retries, pools and its unbounded reply parser are not used.

Invariants:
- A connection is lent to one exchange, and comes back only if the exchange read its replies to the last byte. After a timeout,
  a cancellation, a lost peer or a reply out of protocol it is aborted: no exchange reads the reply to another (redis-py #2624).
- No reply makes us hold more than ``Limits.reply_bytes``.
- An abort closes the socket at once, also where the peer no longer reads what we sent.
- Messages and logs never carry a URL, a user name or a password.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from assay_server.cache.interface import ErrorKind

Reply = bytes | int | list["Reply"] | ResponseError | None

_CODES: Final[Mapping[str, ErrorKind]] = {
    "OOM": "oom",
    "READONLY": "readonly",
    "LOADING": "loading",
    "MISCONF": "misconf",
    "NOAUTH": "noauth",
    "WRONGPASS": "wrongpass",
    "NOPERM": "noperm",
    "MASTERDOWN": "masterdown",
    "CLUSTERDOWN": "clusterdown",
    "MOVED": "moved",
    "CROSSSLOT": "crossslot",
    "BUSY": "busy_script",
}
_STALL_SECONDS, _STALL_GRACE_SECONDS = 0.02, 0.05
_MAX_ITEMS = 1024  # in an array reply; we never ask for more
_URL_OPTIONS = frozenset({"db", "client_name", "username", "password"})


class ExchangeFailed(Exception):
    """An exchange did not come to its end; ``kind`` says why."""

    def __init__(self, kind: ErrorKind) -> None:
        super().__init__(f"exchange with Redis failed: {kind}")
        self.kind: ErrorKind = kind


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one exchange.

    Attributes:
        connect_seconds: until a connection is made, TLS and AUTH included.
        exchange_seconds: from the first byte sent to the last reply.
        value_bytes: longest single value in a reply.
        reply_bytes: all values of a reply together.
    """

    connect_seconds: float
    exchange_seconds: float
    value_bytes: int
    reply_bytes: int


class Pool:
    """At most ``size`` connections to one Redis, made when needed.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        size: connections at a time.
        limits: bounds of each exchange.

    Raises:
        ValueError: the URL does not parse, or carries options that would undo the invariants above.
    """

    def __init__(self, url: str, *, size: int, limits: Limits) -> None:
        self._make = _connection_maker(url, limits)
        self._limits = limits
        self._free = asyncio.Semaphore(size)
        self._idle: list[_Link] = []
        self._closed = False

    async def exchange(self, commands: Sequence[tuple[bytes, ...]]) -> list[Reply]:
        """Send ``commands`` in one go and return one reply each; an error reply stands in its place.

        Ends within twice ``exchange_seconds`` (waiting for a free connection, talking) and ``connect_seconds``.

        Raises:
            ExchangeFailed: busy, connect, connection, timeout, protocol, too_large, or what Redis said to our greeting.
        """
        try:
            async with asyncio.timeout(self._limits.exchange_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise ExchangeFailed("busy") from None
        try:
            return await self._converse(await self._link(), commands)
        finally:
            self._free.release()

    def drop_idle(self) -> None:
        """Close all connections that are not in use: something came over one that should not have."""
        while self._idle:
            self._idle.pop().abort()

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        self._closed = True
        self.drop_idle()

    async def _link(self) -> "_Link":
        """A connection that is idle and alive as far as we know, or a new one."""
        while self._idle:
            link = self._idle.pop()
            if not await link.went_stale():
                return link
            link.abort()
        connection = self._make()
        try:
            async with _within(self._limits.connect_seconds):
                await connection.connect()
            return _Link(connection)
        except (RedisError, OSError, ValueError, _OutOfProtocol) as error:
            raise ExchangeFailed(_greeting_kind(error)) from None

    async def _converse(self, link: "_Link", commands: Sequence[tuple[bytes, ...]]) -> list[Reply]:
        whole = False
        try:
            async with _within(self._limits.exchange_seconds):
                replies = await link.talk(commands)
            whole = True
            return replies
        except TimeoutError:
            raise ExchangeFailed("timeout") from None
        except _OutOfProtocol as error:
            raise ExchangeFailed(error.kind) from None
        except (RedisError, OSError):
            raise ExchangeFailed("connection") from None
        finally:
            if whole and not self._closed:
                self._idle.append(link)
            else:
                link.abort()


def error_kind(reply: ResponseError) -> ErrorKind:
    """What an error reply is counted as."""
    return _CODES.get(str(reply).partition(" ")[0], "reply")


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncGenerator[None]:
    """``asyncio.timeout``, but when the event loop itself was late, what arrived meanwhile is read first.

    A loop that stalled finds reply and deadline due in the same turn, and would call a fast Redis slow.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    async with asyncio.timeout(None) as deadline:

        def expire() -> None:
            now = loop.time()
            deadline.reschedule(now + _STALL_GRACE_SECONDS if now - due > _STALL_SECONDS else now)

        handle = loop.call_at(due, expire)
        try:
            yield
        finally:
            handle.cancel()


class _Link:
    """A connected connection, and a hold on its socket that redis-py's own clean-up cannot take away."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        writer = cast(asyncio.StreamWriter, connection._writer)  # pyright: ignore[reportPrivateUsage]
        self._transport = writer.transport

    async def talk(self, commands: Sequence[tuple[bytes, ...]]) -> list[Reply]:
        await self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
        return [await self._reply() for _ in commands]

    async def went_stale(self) -> bool:
        """Whether the peer closed the connection while it was idle: Redis was restarted, or a timeout closed it."""
        try:
            return self._transport.is_closing() or await self._connection.can_read()
        except (RedisError, OSError):
            return True

    def abort(self) -> None:
        """Close the socket now. redis-py's ``disconnect`` waits for unsent bytes, which a stopped peer never takes."""
        self._transport.abort()
        self._connection._writer = self._connection._reader = None  # pyright: ignore[reportPrivateUsage]

    async def _reply(self) -> Reply:
        try:
            return cast(Reply, await self._connection.read_response(disable_decoding=True))
        except ResponseError as error:
            return error


class _OutOfProtocol(Exception):
    """The bytes are not an acceptable reply."""

    def __init__(self, kind: ErrorKind) -> None:
        super().__init__(kind)
        self.kind: ErrorKind = kind


class _BoundedParser:
    """RESP2 with bounds: the form of redis-py's own asynchronous parsers, as its ``parser_class`` wants it."""

    def __init__(self, socket_read_size: int, *, limits: Limits) -> None:
        self._limits = limits
        self._reader: asyncio.StreamReader | None = None

    def on_connect(self, connection: AbstractConnection) -> None:
        """A socket is there."""
        self._reader = cast(asyncio.StreamReader, connection._reader)  # pyright: ignore[reportPrivateUsage]

    def on_disconnect(self) -> None:
        """It is gone."""
        self._reader = None

    async def can_read(self) -> bool:
        """Whether the peer closed the connection."""
        return self._reader is None or self._reader.at_eof()

    async def read_response(self, disable_decoding: bool = False) -> Reply:
        """One reply. Raises _OutOfProtocol, and ConnectionError where the peer closed the connection."""
        if self._reader is None:
            raise ConnectionResetError
        try:
            return await self._read(self._reader, [self._limits.reply_bytes], nested=False)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError from None
        except (asyncio.LimitOverrunError, ValueError):
            raise _OutOfProtocol("protocol") from None

    async def _read(self, reader: asyncio.StreamReader, budget: list[int], *, nested: bool) -> Reply:
        line = await reader.readuntil(b"\r\n")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return await self._read_value(reader, _length(rest), budget)
        if kind == b"*" and not nested:
            count = _length(rest)
            if count > _MAX_ITEMS:
                raise _OutOfProtocol("protocol")
            return None if count < 0 else [await self._read(reader, budget, nested=True) for _ in range(count)]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ResponseError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        raise _OutOfProtocol("protocol")

    async def _read_value(self, reader: asyncio.StreamReader, length: int, budget: list[int]) -> bytes | None:
        if length < 0:
            return None
        budget[0] -= length
        if length > self._limits.value_bytes or budget[0] < 0:
            raise _OutOfProtocol("too_large")
        data = await reader.readexactly(length + 2)
        if not data.endswith(b"\r\n"):
            raise _OutOfProtocol("protocol")
        return data[:-2]


def _length(digits: bytes) -> int:
    """A RESP length: -1 or a count. Raises ValueError."""
    length = int(digits)
    if length < -1:
        raise ValueError(length)
    return length


def _greeting_kind(error: BaseException) -> ErrorKind:
    if isinstance(error, _OutOfProtocol):
        return error.kind
    if isinstance(error, AuthenticationError):
        return "wrongpass"
    return error_kind(error) if isinstance(error, ResponseError) else "connect"


def _connection_maker(url: str, limits: Limits) -> Callable[[], AbstractConnection]:
    """A function that makes unconnected connections. Raises ValueError, which names no part of the URL's user info."""
    try:
        options = dict(cast("Mapping[str, Any]", parse_url(url)))
    except ValueError:
        # The parser's own message may quote a password that was not percent-encoded.
        raise ValueError(
            "the Redis URL does not parse; expected redis://[user:password@]host[:port][/db], rediss:// or unix://, "
            "with special characters of user and password percent-encoded"
        ) from None
    kind = cast("type[AbstractConnection]", options.pop("connection_class", Connection))
    refused = _refused(options)
    if refused:
        raise ValueError(f"the Redis URL carries options that are not allowed here: {', '.join(refused)}")
    options |= {
        "protocol": 2,
        "socket_timeout": None,  # each exchange has one deadline of its own
        "socket_connect_timeout": limits.connect_seconds,
        "parser_class": partial(_BoundedParser, limits=limits),
    }
    try:
        pattern = kind(**options)
        if isinstance(pattern, SSLConnection):
            pattern.ssl_context.get()  # reads the certificates: once, and now
    except Exception as error:
        raise ValueError(f"the Redis URL's options do not fit ({type(error).__name__})") from None

    def make() -> AbstractConnection:
        connection = kind(**options)
        if isinstance(pattern, SSLConnection) and isinstance(connection, SSLConnection):
            connection.ssl_context = pattern.ssl_context
        return connection

    return make


def _refused(options: Iterable[str]) -> list[str]:
    place = {"host", "port", "path"}
    return sorted(name for name in options if name not in _URL_OPTIONS | place and not name.startswith("ssl_"))
