"""An OpenAI-compatible endpoint (``POST {base}/chat/completions``) that the operator configured; the only network here.

Invariants:
- At most ``concurrency`` requests at once; each attempt ends within ``timeout_seconds``, even if bytes trickle in.
- Transient failures (429, 5xx, a lost connection, a timeout, an answer that is no completion) are retried with growing
  back-off, obeying ``Retry-After`` up to a bound; permanent ones (400, 401, 403, 404, ...) are not.
- The key travels in one header, to the configured host only: redirects are not followed, and neither proxies nor credentials
  are taken from the environment. It shows in no error, repr or log.
- An answer is read up to a bound and never decompressed.
- Every attempt is counted in ``usage``, with the tokens that the endpoint reports.
"""

import asyncio
import json
import random
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from assay_server.errors import AssayError, EngineFailure, InvalidItem

_MAX_ANSWER_BYTES = 4 << 20
_MAX_HOLD_SECONDS = 60.0
_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class EndpointFailed(EngineFailure):
    """The endpoint gave no completion, however often it was asked."""

    default_reason = "LABEL_ENDPOINT_FAILED"


class EndpointRefused(EngineFailure):
    """The endpoint refuses every request: a wrong key, model or address."""

    default_reason = "LABEL_ENDPOINT_REFUSED"


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """How to reach an endpoint.

    Attributes:
        url: base, for example "https://host/v1"; "/chat/completions" is added.
        model: name of the model.
        api_key: bearer token; "" sends none.
        timeout_seconds: timeout per attempt, from connecting to the last byte.
        concurrency: requests at once.
        attempts: attempts per request, the first included.
        backoff_seconds: before the second attempt; doubles each time, and is scaled by a random factor in [½, 1].
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
    """What the endpoint has cost so far.

    Attributes:
        requests: attempts, including failed ones.
        failures: attempts without a completion.
        prompt_tokens: read, as the endpoint reports.
        completion_tokens: written, as it reports.
        seconds: waiting for it, over all attempts.
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
        self._jitter = random.Random(0)
        self._turns = asyncio.Semaphore(options.concurrency)
        parts = urlsplit(options.url)
        self._url = parts._replace(path=parts.path.rstrip("/") + "/chat/completions", query="", fragment="").geturl()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if options.api_key:
            headers["Authorization"] = f"Bearer {options.api_key}"
        # The system's certificates rather than httpx's own, so that a company's authority counts.
        trusted = ssl.create_default_context()
        self._client = httpx.AsyncClient(headers=headers, verify=trusted, timeout=None, trust_env=False, follow_redirects=False)

    async def complete(self, messages: Sequence[dict[str, str]], *, max_tokens: int = 256) -> str:
        """The text of one completion, at temperature 0.

        Raises:
            EndpointRefused: it refuses every request as it is configured.
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
        """Close its connections."""
        await self._client.aclose()

    async def _attempt(self, body: bytes) -> "str | _Transient":
        began = time.monotonic()
        self.usage.requests += 1
        completed = False
        try:
            async with self._turns, asyncio.timeout(self.options.timeout_seconds):
                status, held, data = await self._post(body)
            outcome = self._read(status, held, data)
            completed = isinstance(outcome, str)
            return outcome
        except TimeoutError:
            return _Transient(f"no answer within {self.options.timeout_seconds:g} s")
        except httpx.TransportError as error:
            cause = _first_cause(error)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise self._refused("its certificate cannot be verified") from error
            return _Transient(f"the connection failed ({type(cause).__name__})")
        finally:
            self.usage.failures += not completed
            self.usage.seconds += time.monotonic() - began

    async def _post(self, body: bytes) -> tuple[int, str | None, bytes]:
        """One exchange: status, ``Retry-After`` and the answer, cut at its bound."""
        async with self._client.stream("POST", self._url, content=body) as response:
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > _MAX_ANSWER_BYTES:
                    break
            return response.status_code, response.headers.get("Retry-After"), bytes(data[:_MAX_ANSWER_BYTES])

    def _read(self, status: int, held: str | None, data: bytes) -> "str | _Transient":
        if status in _TRANSIENT:
            return _Transient(f"status {status}", _seconds(held))
        if status != HTTPStatus.OK:
            raise self._refused(f"status {status}", details={"status": status})
        try:
            parsed: Any = json.loads(data)
            used = cast("dict[str, Any]", parsed.get("usage") or {})
            text: Any = parsed["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, AttributeError):
            return _Transient(f"{len(data)} bytes that are no completion")
        self.usage.prompt_tokens += _count(used.get("prompt_tokens"))
        self.usage.completion_tokens += _count(used.get("completion_tokens"))
        return text if isinstance(text, str) and text else _Transient("an empty completion")

    def _refused(self, why: str, details: dict[str, object] | None = None) -> AssayError:
        return EndpointRefused(
            f"The label endpoint answers {why}: check label_endpoint, label_model and label_api_key.", details=details
        )


@dataclass(frozen=True, slots=True)
class _Transient:
    """Why an attempt failed that may be retried, and how long the endpoint asks to wait."""

    why: str
    hold: float = 0.0


def _first_cause(error: BaseException) -> BaseException:
    """What a chain of wrapped exceptions began with; the first of several."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error


def _seconds(held: str | None) -> float:
    try:
        return max(0.0, float(held)) if held is not None else 0.0
    except ValueError:
        return 0.0  # a date: the back-off will do


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
