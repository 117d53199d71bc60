"""What a stranger learns of the contract by asking a server: enough to call it without our protos."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from assay.v1 import model_pb2, model_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.support.waiting import PATIENCE

BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or "buf"
SERVICES = [
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    scoring_pb2.DESCRIPTOR.services_by_name["ScoringService"].full_name,
]


class Model(model_pb2_grpc.ModelServiceServicer):
    def GetModel(self, request: model_pb2.GetModelRequest, context: grpc.ServicerContext) -> model_pb2.GetModelResponse:
        return model_pb2.GetModelResponse(model=model_pb2.Model(name=request.name or "models/default", d_sae=4096))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server whose only knowledge of the contract is the committed stubs."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    model_pb2_grpc.add_ModelServiceServicer_to_server(Model(), server)
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(scoring_pb2_grpc.ScoringServiceServicer(), server)
    reflection.enable_server_reflection([*SERVICES, reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(grace=None).wait()


def test_a_pool_filled_by_reflection_can_build_a_call(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(SERVICES) <= set(database.get_services())
        pool = descriptor_pool.DescriptorPool(database)
        result = pool.FindMessageTypeByName("assay.v1.PairResult")
        assert result.fields_by_name["error"].message_type.full_name == "google.rpc.Status"
        request = message_factory.GetMessageClass(pool.FindMessageTypeByName("assay.v1.GetModelRequest"))(name="models/x")
        call = channel.unary_unary("/assay.v1.ModelService/GetModel")
        answer = model_pb2.GetModelResponse.FromString(call(request.SerializeToString(), timeout=PATIENCE))
        assert answer.model.name == "models/x"


def test_buf_curl_calls_it_knowing_only_the_address(address: str) -> None:
    base = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
    listed = subprocess.run(
        [*base, "--list-methods", f"http://{address}"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert "assay.v1.ScoringService/StreamPairs" in listed.stdout, listed.stderr
    url = f"http://{address}/assay.v1.ModelService/GetModel"
    called = subprocess.run([*base, "--data", "{}", url], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["model"] == {"name": "models/default", "dSae": 4096}
