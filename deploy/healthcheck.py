"""Says, for a container's health check, whether the server inside takes work: exit status 0 if so, 1 if not.

It reads the server's own environment (ASSAY_PORT, ASSAY_METRICS_PORT, ASSAY_TLS_CERT), so that one image serves every
configuration given that way. Without TLS it asks `grpc.health.v1.Health`, which needs no token. With TLS, where a probe would
have to know the certificate's name, it asks /healthz on the metrics port, which is the same answer over plain HTTP.
"""

import os
import sys
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 4.0
SERVICE = "assay.v1.ScoringService"


def main() -> int:
    """Asks once; returns the exit status, and prints why where it is 1."""
    port = os.environ.get("ASSAY_PORT", "50151")
    metrics_port = os.environ.get("ASSAY_METRICS_PORT", "9151")
    try:
        if os.environ.get("ASSAY_TLS_CERT"):
            return _ask_http(f"http://127.0.0.1:{metrics_port}/healthz")
        return _ask_grpc(f"127.0.0.1:{port}")
    except grpc.RpcError as error:
        print(f"the server on port {port} does not answer: {error.code().name}", file=sys.stderr)  # type: ignore[attr-defined]
    except (urllib.error.URLError, OSError) as error:
        print(f"the server on port {metrics_port} does not answer or takes no work: {error}", file=sys.stderr)
    return 1


def _ask_grpc(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_SECONDS).status
    if status == health_pb2.HealthCheckResponse.SERVING:
        return 0
    print(f"{SERVICE} is {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}", file=sys.stderr)
    return 1


def _ask_http(url: str) -> int:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # raises for 503
        return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
