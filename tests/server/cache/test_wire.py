"""The wire against a peer that answers what no Redis would: a bounded failure each time, and never another's reply."""

import asyncio
import itertools
import shutil
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from assay_server.cache import ErrorKind, encode
from assay_server.cache.redis import KEY_PREFIX
from assay_server.cache.wire import ExchangeFailed, Limits, Pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from tests.server.cache.builders import Recorder, key_of, pooled_of, same
from tests.server.cache.conftest import QUICK, MakeCache
from tests.support.lying_redis import LyingRedis, array
from tests.support.redis_server import RedisServer
from tests.support.waiting import in_time, until

LIMITS = Limits(connect_seconds=0.5, exchange_seconds=0.25, value_bytes=1000, reply_bytes=4000)
GOOD = encode(key_of(0), pooled_of(0))
KEYS = [key_of(seed) for seed in range(4)]


@pytest.mark.serial
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"$1001\r\n" + b"x" * 1001 + b"\r\n", "too_large"),
        (b"$99999999999999\r\n", "too_large"),
        (b"*5\r\n" + b"".join(b"$900\r\n" + b"x" * 900 + b"\r\n" for _ in range(5)), "too_large"),
        (b"*2000\r\n", "protocol"),
        (b"*99999999999999\r\n", "protocol"),
        (b"$-2\r\n", "protocol"),
        (b"*-2\r\n", "protocol"),
        (b"$\r\n", "protocol"),
        (b"$3\r\nabcde", "protocol"),
        (b"*1\r\n*1\r\n*0\r\n", "protocol"),
        (b":abc\r\n", "protocol"),
        (b"%1\r\n", "protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
        (b"x" * 100_000, "protocol"),
        (b"$10\r\nabc", "timeout"),
        (b"*3\r\n$1\r\na\r\n", "timeout"),
        (b"$3", "timeout"),
        (b"", "connection"),
    ],
)
async def test_a_reply_out_of_protocol_ends_the_exchange_and_its_connection(reply: bytes, kind: ErrorKind) -> None:
    async with LyingRedis(lambda _: reply) as liar:
        pool = Pool(liar.url, size=1, limits=LIMITS)
        for exchanges in (1, 2):
            began = time.monotonic()
            with pytest.raises(ExchangeFailed) as caught:
                await pool.exchange([(b"GET", b"key")])
            assert caught.value.kind == kind
            assert in_time(time.monotonic() - began, LIMITS.exchange_seconds + 0.4)
            assert liar.connections == exchanges
        pool.close()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(reply=st.one_of(st.binary(max_size=60), st.text("$*+-:0123456789\r\nab", max_size=40).map(str.encode)))
def test_any_bytes_are_a_reply_or_a_failure(reply: bytes) -> None:
    async def ask() -> None:
        async with LyingRedis(lambda _: reply) as liar:
            pool = Pool(liar.url, size=1, limits=replace(LIMITS, exchange_seconds=0.02))
            try:
                [answer] = await pool.exchange([(b"GET", b"key")])
                assert answer is None or isinstance(answer, (bytes, int, list, ResponseError))
            except ExchangeFailed:
                pass
            pool.close()

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("LOADING Redis is loading the dataset in memory", "loading"),
        ("MISCONF Redis is configured to save RDB snapshots", "misconf"),
        ("MASTERDOWN Link with MASTER is down", "masterdown"),
        ("CLUSTERDOWN The cluster is down", "clusterdown"),
        ("MOVED 3999 127.0.0.1:6381", "moved"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "crossslot"),
        ("NOPERM this user has no permissions", "noperm"),
        ("BUSY Redis is busy running a script", "busy_script"),
        ("ERR max number of clients reached", "reply"),
        ("", "reply"),
    ],
)
async def test_errors_that_redis_names_are_counted_by_name_and_open_the_breaker(
    make_cache: MakeCache, recorder: Recorder, error: str, kind: ErrorKind
) -> None:
    async with LyingRedis(lambda _: f"-{error}\r\n".encode()) as liar:
        cache = make_cache(liar.url, replace(QUICK, open_seconds=60))
        for _ in range(10):
            assert await cache.get_many(KEYS) == [None] * 4
        assert recorder.failed == {kind: QUICK.failures_to_open}
        assert liar.connections == 1  # an error is a reply: the connection is in step
        for seed in range(QUICK.failures_to_open):
            cache.put_many([(key_of(seed), pooled_of(seed))])
            await until(lambda n=seed + 1: recorder.failed[kind] == QUICK.failures_to_open + n)
        assert recorder.states == {"read": ["open"], "write": ["open"]}
        await cache.aclose()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (array([GOOD]), "protocol"),
        (array([GOOD, None, None, None, None]), "protocol"),
        (b"$3\r\nabc\r\n", "protocol"),
        (b"*-1\r\n", "protocol"),
        (b":4\r\n", "protocol"),
        (b"*4\r\n:1\r\n$-1\r\n$-1\r\n$-1\r\n", "protocol"),
        (b"*4\r\n-ERR\r\n$-1\r\n$-1\r\n$-1\r\n", "protocol"),
        (array([None, GOOD, None, None]), "corrupt"),
        (array([GOOD[:-1], None, None, None]), "corrupt"),
    ],
)
async def test_a_wrong_answer_to_mget_is_a_miss_and_a_count(
    make_cache: MakeCache, recorder: Recorder, values: bytes, kind: ErrorKind
) -> None:
    async with LyingRedis(lambda _: values) as liar:
        cache = make_cache(liar.url)
        assert await cache.get_many(KEYS) == [None] * 4
        assert recorder.failed == {kind: 1}
        await cache.aclose()


