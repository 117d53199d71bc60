"""google.protobuf.Timestamp as Python's datetime, in UTC."""

from datetime import UTC, datetime
from typing import Any


def utc(message: Any, name: str) -> datetime | None:
    """The time in a field, aware, in UTC; None where the field is unset."""
    return getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None
