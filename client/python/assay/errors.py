"""What can go wrong, as one family; every error says what to do.

    AssayError
    ├── ConnectionFailed      no server answers at the address, or the connection was lost for good
    ├── NotReady              the server is there, and still loading or already stopping
    ├── Overloaded            the server refuses work for now; `retry_after_seconds` says when to come back
    ├── DeadlineExceeded      the answer did not come within the timeout
    ├── Cancelled             the call was cancelled on the way
    ├── InvalidRequest        the request is at fault; `violations` names the fields
    │   └── NotFound          it names something that does not exist
    ├── Unauthenticated       the bearer token is missing or wrong, or it permits less than was asked
    ├── Unsupported           the server does not know this method: another service, or an older version
    ├── ModelChanged          the server came back with another model in the middle of a run
    ├── ServerFault           a fault of the server, or an answer that breaks the contract
    ├── MissingExtra          an optional package is not installed
    └── InputError            a file of pairs that cannot be read (`assay.data`)

A pair that fails in a batch is no exception: it is an `ItemError` in its place. `ItemError.exception()` turns it into
one of the above.

Invariants: every error carries a `reason` in UPPER_SNAKE_CASE that programs can switch on, and `details`, the numbers
involved as strings. Both come from the one google.rpc.ErrorInfo of the status where the server sent one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
# grpc.aio says this instead of the call's status when a write meets the call's end (`set_internal_error`).
_AIO_WRITE_FAILED = "internal error from core"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is at fault: its path, for example ``pairs[3].chosen``, and why."""

    field: str
    description: str


class AssayError(Exception):
    """Base of the family.

    Attributes:
        message: what went wrong, for a person.
        reason: UPPER_SNAKE_CASE, stable, for programs; "" where unknown.
        details: the numbers involved, as strings.
        code: name of the gRPC status code, for example "UNAVAILABLE"; "" where no call was made.
    """

    def __init__(self, message: str, *, reason: str = "", details: Mapping[str, str] | None = None, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.details = dict(details or {})
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} [{self.reason}]" if self.reason else self.message


class ConnectionFailed(AssayError):
    """No server answers at the address, or the connection was lost for good."""


class NotReady(AssayError):
    """The server is there, and still loading or already stopping."""


class Overloaded(AssayError):
    """The server refuses work for now. `retry_after_seconds` says when to come back; None where it did not say."""

    retry_after_seconds: float | None = None


class DeadlineExceeded(AssayError):
    """The answer did not come within the timeout."""


class Cancelled(AssayError):
    """The call was cancelled on the way."""


class InvalidRequest(AssayError):
    """The request is at fault. `violations` names the fields."""

    violations: tuple[FieldViolation, ...] = ()


class NotFound(InvalidRequest):
    """The request names something that does not exist."""


class Unauthenticated(AssayError):
    """The bearer token is missing or wrong, or it permits less than was asked."""


class Unsupported(AssayError):
    """The server does not know this method."""


class ModelChanged(AssayError):
    """The server came back with another model in the middle of a run; results of two models must not mix."""


class ServerFault(AssayError):
    """A fault of the server, or an answer that breaks the contract."""


class MissingExtra(AssayError):
    """An optional package is not installed; the message names the command that installs it."""


class InputError(AssayError):
    """A file of pairs that cannot be read."""


