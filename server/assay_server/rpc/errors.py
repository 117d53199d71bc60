"""Our errors as ``google.rpc.Status``, and how they are sent.

Invariants:
- Every error that leaves a call or stands in a result carries exactly one ``ErrorInfo`` (domain "assay"), a
  ``BadRequest`` where a request field is at fault, and a ``RetryInfo`` where a retry helps.
- An unexpected exception is reported as an incident number; its own message, which may quote a pair, is neither sent nor logged.
- Status, details and retry pushback leave in one ``abort``: trailing metadata that is set beside it would be lost.
- A status fits into the 8 KiB of metadata that gRPC clients accept by default.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, message
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from assay_server.errors import (
    AssayError,
    Cancelled,
    DataLoss,
    EngineFailure,
    Expired,
    FailedPrecondition,
    InvalidItem,
    NotFound,
    NotReady,
    Overloaded,
    SubjectMismatch,
)

DOMAIN = "assay"
LOADING_RETRY_SECONDS = 1.0
_MAX_MESSAGE = 512
_MAX_VALUE = 128
_MAX_DETAILS = 8


class Unauthenticated(AssayError):
    """The call carries no token, or a wrong one."""

    default_reason = "UNAUTHENTICATED"


class MessageTooLarge(AssayError):
    """One message is larger than the server reads."""

    default_reason = "MESSAGE_TOO_LARGE"


_CODES: tuple[tuple[type[AssayError], grpc.StatusCode], ...] = (
    (InvalidItem, grpc.StatusCode.INVALID_ARGUMENT),
    (MessageTooLarge, grpc.StatusCode.INVALID_ARGUMENT),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Expired, grpc.StatusCode.DEADLINE_EXCEEDED),
    (NotReady, grpc.StatusCode.UNAVAILABLE),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (Cancelled, grpc.StatusCode.CANCELLED),
    (DataLoss, grpc.StatusCode.DATA_LOSS),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (SubjectMismatch, grpc.StatusCode.FAILED_PRECONDITION),
    (EngineFailure, grpc.StatusCode.INTERNAL),
)


def code_of(error: AssayError) -> grpc.StatusCode:
    """The status code that stands for the error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def to_status(error: AssayError, *, within: str = "") -> status_pb2.Status:
    """The error as ``google.rpc.Status``.

    Args:
        error: what went wrong.
        within: path of the item that the error's own field path is relative to, for example ``pairs[3]``.
    """
    text = _cut(error.message, _MAX_MESSAGE)
    field = _join(within, error.field)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(_bounded(error.details)))
    details: list[message.Message] = [info]
    if field and isinstance(error, InvalidItem | MessageTooLarge):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(field, _MAX_VALUE), description=text, reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if (seconds := retry_seconds(error)) is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=_duration(seconds)))
    return status_pb2.Status(code=code_of(error).value[0], message=text, details=[_pack(detail) for detail in details])


def retry_seconds(error: AssayError) -> float | None:
    """Seconds until a retry makes sense, None where none does."""
    if isinstance(error, Overloaded):
        return max(0.0, error.retry_after_seconds)
    return LOADING_RETRY_SECONDS if isinstance(error, NotReady) else None


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: AssayError) -> NoReturn:
    """Ends the call with the error; raises gRPC's own abort exception."""
    status = to_status(error)
    metadata: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if (seconds := retry_seconds(error)) is not None:
        metadata.append(("grpc-retry-pushback-ms", str(max(1, round(seconds * 1000)))))
    await context.abort(code_of(error), status.message, tuple(metadata))
    raise AssertionError("abort raises: this is a bug")


def incident() -> tuple[str, EngineFailure]:
    """An incident number for the logs, and the error sent in place of an unexpected exception, whose message may quote a pair."""
    number = secrets.token_hex(6)
    return number, EngineFailure(
        f"The server failed; its log says more under incident {number}.",
        reason="INTERNAL",
        details={"incident": number},
    )


def _pack(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def _bounded(details: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    return ((_cut(key, 64), _cut(value, _MAX_VALUE)) for key, value in list(details.items())[:_MAX_DETAILS])


def _cut(text: str, length: int) -> str:
    """At most ``length`` characters, and nothing that UTF-8 cannot carry."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"


def _join(within: str, field: str) -> str:
    if not within or field.startswith(within):
        return field or within
    return f"{within}.{field}" if field else within
