"""Single calls: what they send, what they return, how they fail; the blocking and the async client by the same tests."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from assay import (
    AssayError,
    AsyncClient,
    CacheState,
    Client,
    Concept,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    Pair,
    PromptedResponse,
    ScoreOptions,
    ServerFault,
    Timeouts,
    Tls,
    Unauthenticated,
    Unsupported,
    chat,
)

from tests.client.conftest import pairs
from tests.client.support.server import LABELLED, ScriptedServer, rich_status
from tests.support.waiting import PATIENCE

Call = Callable[..., Any]


def call_sync(address: str, method: str, *args: Any, client: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    with Client(address, **client or {}) as one:
        result = getattr(one, method)(*args, **kwargs)
        return list(result) if method == "list_features" else result


def call_async(address: str, method: str, *args: Any, client: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    async def go() -> Any:
        async with AsyncClient(address, **client or {}) as one:
            result = getattr(one, method)(*args, **kwargs)
            return [item async for item in result] if method == "list_features" else await result

    return asyncio.run(go())


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    return request.param


def test_the_model_comes_with_its_limits_and_identity(server: ScriptedServer, call: Call) -> None:
    model = call(server.address, "model")
    assert (model.model_id, model.hook, model.d_sae) == ("tests/scripted", "blocks.1.hook_resid_post", 4096)
    assert model.explained_variance == 0.8125
    assert model.overrides == ("a check that the operator overrode",)
    assert model.limits.max_pairs_per_message == 100
    assert model.has_chat_template
    assert model.identity["sae"] == "d" * 64
    assert model.whole_model_fingerprint == "e" * 64


def test_score_pairs_returns_one_result_a_pair_with_everything_typed(server: ScriptedServer, call: Call) -> None:
    options = ScoreOptions(top_k=3, concepts=[Concept.feature("seven", 7)], include_features=True)
    results = call(server.address, "score_pairs", [*pairs(2), Pair("raw text", "", "x", id="bad")], options)
    assert [result.ok for result in results] == [True, True, False]
    score = results[0].unwrap()
    assert len(score.by_max) == 3
    assert all(one.difference == one.chosen - one.rejected for one in score.by_max)
    assert score.concept("seven").chosen == len("It is 0.")
    assert len(score.chosen_features) == len(score.chosen_features.max) > 0
    assert list(score.chosen_features.indices) == sorted(score.chosen_features.indices)
    assert score.timings.cache_state in (CacheState.HIT, CacheState.MISS)
    assert hash(score) == hash(results[0].unwrap())
    with pytest.raises(KeyError):
        score.concept("unasked")


def test_score_responses_has_values_on_one_side_only(server: ScriptedServer, call: Call) -> None:
    given = [PromptedResponse(chat("Hello?"), "Hello!", id="a"), PromptedResponse("raw", "", id="b")]
    results = call(server.address, "score_responses", given)
    assert results[0].unwrap().by_max[0].chosen == 0.5
    assert results[0].unwrap().by_max.rejected == (0.0,)
    assert (results[1].id, results[1].error.reason) == ("b", "EMPTY_SPAN")


def test_encode_tokens_gives_offsets_and_activations(server: ScriptedServer, call: Call) -> None:
    text = call(server.address, "encode_tokens", "abc", [5, 9])
    assert [(token.text, token.start, token.end) for token in text.tokens] == [("a", 0, 1), ("b", 1, 2), ("c", 2, 3)]
    assert [one.feature for one in text.activations] == [5, 9]


def test_features_are_asked_for_in_as_many_calls_as_the_limit_needs(server: ScriptedServer, call: Call) -> None:
    ids = [*range(150, 0, -1), 7]
    found = call(server.address, "features", ids)
    assert list(found) == list(range(150, 0, -1))
    assert found[7].label == "label 7"
    assert (found[7].detection_score, found[8].detection_score) == (0.75, None)
    assert server.manners.calls.count("BatchGetFeatures") == 3


def test_no_ids_ask_nothing(server: ScriptedServer, call: Call) -> None:
    assert call(server.address, "features", []) == {}
    assert server.manners.calls == []


def test_list_features_goes_through_all_pages(server: ScriptedServer, call: Call) -> None:
    assert [feature.id for feature in call(server.address, "list_features")] == list(range(LABELLED))
    assert server.manners.calls.count("ListFeatures") == 3
    assert [feature.id for feature in call(server.address, "list_features", "label 119")] == [119, *range(1190, 1200)]


def test_a_lost_single_call_is_repeated_by_grpc_itself(server: ScriptedServer, call: Call) -> None:
    server.manners.refusals.extend([rich_status("UNAVAILABLE", "moment", reason="LOADING")] * 2)
    assert call(server.address, "model").d_in == 64
    assert server.manners.calls == ["GetModel"] * 3


def test_pushback_of_an_overloaded_server_is_honoured(server: ScriptedServer, call: Call) -> None:
    busy = rich_status("RESOURCE_EXHAUSTED", "busy", reason="OVERLOADED", retry_seconds=0.7)
    server.manners.refusals.append(busy)
    start = time.monotonic()
    assert len(call(server.address, "score_pairs", pairs(1))) == 1
    assert time.monotonic() - start >= 0.7


def test_a_request_larger_than_grpcs_usual_retry_buffer_is_repeated_too(server: ScriptedServer, call: Call) -> None:
    server.manners.refusals.append(rich_status("UNAVAILABLE", "moment"))
    big = [Pair("p", "w" * 700_000, "short")]
    assert call(server.address, "score_pairs", big)[0].ok


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("UNAVAILABLE", "LOADING", NotReady),
        ("RESOURCE_EXHAUSTED", "OVERLOADED", Overloaded),
        ("INVALID_ARGUMENT", "UNKNOWN_FEATURE", InvalidRequest),
        ("NOT_FOUND", "UNKNOWN_MODEL", NotFound),
        ("UNAUTHENTICATED", "BAD_TOKEN", Unauthenticated),
        ("PERMISSION_DENIED", "BAD_TOKEN", Unauthenticated),
        ("UNIMPLEMENTED", "", Unsupported),
        ("INTERNAL", "ENGINE_FAILURE", ServerFault),
        ("DATA_LOSS", "", ServerFault),
    ],
)
def test_each_status_becomes_its_error_with_reason_and_details(
    server: ScriptedServer, call: Call, code: str, reason: str, kind: type[AssayError]
) -> None:
    status = rich_status(code, "what happened", reason=reason, details={"limit": "5"}, retry_seconds=0.05)
    server.manners.refusals.extend([status] * 5)
    with pytest.raises(kind, match="what happened") as caught:
        call(server.address, "score_pairs", pairs(1))
    error = caught.value
    assert (error.code, error.reason) == (code, reason)
    assert error.details == ({"limit": "5"} if reason else {})
    if isinstance(error, Overloaded):
        assert error.retry_after_seconds == 0.05


def test_a_deadline_is_finite_by_default_and_says_so(server: ScriptedServer, call: Call) -> None:
    server.manners.seconds_a_batch = 1.0
    with pytest.raises(DeadlineExceeded):
        call(server.address, "score_pairs", pairs(1), client={"timeouts": Timeouts(score=0.2)})
    with pytest.raises(DeadlineExceeded):
        call(server.address, "score_pairs", pairs(1), timeout=0.2)


def test_a_message_over_grpcs_limit_is_no_overload_and_is_not_repeated(server: ScriptedServer, call: Call) -> None:
    with pytest.raises(InvalidRequest, match="larger than max") as caught:
        call(server.address, "score_pairs", [Pair("p", "w" * (2 << 20), "x")])
    assert caught.value.reason == "MESSAGE_TOO_LARGE"
    with pytest.raises(InvalidRequest, match="larger than max"):
        call(server.address, "score_pairs", pairs(50), client={"max_receive_bytes": 100})


def test_waiting_for_a_server_that_is_still_loading(server: ScriptedServer, call: Call) -> None:
    server.manners.refusals.extend([rich_status("UNAVAILABLE", "loading", reason="LOADING")] * 7)
    assert call(server.address, "wait_until_ready", timeout=PATIENCE).d_in == 64


def test_waiting_ends_with_the_reason_when_the_time_is_up(server: ScriptedServer, call: Call) -> None:
    server.manners.refusals.extend([rich_status("UNAVAILABLE", "loading", reason="LOADING")] * 500)
    with pytest.raises((NotReady, DeadlineExceeded)):
        call(server.address, "wait_until_ready", timeout=0.5)


def test_a_token_and_the_clients_name_travel_with_every_call(server: ScriptedServer, call: Call) -> None:
    call(server.address, "score_pairs", pairs(1), client={"token": "s3cret"})
    assert server.manners.metadata[-1]["authorization"] == "Bearer s3cret"
    assert server.manners.metadata[-1]["user-agent"].startswith("assay-python/")


@pytest.mark.parametrize("address", ["scores.example.com:443", "10.0.0.4:50151", "[2001:db8::1]:50151", "dns:///a:1"])
def test_a_token_does_not_leave_the_machine_unencrypted_unless_told_so(address: str) -> None:
    with pytest.raises(ValueError, match="unencrypted"):
        Client(address, token="s3cret")
    Client(address, token="s3cret", allow_insecure_token=True).close()
    Client(address, token="s3cret", tls=Tls()).close()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/assay.sock", "dns:///localhost:1"])
def test_loopback_needs_no_encryption(address: str) -> None:
    Client(address, token="s3cret").close()


def test_tls_with_an_own_authority(tmp_path: Any, call: Call) -> None:
    certificate, key = _self_signed(tmp_path)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    server = ScriptedServer(credentials=credentials)
    try:
        assert call(server.address, "model", client={"tls": Tls(authorities=certificate), "token": "t"}).d_in == 64
        with pytest.raises(AssayError):
            call(server.address, "model", client={"tls": Tls()}, timeout=3)
    finally:
        server.stop()


def _self_signed(folder: Any) -> tuple[Any, Any]:
    """A certificate for 127.0.0.1, by openssl; the test is skipped where there is none."""
    import shutil
    import subprocess

    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: TLS is not tested here")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    what = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([openssl, *what.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def test_a_closed_client_says_so(server: ScriptedServer) -> None:
    client = Client(server.address)
    client.close()
    with pytest.raises(AssayError, match="closed"):
        client.model()
