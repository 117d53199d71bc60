"""Statuses that are odd, empty or damaged still become errors that say something."""

from typing import Any

import grpc
from assay import ConnectionFailed, ItemError, NotReady, ServerFault
from assay.errors import AssayError, from_rpc_error, is_transport_fault
from google.protobuf import any_pb2
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from tests.client.support.server import rich_status


class Failed:
    """A call that ended so."""

    def __init__(self, code: grpc.StatusCode | None, text: str | None, trailers: list[tuple[str, Any]] | None) -> None:
        self._parts = code, text, trailers

    def code(self) -> grpc.StatusCode | None:
        return self._parts[0]

    def details(self) -> str | None:
        return self._parts[1]

    def trailing_metadata(self) -> list[tuple[str, Any]] | None:
        return self._parts[2]


@given(
    code=st.one_of(st.none(), st.sampled_from([code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])),
    text=st.one_of(st.none(), st.text()),
    trailers=st.one_of(
        st.none(),
        st.lists(st.tuples(st.sampled_from(["grpc-status-details-bin", "grpc-retry-pushback-ms", "x"]), st.binary() | st.text())),
    ),
)
def test_any_ending_of_a_call_becomes_an_error_of_the_family(code: Any, text: Any, trailers: Any) -> None:
    failed = Failed(code, text, trailers)
    assert isinstance(from_rpc_error(failed, address="a:1"), AssayError)
    assert is_transport_fault(failed) in (True, False)


@given(st.integers(-(2**31), 2**31 - 1), st.text(), st.binary(max_size=40))
def test_any_status_becomes_an_item_error_and_an_exception(code: int, message: str, value: bytes) -> None:
    detail = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=value)
    item = ItemError.from_proto(status_pb2.Status(code=code, message=message, details=[detail]))
    assert item.message == message
    assert isinstance(item.exception(), AssayError)


def test_unavailable_with_a_reason_is_a_server_that_is_there() -> None:
    loading = rich_status("UNAVAILABLE", "loading the model", reason="LOADING")
    assert isinstance(ItemError.from_proto(loading).exception(), NotReady)
    assert type(ItemError.from_proto(rich_status("UNAVAILABLE", "refused")).exception()) is ConnectionFailed


def test_a_reset_stream_is_the_transports_fault_and_a_servers_own_word_is_not() -> None:
    assert is_transport_fault(Failed(grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", []))
    said = rich_status("INTERNAL", "RST_STREAM in a message of the engine", reason="ENGINE_FAILURE").SerializeToString()
    own = Failed(grpc.StatusCode.INTERNAL, "RST_STREAM in a message", [("grpc-status-details-bin", said)])
    assert not is_transport_fault(own)
    assert type(from_rpc_error(own)) is ServerFault


def test_a_connection_failure_names_the_address_and_what_to_do() -> None:
    error = from_rpc_error(Failed(grpc.StatusCode.UNAVAILABLE, "refused", []), address="127.0.0.1:9")
    assert "127.0.0.1:9" in str(error)
    assert "assay serve" in str(error)
