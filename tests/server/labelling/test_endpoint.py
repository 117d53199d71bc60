"""A real endpoint over real sockets: what passes is tried again, what does not is not, and everything is counted."""

import asyncio
import json
import logging
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from assay_server.errors import InvalidItem
from assay_server.labelling.endpoint import Endpoint, EndpointFailed, EndpointOptions, EndpointRefused

from tests.support.label_endpoint import LabelServer, Reply
from tests.support.waiting import PATIENCE, in_time

ASK = [{"role": "user", "content": "what is it?"}]


def reach(judge: LabelServer, **changes: Any) -> Endpoint:
    options = {"url": judge.url, "model": "judge", "timeout_seconds": PATIENCE, "backoff_seconds": 0.01, **changes}
    return Endpoint(EndpointOptions(**options))


async def test_a_completion_is_asked_for_as_the_api_says(judge: LabelServer) -> None:
    endpoint = reach(judge, api_key="s3cret")
    assert await endpoint.complete(ASK, max_tokens=9) == "fine"
    assert judge.paths == ["/v1/chat/completions"]
    assert judge.requests == [{"model": "judge", "messages": ASK, "temperature": 0, "max_tokens": 9}]
    assert judge.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(endpoint.options)
    usage = endpoint.usage
    assert (usage.requests, usage.failures, usage.prompt_tokens, usage.completion_tokens) == (1, 0, 100, 7)
    assert usage.seconds > 0


async def test_the_key_shows_in_no_log_and_the_environment_sends_nothing_elsewhere(
    judge: LabelServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with caplog.at_level(logging.DEBUG):
        assert await reach(judge, api_key="s3cret").complete(ASK) == "fine"
    assert "s3cret" not in caplog.text


async def test_an_answer_past_its_bound_is_no_completion_and_is_not_read_on(judge: LabelServer) -> None:
    judge.script = [Reply(body=b" " * (5 << 20) + b"{}")]
    with pytest.raises(EndpointFailed, match=f"{4 << 20} bytes that are no completion"):
        await reach(judge, attempts=1).complete(ASK)


async def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        endpoint = Endpoint(EndpointOptions(f"https://127.0.0.1:{port}/v1", "judge", backoff_seconds=0.01))
        with pytest.raises(EndpointRefused, match="certificate"):
            await endpoint.complete(ASK)
        await endpoint.aclose()
    assert endpoint.usage.requests == 1


async def test_no_key_sends_no_header(judge: LabelServer) -> None:
    await reach(judge).complete(ASK)
    assert "Authorization" not in judge.headers[0]


@pytest.mark.parametrize(
    "bad",
    [
        Reply(status=429),
        Reply(status=500, body=b"<html>"),
        Reply(status=503),
        Reply(body=b"garbage"),
        Reply(body=b"{}"),
        Reply(body=b"[]"),
        Reply(body=json.dumps({"choices": []}).encode()),
        Reply(body=json.dumps({"choices": [{"message": {"content": None}}]}).encode()),
        Reply(body=b"\xff\xfe"),
    ],
)
async def test_what_may_pass_is_tried_again(judge: LabelServer, bad: Reply) -> None:
    judge.script = [bad, bad]
    endpoint = reach(judge)
    assert await endpoint.complete(ASK) == "fine"
    assert (endpoint.usage.requests, endpoint.usage.failures) == (3, 2)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
async def test_what_will_not_pass_is_not_tried_again_and_keeps_the_key_to_itself(judge: LabelServer, status: int) -> None:
    judge.script = [Reply(status=status, headers={"Location": "http://127.0.0.1:1/"})]
    endpoint = reach(judge, api_key="s3cret")
    with pytest.raises(EndpointRefused, match=f"status {status}") as refused:
        await endpoint.complete(ASK)
    assert len(judge.requests) == 1
    assert "s3cret" not in str(refused.value)
    assert refused.value.details == {"status": str(status)}


async def test_attempts_end_and_the_error_says_how_many_and_why(judge: LabelServer) -> None:
    judge.answer = lambda request: Reply(status=503)
    endpoint = reach(judge, attempts=3)
    with pytest.raises(EndpointFailed, match="3 attempts; the last one: status 503"):
        await endpoint.complete(ASK)
    assert len(judge.requests) == 3


async def test_an_endpoint_that_is_not_there_fails_as_one() -> None:
    endpoint = Endpoint(EndpointOptions("http://127.0.0.1:1/v1", "judge", attempts=2, backoff_seconds=0.01))
    with pytest.raises(EndpointFailed, match="ConnectionRefusedError"):
        await endpoint.complete(ASK)


@pytest.mark.parametrize("slow", [Reply(wait=5.0, body=b"late"), Reply(body=b"x" * 100, drip=0.05)])
async def test_slowness_ends_with_the_timeout_whether_silent_or_dripping(judge: LabelServer, slow: Reply) -> None:
    judge.script = [slow]
    endpoint = reach(judge, timeout_seconds=0.3)
    began = time.monotonic()
    assert await endpoint.complete(ASK) == "fine"
    waited = time.monotonic() - began
    assert waited >= 0.3
    assert in_time(waited, 3.0)
    assert endpoint.usage.failures == 1


async def test_the_last_failure_names_the_timeout(judge: LabelServer) -> None:
    judge.script = [Reply(wait=5.0)]
    with pytest.raises(EndpointFailed, match=r"no answer within 0\.2 s"):
        await reach(judge, timeout_seconds=0.2, attempts=1).complete(ASK)


async def test_a_retry_after_is_obeyed(judge: LabelServer) -> None:
    judge.script = [Reply(status=429, headers={"Retry-After": "0.4"})]
    began = time.monotonic()
    await reach(judge).complete(ASK)
    assert time.monotonic() - began >= 0.4


async def test_never_more_requests_at_once_than_allowed(judge: LabelServer) -> None:
    answer = judge.answer

    def slowly(request: dict[str, Any]) -> Reply:
        judge.answer = answer
        reply = judge.reply(request)
        judge.answer = slowly
        return Reply(body=reply.body, wait=0.03)

    judge.answer = slowly
    endpoint = reach(judge, concurrency=3)
    assert await asyncio.gather(*(endpoint.complete(ASK) for _ in range(12))) == ["fine"] * 12
    assert judge.most_running == 3


async def test_a_cancelled_question_leaves_no_task_behind(judge: LabelServer) -> None:
    judge.script = [Reply(wait=1.0)]
    endpoint = reach(judge)
    asking = asyncio.create_task(endpoint.complete(ASK))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await endpoint.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("url", ["", "host/v1", "ftp://host/v1", "http:///v1", "https://user:pass@host/v1"])
def test_an_address_that_is_none_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(InvalidItem, match="label_endpoint") as refused:
        EndpointOptions(url, "judge")
    assert refused.value.reason == "INVALID_LABEL_ENDPOINT"
    assert "pass" not in refused.value.message.replace("passed", "")


def test_a_model_must_be_named() -> None:
    with pytest.raises(InvalidItem, match="label_model") as refused:
        EndpointOptions("http://127.0.0.1:1/v1", "")
    assert refused.value.reason == "NO_LABEL_MODEL"
