"""The gRPC server: its ports, its options, its health, and the order in which it stops.

Invariants:
- Health is NOT_SERVING, for every service, until the subject is verified, and again from the first moment of the drain.
- The drain goes: health NOT_SERVING, refuse new calls and further batches, finish what was accepted, refuse what still arrives,
  stop. Only the end of ``drain_seconds`` cuts accepted work off.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
from assay.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    concept_service_pb2,
    concept_service_pb2_grpc,
    intervention_service_pb2,
    intervention_service_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    scoring_pb2,
    scoring_pb2_grpc,
)
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from assay_server.config import ConfigError, ServerConfig
from assay_server.jobs.library import Library
from assay_server.labelling.labels import Labels
from assay_server.rpc.audits.service import AuditServicer
from assay_server.rpc.auth import BearerAuth
from assay_server.rpc.concepts.service import ConceptServicer
from assay_server.rpc.interceptors import Observe
from assay_server.rpc.operations import OperationMessages, OperationsServicer
from assay_server.rpc.plans.service import InterventionServicer
from assay_server.rpc.scoring.model import ModelServicer
from assay_server.rpc.scoring.service import ScoringServicer
from assay_server.rpc.state import ServerState
from assay_server.scorer import ScorerLike
from assay_server.telemetry.metrics import Metrics

KEEPING = (  # services that need a data directory
    audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name,
    concept_service_pb2.DESCRIPTOR.services_by_name["ConceptService"].full_name,
    intervention_service_pb2.DESCRIPTOR.services_by_name["InterventionService"].full_name,
    operations_pb2.DESCRIPTOR.services_by_name["Operations"].full_name,
)
SERVICES = (
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    scoring_pb2.DESCRIPTOR.services_by_name["ScoringService"].full_name,
    *KEEPING,
)
MIN_PING_INTERVAL_MS = 10_000  # gRPC's own is five minutes: a call that is silent for longer would die of "too many pings"
STOP_SECONDS = 0.5  # what final trailers and open health watches have after the drain
QUIET_SECONDS = 0.1  # without a new call, after which none is taken to be under way
SETTLE_SECONDS = 2.0  # that clients who ask again at once can put the stop off

_HealthServicer: Any = vars(health)["aio"].HealthServicer
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class AssayServer:
    """One gRPC server, made on the event loop that runs it.

    Args:
        config: how it is set up.
        metrics: what counts its calls.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        self.state = ServerState(config, metrics)
        self.port = 0
        self._config = config
        self._health = _HealthServicer()
        interceptors: list[grpc.aio.ServerInterceptor] = [Observe(self.state)]
        if token := config.bearer_token:
            interceptors.append(BearerAuth(token))
        self._server = grpc.aio.server(interceptors=interceptors, options=server_options(config))
        model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self.state), self._server)
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(self.state), self._server)
        made = OperationMessages()  # every service whose methods give operations says here how what they make is shown
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(self.state, made), self._server)
        concept_service_pb2_grpc.add_ConceptServiceServicer_to_server(ConceptServicer(self.state, made), self._server)
        plans = InterventionServicer(self.state, made)
        intervention_service_pb2_grpc.add_InterventionServiceServicer_to_server(plans, self._server)
        operations_pb2_grpc.add_OperationsServicer_to_server(OperationsServicer(self.state, made), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    async def start(self) -> int:
        """Binds and listens, not serving yet; returns the port.

        Raises:
            ConfigError: the address cannot be bound, or the certificate cannot be read.
        """
        for service in ("", *SERVICES):
            await self._health.set(service, _NOT_SERVING)
        address = f"{_bracketed(self._config.host)}:{self._config.port}"
        try:
            if self._config.tls_cert:
                self.port = self._server.add_secure_port(address, _credentials(self._config))
            else:
                self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(
                f"Cannot bind {address}: it is in use, or not an address of this machine. Give another --port or --host.",
                reason="CANNOT_BIND",
                field="port",
            ) from error
        await self._server.start()
        return self.port

    async def open(self, scorer: ScorerLike, labels: Labels, library: Library | None = None) -> None:
        """The subject is verified: start to serve. Without a library, the services that need it stay NOT_SERVING."""
        self.state.open(scorer, labels, library)
        for service in ("", *SERVICES):
            await self._health.set(service, _NOT_SERVING if library is None and service in KEEPING else _SERVING)

    async def drain(self) -> bool:
        """Stops in order; returns whether all accepted work was finished."""
        await self._health.enter_graceful_shutdown()
        self.state.drain()
        try:
            await asyncio.wait_for(self.state.idle.wait(), timeout=self._config.drain_seconds)
            await self._settle()
            finished = True
        except TimeoutError:
            finished = False
        await self._server.stop(STOP_SECONDS if finished else 0)
        return finished

    async def _settle(self) -> None:
        """Refuse the calls that have reached gRPC and not yet us, until none came for a while.

        gRPC cancels what it holds when it stops, and no client tries again what was cancelled. Calls are taken one a turn of the
        event loop, so a loaded server holds some. Raises TimeoutError if one of them does not end.
        """
        last, taken = time.monotonic() + SETTLE_SECONDS, -1
        while taken < self.state.calls_taken and time.monotonic() < last:
            taken = self.state.calls_taken
            await asyncio.sleep(QUIET_SECONDS)
        await asyncio.wait_for(self.state.idle.wait(), timeout=SETTLE_SECONDS)


def server_options(config: ServerConfig) -> list[tuple[str, int]]:
    """gRPC's channel arguments.

    ``bdp_probe`` 0 keeps a paused stream from being pushed megabytes. The transport reads twice
    ``max_message_bytes``, so that a message somewhat too large is refused by name and number rather than by the
    transport. ``max_concurrent_streams`` is the one bound that comes before authentication: without it one connection of
    resets or half-open calls keeps every other client out.
    """
    return [
        ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a share of the load
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_receive_message_length", min(2 * config.max_message_bytes, (1 << 31) - 1)),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", round(config.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        ("grpc.max_connection_age_ms", round(config.max_connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", round(config.max_connection_age_grace_seconds * 1000)),
    ]


def _credentials(config: ServerConfig) -> grpc.ServerCredentials:
    try:
        pair = (Path(config.tls_key).read_bytes(), Path(config.tls_cert).read_bytes())
    except OSError as error:
        raise ConfigError(f"Cannot read the certificate or its key: {error.strerror}.", field="tls_cert") from error
    return grpc.ssl_server_credentials([pair])


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith(("[", "unix:")) else host
