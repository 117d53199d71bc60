"""Errors of the server, independent of the transport; ``rpc`` turns them into google.rpc.Status.

    AssayError
    ├── InvalidItem          the caller's input is at fault; other items of the call are not
    │   ├── EmptySpan        a response (or a span) holds no token
    │   └── ContextOverflow  a sequence is longer than the context
    ├── NotFound             the named resource does not exist
    ├── FailedPrecondition   the request is fine, the state of what it names is not (yet)
    ├── Cancelled            the work was cancelled
    ├── Overloaded           the server has too much to do; carries when to retry
    ├── Expired              the caller's deadline passed, or it disconnected
    ├── NotReady             the subject is still loading, or the server is stopping
    ├── SubjectMismatch      model, SAE, hook or tokenizer do not belong together (load time)
    ├── DataLoss             a stored file is damaged and cannot be made again
    └── EngineFailure        a fault of the server or its device

Invariant: every error has a ``reason`` in UPPER_SNAKE_CASE that callers can switch on, a message that names the numbers and
the fix, and ``details`` holding the same numbers as strings.
"""

from collections.abc import Mapping


class AssayError(Exception):
    """Base of the family.

    Args:
        message: one or two sentences for a person: what, the numbers, the fix.
        reason: UPPER_SNAKE_CASE, stable, for programs.
        field: path of the request field at fault, for example ``pairs[3].chosen``; "" where none is.
        details: the numbers involved, as strings.
    """

    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.details = {key: str(value) for key, value in (details or {}).items()}


class InvalidItem(AssayError):
    """The caller's input is at fault."""

    default_reason = "INVALID_ARGUMENT"


class EmptySpan(InvalidItem):
    """A response holds no token of its own."""

    default_reason = "EMPTY_SPAN"


class ContextOverflow(InvalidItem):
    """A sequence is longer than the context."""

    default_reason = "CONTEXT_OVERFLOW"


class NotFound(AssayError):
    """The named resource does not exist."""

    default_reason = "NOT_FOUND"


class FailedPrecondition(AssayError):
    """What the request names is in the wrong state for it; the reason says which."""

    default_reason = "FAILED_PRECONDITION"


class Cancelled(AssayError):
    """The work was cancelled."""

    default_reason = "CANCELLED"


class Overloaded(AssayError):
    """The server refuses work for now; ``retry_after_seconds`` says when to retry."""

    default_reason = "OVERLOADED"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float,
        reason: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, details=details)
        self.retry_after_seconds = retry_after_seconds


class Expired(AssayError):
    """The caller's deadline passed before the work was done."""

    default_reason = "DEADLINE_EXPIRED"


class NotReady(AssayError):
    """The server cannot take work now."""

    default_reason = "LOADING"


class SubjectMismatch(AssayError):
    """Parts that were loaded do not belong together; the operator can override by the check's name where that is sane."""

    default_reason = "SUBJECT_MISMATCH"


class DataLoss(AssayError):
    """A stored file is damaged, and nothing is left to make it from again."""

    default_reason = "DATA_LOSS"


class EngineFailure(AssayError):
    """A fault of the server or its device."""

    default_reason = "ENGINE_FAILURE"
