"""Channels: address, TLS, bearer token, keepalive, message sizes, timeouts, and retries of single calls by gRPC service config.

Invariants:
- Retries of unary calls are gRPC's own: UNAVAILABLE and RESOURCE_EXHAUSTED, exponential backoff, and the server's
  ``grpc-retry-pushback-ms`` decides where it is sent. Streams are never retried by gRPC, which would have to buffer them:
  they resume by sequence number (`assay.flow`).
- A bearer token leaves this process only encrypted, or over loopback, unless the caller insists.
"""

import asyncio
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2

from assay.errors import AssayError, from_rpc_error
from assay.v1 import audit_service_pb2, concept_service_pb2, intervention_service_pb2, model_pb2, scoring_pb2
from assay.version import __version__

DEFAULT_ADDRESS = "127.0.0.1:50151"
MAX_RECEIVE_BYTES = 256 * 1024 * 1024
Metadata = Sequence[tuple[str, str]]
_RETRY_BUFFER_BYTES = 64 * 1024 * 1024

_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
}
_CONTRACT = (
    audit_service_pb2.DESCRIPTOR,
    concept_service_pb2.DESCRIPTOR,
    intervention_service_pb2.DESCRIPTOR,
    model_pb2.DESCRIPTOR,
    scoring_pb2.DESCRIPTOR,
    operations_pb2.DESCRIPTOR,
)


def unary_methods() -> list[tuple[str, str]]:
    """Every unary method of the contract as (service's full name, method), in the contract's order."""
    services = [service for file in _CONTRACT for service in file.services_by_name.values()]
    return [
        (service.full_name, method.name)
        for service in services
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    ]


SERVICE_CONFIG = {
    "methodConfig": [
        {"name": [{"service": service, "method": method} for service, method in unary_methods()], "retryPolicy": _RETRY},
    ]
}


# What a single call may raise: its status, or, differently per kind of channel, that the channel is closed.
CALL_ERRORS = (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError, ValueError)


def call_error(error: Exception, address: str) -> Exception:
    """The error of `assay.errors` for what a call raised; one that does not come from the call is itself."""
    if isinstance(error, grpc.RpcError):
        rpc: Any = error
        return from_rpc_error(rpc, address=address)
    if isinstance(error, ValueError) and "closed" not in str(error):
        return error
    return AssayError("this client is closed; open another", reason="CLOSED")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Default timeouts of single calls in seconds, retries included.

    Attributes:
        lookup: for what the server has at hand: the model's info, features.
        score: for what the model has to read.
    """

    lookup: float = 30.0
    score: float = 120.0


@dataclass(frozen=True, slots=True)
class Tls:
    """How to encrypt, where the defaults (the system's certificate authorities) do not do.

    Attributes:
        authorities: PEM file of the authorities that may have signed the server's certificate; None for the system's.
        certificate: PEM file of this client's own certificate, where the server asks for one.
        key: PEM file of its private key.
        server_name: name to expect in the server's certificate, where it is not the address's host.
    """

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files; OSError where one cannot be read."""

        def read(path: Path | None) -> bytes | None:
            return path.read_bytes() if path is not None else None

        return grpc.ssl_channel_credentials(read(self.authorities), read(self.key), read(self.certificate))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server is and how to talk to it.

    Raises:
        ValueError: a token would leave the machine unencrypted.
    """

    address: str = DEFAULT_ADDRESS
    token: str | None = None
    tls: Tls | None = None
    max_receive_bytes: int = MAX_RECEIVE_BYTES
    allow_insecure_token: bool = False

    def __post_init__(self) -> None:
        if self.token and self.tls is None and not self.allow_insecure_token and not _is_local(self.address):
            raise ValueError(
                f"a bearer token would travel unencrypted to {self.address}: give tls=Tls(), "
                "or allow_insecure_token=True where something else encrypts the way"
            )

    def metadata(self) -> Metadata:
        """What every call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self) -> grpc.Channel:
        """A channel for blocking calls; connects at the first one."""
        if self.tls is None:
            return grpc.insecure_channel(self.address, options=self.options())
        return grpc.secure_channel(self.address, self.tls.credentials(), options=self.options())

    def aio_channel(self) -> Any:
        """A grpc.aio channel; belongs to the event loop that is running."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, options=self.options())
        return grpc.aio.secure_channel(self.address, self.tls.credentials(), options=self.options())

    def options(self) -> list[tuple[str, str | int]]:
        """The channel's arguments."""
        options: list[tuple[str, str | int]] = [
            ("grpc.primary_user_agent", f"assay-python/{__version__}"),
            ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
            ("grpc.enable_retries", 1),
            # A request larger than the retry buffer (256 KiB unless told) is never retried.
            ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
            ("grpc.max_receive_message_length", self.max_receive_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.max_pings_without_data", 0),
            # gRPC waits up to two minutes before it dials a dead server again; a restart takes seconds.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 3_000),
            # Clients of one process must not share a connection that one of them closes.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options


def _is_local(address: str) -> bool:
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].removeprefix("dns:").lstrip("/").strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
