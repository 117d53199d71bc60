"""Retries of single calls: which methods have them, seen on the wire."""

from collections import Counter
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from assay.transport import Endpoint, unary_methods
from assay.v1 import audit_service_pb2, concept_service_pb2, intervention_service_pb2, model_pb2, scoring_pb2
from google.longrunning import operations_pb2

from tests.support.waiting import PATIENCE

FILES = (audit_service_pb2, concept_service_pb2, intervention_service_pb2, model_pb2, scoring_pb2, operations_pb2)


class Unavailable(grpc.GenericRpcHandler):
    """Answers every method's first call with UNAVAILABLE, and later ones with an empty message."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        path = handler_call_details.method

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls[path] += 1
            if self.calls[path] == 1:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def unavailable() -> Iterator[tuple[Unavailable, str]]:
    handler = Unavailable()
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"127.0.0.1:{port}"
    server.stop(None)


def test_the_methods_are_those_of_the_contracts_services_that_stream_nothing() -> None:
    found = {
        (service.full_name, method.name)
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    }
    assert set(unary_methods()) == found
    assert ("assay.v1.InterventionService", "CreatePlan") in found
    assert not {method for _, method in found} & {"StreamPairs", "UploadPairs", "ExportAudit", "StreamOffsets", "ExportDataPlan"}


@pytest.mark.parametrize(("service", "method"), unary_methods())
def test_a_call_that_finds_the_server_unavailable_is_made_again(
    unavailable: tuple[Unavailable, str], service: str, method: str
) -> None:
    handler, address = unavailable
    path = f"/{service}/{method}"
    with Endpoint(address).channel() as channel:
        assert channel.unary_unary(path)(b"", timeout=PATIENCE) == b""
    assert handler.calls[path] == 2
