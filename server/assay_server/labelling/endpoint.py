"""An OpenAI-compatible endpoint (``POST {base}/chat/completions``) that the operator configured; the only network here.

Invariants:
- Never more than ``concurrency`` requests at once; every attempt ends within ``timeout_seconds``, however slowly bytes drip.
- What may pass (429, 5xx, a lost connection, a timeout, an answer that is no completion) is tried again, later each time, a
  ``Retry-After`` obeyed up to a bound; what will not pass (400, 401, 403, 404, ...) is not.
- The key travels in one header, to the configured host only (redirects are not followed), and shows in no error, repr or log.
- Every attempt is counted in ``usage``, with the tokens that the endpoint says it used.
"""

import asyncio
import http.client
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from assay_server.errors import AssayError, EngineFailure, InvalidItem

_MAX_ANSWER_BYTES = 4 << 20
_MAX_HOLD_SECONDS = 60.0
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class EndpointFailed(EngineFailure):
    """The endpoint gave no completion; trying again did not help."""

    default_reason = "LABEL_ENDPOINT_FAILED"


class EndpointRefused(EngineFailure):
    """The endpoint refuses every request: a wrong key, model or address. Nobody need ask again."""

    default_reason = "LABEL_ENDPOINT_REFUSED"


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """How an endpoint is reached.

    Attributes:
        url: base, for example "https://host/v1"; "/chat/completions" is added.
        model: what to ask for.
        api_key: bearer token; "" sends none.
        timeout_seconds: of one attempt, from connecting to the last byte.
        concurrency: requests at once.
        attempts: tries a request, the first included.
        backoff_seconds: before the second try; doubles each time, within [½, 1] of it at random.
    """

    url: str
    model: str
    api_key: str = field(default="", repr=False)
    timeout_seconds: float = 60.0
    concurrency: int = 4
    attempts: int = 4
    backoff_seconds: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise InvalidItem(
                "label_endpoint must be an http:// or https:// address with a host and no user in it, for example "
                "https://host/v1.",
                reason="INVALID_LABEL_ENDPOINT",
                field="label_endpoint",
            )
        if not self.model:
            raise InvalidItem("label_model is empty; name a model of the endpoint.", reason="NO_LABEL_MODEL", field="label_model")


@dataclass(slots=True)
class Usage:
    """What the endpoint cost so far.

    Attributes:
        requests: attempts, failed ones too.
        failures: attempts without a completion.
        prompt_tokens: that the endpoint says it read.
        completion_tokens: that it says it wrote.
        seconds: of waiting for it, over all attempts.
    """

    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class Endpoint:
    """Asks for completions. Confined to one event loop; close it with ``aclose``."""

    def __init__(self, options: EndpointOptions) -> None:
        self.options = options
        self.usage = Usage()
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="assay-label")
        self._jitter = random.Random(0)

    async def complete(self, messages: Sequence[dict[str, str]], *, max_tokens: int = 256) -> str:
        """The text of one completion, at temperature 0.

        Raises:
            EndpointRefused: it will not answer any request as it is configured.
            EndpointFailed: no attempt gave a completion.
        """
        body = {"model": self.options.model, "messages": list(messages), "temperature": 0, "max_tokens": max_tokens}
        last = ""
        for attempt in range(self.options.attempts):
            answered = await self._attempt(json.dumps(body).encode())
            if isinstance(answered, str):
                return answered
            last = answered.why
            if attempt + 1 < self.options.attempts:
                backoff = self.options.backoff_seconds * 2**attempt * self._jitter.uniform(0.5, 1.0)
                await asyncio.sleep(min(max(backoff, answered.hold), _MAX_HOLD_SECONDS))
        raise EndpointFailed(
            f"The label endpoint gave no completion in {self.options.attempts} attempts; the last one: {last}.",
            details={"attempts": self.options.attempts, "last": last},
        )

    async def aclose(self) -> None:
        """Give up what is under way; its threads end with their timeouts."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _attempt(self, body: bytes) -> "str | _Passing":
        began = time.monotonic()
        self.usage.requests += 1
        completed = False
        try:
            status, held, data = await asyncio.get_running_loop().run_in_executor(self._pool, self._post, body)
            outcome = self._read(status, held, data)
            completed = isinstance(outcome, str)
            return outcome
        except TimeoutError:
            return _Passing(f"no answer within {self.options.timeout_seconds:g} s")
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                raise self._refused("its certificate cannot be verified") from error
            return _Passing(f"the connection failed ({type(error).__name__})")
        finally:
            self.usage.failures += not completed
            self.usage.seconds += time.monotonic() - began

    def _read(self, status: int, held: str | None, data: bytes) -> "str | _Passing":
        if status in _PASSING:
            return _Passing(f"status {status}", _seconds(held))
        if status != http.client.OK:
            raise self._refused(f"status {status}", details={"status": status})
        try:
            parsed: Any = json.loads(data)
            used = cast("dict[str, Any]", parsed.get("usage") or {})
            text: Any = parsed["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, AttributeError):
            return _Passing(f"{len(data)} bytes that are no completion")
        self.usage.prompt_tokens += _count(used.get("prompt_tokens"))
        self.usage.completion_tokens += _count(used.get("completion_tokens"))
        return text if isinstance(text, str) and text else _Passing("an empty completion")

    def _refused(self, why: str, details: dict[str, object] | None = None) -> AssayError:
        return EndpointRefused(
            f"The label endpoint answers {why}: check label_endpoint, label_model and label_api_key.", details=details
        )

    def _post(self, body: bytes) -> tuple[int, str | None, bytes]:
        """One exchange; runs in a thread. Raises OSError (TimeoutError among it) or HTTPException."""
        deadline = time.monotonic() + self.options.timeout_seconds
        parts = urlsplit(self.options.url)
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = make(cast(str, parts.hostname), parts.port, timeout=self.options.timeout_seconds)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.options.api_key:
            headers["Authorization"] = f"Bearer {self.options.api_key}"
        try:
            connection.connect()
            with _cut_off(connection.sock, deadline):
                connection.request("POST", parts.path.rstrip("/") + "/chat/completions", body, headers)
                response = connection.getresponse()
                answer = response.status, response.getheader("Retry-After"), response.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                raise TimeoutError from error
            raise
        finally:
            connection.close()
        if time.monotonic() >= deadline:
            raise TimeoutError
        return answer


@dataclass(frozen=True, slots=True)
class _Passing:
    """An attempt that failed in a way that may pass: why, and how long the endpoint asks to wait."""

    why: str
    hold: float = 0.0


@contextmanager
def _cut_off(sock: socket.socket, deadline: float) -> Generator[None]:
    """Ends all reading and writing at the deadline: a socket's own timeout starts anew with every byte."""

    def cut() -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _seconds(held: str | None) -> float:
    try:
        return max(0.0, float(held)) if held is not None else 0.0
    except ValueError:
        return 0.0  # a date: the back-off will do


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
