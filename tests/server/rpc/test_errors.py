"""From the error family to google.rpc.Status."""

import grpc
import pytest
from assay_server.errors import (
    AssayError,
    ContextOverflow,
    EngineFailure,
    Expired,
    InvalidItem,
    NotReady,
    Overloaded,
    SubjectMismatch,
)
from assay_server.rpc.errors import incident, to_status
from hypothesis import given
from hypothesis import strategies as st

from tests.support.wire import decode


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (InvalidItem("x"), grpc.StatusCode.INVALID_ARGUMENT, None),
        (ContextOverflow("x"), grpc.StatusCode.INVALID_ARGUMENT, None),
        (Overloaded("x", retry_after_seconds=2.5), grpc.StatusCode.RESOURCE_EXHAUSTED, 2.5),
        (Overloaded("x", retry_after_seconds=-1), grpc.StatusCode.RESOURCE_EXHAUSTED, 0.0),
        (Expired("x"), grpc.StatusCode.DEADLINE_EXCEEDED, None),
        (NotReady("x"), grpc.StatusCode.UNAVAILABLE, 1.0),
        (SubjectMismatch("x"), grpc.StatusCode.FAILED_PRECONDITION, None),
        (EngineFailure("x"), grpc.StatusCode.INTERNAL, None),
        (AssayError("x"), grpc.StatusCode.INTERNAL, None),
    ],
)
def test_each_error_has_its_code_and_says_whether_to_come_back(
    error: AssayError, code: grpc.StatusCode, retry: float | None
) -> None:
    status = decode(to_status(error))
    assert (status.code, status.info.reason, status.retry_seconds) == (code, error.reason, retry)


def test_field_paths_are_joined_to_the_items_own() -> None:
    def violations(field: str, within: str) -> list[str]:
        return decode(to_status(InvalidItem("x", field=field), within=within)).violations

    assert violations("chosen", "pairs[3]") == ["pairs[3].chosen"]
    assert violations("pairs[3].chosen", "pairs[3]") == ["pairs[3].chosen"]
    assert violations("", "pairs[3]") == ["pairs[3]"]
    assert violations("options.top_k", "") == ["options.top_k"]
    assert violations("", "") == []


@given(st.text(max_size=5000), st.dictionaries(st.text(max_size=300), st.text(max_size=3000), max_size=30), st.text(max_size=900))
def test_any_error_fits_into_a_clients_metadata(message: str, details: dict[str, str], field: str) -> None:
    status = to_status(InvalidItem(message, details=details, field=field))
    assert status.ByteSize() < 16 * 1024
    assert decode(status).code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_lone_surrogate_in_a_message_can_be_sent() -> None:
    assert to_status(InvalidItem("a\ud800b")).message == "a?b"


def test_an_incident_tells_the_caller_a_number_only() -> None:
    number, told = incident()
    assert number in told.message
    assert incident()[0] != number