async def test_replies_that_came_out_of_step_are_never_taken_and_the_connection_is_given_up(
    make_cache: MakeCache, recorder: Recorder
) -> None:
    """One reply too many shifts all that follow on the connection by one (redis-py #2624)."""
    first = itertools.count()

    def answer(command: Sequence[bytes]) -> bytes:
        asked = [int.from_bytes(name.removeprefix(KEY_PREFIX), "big") for name in command[1:]]
        true = array([encode(key_of(seed), pooled_of(seed)) for seed in asked])
        return array([encode(key_of(9), pooled_of(9))]) + true if next(first) == 0 else true

    async with LyingRedis(answer) as liar:
        cache = make_cache(liar.url)
        answers = [(await cache.get_many([key_of(seed)]))[0] for seed in range(4)]
        assert answers[0] is None
        assert all(same(found, pooled_of(seed + 1)) for seed, found in enumerate(answers[1:]))
        assert recorder.failed == {"corrupt": 1}
        assert liar.connections == 2
        await cache.aclose()


async def test_more_exchanges_than_connections_wait_and_then_fail_as_busy() -> None:
    async with LyingRedis(lambda _: b"$10\r\n") as liar:
        pool = Pool(liar.url, size=2, limits=replace(LIMITS, exchange_seconds=0.2))
        outcomes = await asyncio.gather(*(pool.exchange([(b"GET", b"key")]) for _ in range(8)), return_exceptions=True)
        kinds = [outcome.kind for outcome in outcomes if isinstance(outcome, ExchangeFailed)]
        assert len(kinds) == 8
        assert set(kinds) == {"timeout", "busy"}
        assert kinds.count("timeout") >= 2
        pool.close()


async def test_a_cancelled_exchange_gives_up_its_connection() -> None:
    async with LyingRedis(lambda _: b"$2\r\nab") as liar:
        pool = Pool(liar.url, size=1, limits=LIMITS)
        exchange = asyncio.create_task(pool.exchange([(b"GET", b"key")]))
        await until(lambda: (b"GET", b"key") in liar.commands)
        exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange
        liar.answer = lambda _: b"$5\r\nright\r\n"
        assert await pool.exchange([(b"GET", b"key")]) == [b"right"]
        assert liar.connections == 2
        pool.close()


async def test_a_stalled_event_loop_is_not_taken_for_a_slow_redis(redis: RedisServer) -> None:
    """The reply is there all along; it is us who do not look."""
    pool = Pool(redis.url, size=1, limits=replace(LIMITS, exchange_seconds=0.2))
    assert await pool.exchange([(b"SET", b"key", b"right")]) == [b"OK"]
    redis.command("CLIENT", "PAUSE", 50, "ALL")
    exchange = asyncio.create_task(pool.exchange([(b"GET", b"key")]))
    await asyncio.sleep(0.01)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall
    assert await exchange == [b"right"]
    pool.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


async def test_rediss_speaks_tls_and_believes_only_its_authority(
    redis: RedisServer, certificate: tuple[Path, Path], make_cache: MakeCache, recorder: Recorder
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", redis.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context) as terminator:
        url = f"rediss://127.0.0.1:{terminator.sockets[0].getsockname()[1]}"
        trusting = make_cache(f"{url}?ssl_ca_certs={certificate[0]}")
        trusting.put_many([(key_of(0), pooled_of(0))])
        await until(lambda: recorder.written == 1)
        assert same((await trusting.get_many([key_of(0)]))[0], pooled_of(0))
        assert not recorder.failed
        assert await make_cache(url).get_many([key_of(0)]) == [None]
        assert recorder.failed == {"connect": 1}
        await trusting.aclose()


async def test_a_unix_socket_will_do(make_cache: MakeCache, recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(arguments=("--unixsocket", str(path))):
        cache = make_cache(f"unix://{path}?db=1")
        cache.put_many([(key_of(0), pooled_of(0))])
        await until(lambda: recorder.written == 1)
        assert same((await cache.get_many([key_of(0)]))[0], pooled_of(0))
        await cache.aclose()
    assert not recorder.failed