_FAMILY: Mapping[str, type[AssayError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "ALREADY_EXISTS": InvalidRequest,
    "NOT_FOUND": NotFound,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": Unauthenticated,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "UNAVAILABLE": ConnectionFailed,
    "UNIMPLEMENTED": Unsupported,
}


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a batch has no score: google.rpc.Status, unpacked.

    Attributes:
        code: name of the status code, for example "INVALID_ARGUMENT".
        reason: UPPER_SNAKE_CASE, for programs, for example "EMPTY_SPAN".
        message: for a person.
        details: the numbers involved, as strings.
        violations: the fields at fault, as paths within the item, for example ``chosen``.
        retry_after_seconds: when to come back; None where the server did not say.
    """

    code: str
    reason: str
    message: str
    details: Mapping[str, str] = field(default_factory=dict[str, str])
    violations: tuple[FieldViolation, ...] = ()
    retry_after_seconds: float | None = None

    @classmethod
    def from_proto(cls, status: status_pb2.Status) -> "ItemError":
        """Unpacks a status; details of unknown types are left out."""
        info, violations, retry_after = _unpack(status)
        return cls(
            code=_code_name(status.code),
            reason=info.reason,
            message=status.message,
            details=dict(info.metadata),
            violations=violations,
            retry_after_seconds=retry_after,
        )

    def exception(self) -> AssayError:
        """The exception that a whole call failing like this would have raised."""
        kind = _FAMILY.get(self.code, ServerFault)
        if kind is ConnectionFailed and self.reason:
            kind = NotReady
        error = kind(self.message, reason=self.reason, details=self.details, code=self.code)
        if isinstance(error, Overloaded):
            error.retry_after_seconds = self.retry_after_seconds
        if isinstance(error, InvalidRequest):
            error.violations = self.violations
        return error


class RpcFailure(Protocol):
    """What grpc.RpcError and grpc.aio.AioRpcError have in common."""

    def code(self) -> Any:
        """The grpc.StatusCode."""
        ...

    def details(self) -> str | None:
        """The status message."""
        ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The trailers, where the rich status travels."""
        ...


def from_rpc_error(failure: RpcFailure, *, address: str = "") -> AssayError:
    """Turns a failed call into a member of the family.

    The rich status is read from the trailers (``grpc-status-details-bin``). Without one the code and its text decide.
    """
    code = failure.code()
    name: str = code.name if code is not None else "UNKNOWN"
    message = failure.details() or ""
    trailers: dict[str, str | bytes] = dict(tuple(failure.trailing_metadata() or ()))
    status = _rich_status(trailers.get(_DETAILS_KEY))
    if status is None:
        status = status_pb2.Status(code=code_pb2.Code.Value(name), message=message)
    item = ItemError.from_proto(status)
    error = item.exception()
    if isinstance(error, Overloaded):
        if not item.reason and "larger than max" in message:
            # gRPC's own refusal of a big message is no overload: the same message would fail again.
            return InvalidRequest(_advise_size(message), reason="MESSAGE_TOO_LARGE", code=name)
        if error.retry_after_seconds is None:
            error.retry_after_seconds = _pushback_seconds(trailers.get(_PUSHBACK_KEY))
    if isinstance(error, ConnectionFailed) and address:
        error.message = f"no Assay server answers at {address}: {error.message}. Is `assay serve` running there?"
    if isinstance(error, Unsupported):
        error.message += ". Is this an Assay server, and of this client's version?"
    return error


def is_transport_fault(failure: RpcFailure) -> bool:
    """Whether the connection broke, as opposed to the server deciding: worth another try on a new connection."""
    code = failure.code()
    name = code.name if code is not None else "UNKNOWN"
    if name in ("UNAVAILABLE", "CANCELLED"):
        return True
    if name not in ("INTERNAL", "UNKNOWN"):
        return False
    trailers = {key for key, _ in (failure.trailing_metadata() or ())}
    text = (failure.details() or "").lower()
    broken = ("rst_stream", "stream removed", "socket closed", "connection reset", "goaway", _AIO_WRITE_FAILED)
    return _DETAILS_KEY not in trailers and any(sign in text for sign in broken)


def _advise_size(message: str) -> str:
    return f"{message}. Ask for less in one message (fewer pairs, no include_features), or raise the receive limit."


def _code_name(code: int) -> str:
    try:
        return code_pb2.Code.Name(code)  # pyright: ignore[reportArgumentType]  # any int may come from the wire
    except ValueError:
        return "UNKNOWN"


def _rich_status(value: str | bytes | None) -> status_pb2.Status | None:
    if not isinstance(value, bytes):
        return None
    try:
        return status_pb2.Status.FromString(value)
    except DecodeError:
        return None


def _pushback_seconds(value: str | bytes | None) -> float | None:
    try:
        milliseconds = int(value) if value is not None else -1
    except ValueError:
        return None
    return milliseconds / 1000 if milliseconds >= 0 else None


def _unpack(
    status: status_pb2.Status,
) -> tuple[error_details_pb2.ErrorInfo, tuple[FieldViolation, ...], float | None]:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after: float | None = None
    for detail in status.details:
        try:
            if detail.Unpack(info) or detail.Unpack(bad):
                continue
            if detail.Unpack(retry):
                retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        except DecodeError:
            continue  # a detail that does not decode loses itself, not the error it came with
    violations = tuple(FieldViolation(one.field, one.description) for one in bad.field_violations)
    return info, violations, retry_after
