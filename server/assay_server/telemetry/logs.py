"""Structured logs on stderr, as text for people or JSON for machines.

Invariants:
- A record is an event and named values; values are numbers, names and codes that the code chose, never text of pairs,
  tokens or passwords.
- An exception is logged as its types and the places it passed, without its message: messages may quote the input.
"""

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from typing import IO, cast

_ROOT = "assay"
_VALUES = "assay_values"


def setup_logs(*, form: str = "text", level: str = "info", stream: IO[str] | None = None) -> None:
    """Sends the logs of ``get_logger`` to stderr (or ``stream``); calling it again replaces the earlier setup.

    Args:
        form: "text" or "json".
        level: the least severe level that is written.
        stream: where to, stderr by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def get_logger(name: str) -> logging.Logger:
    """The logger of a part of the server."""
    return logging.getLogger(f"{_ROOT}.{name}")


def event(logger: logging.Logger, level: int, name: str, **values: object) -> None:
    """Writes one event with its values."""
    logger.log(level, name, extra={_VALUES: values})


def trace_of(error: BaseException) -> str:
    """Where an exception passed and of which types it was, without any message: "KeyError at a.py:3 f < b.py:9 g"."""
    return " caused by ".join(_trace(link) for link in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _trace(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return f"{type(error).__module__}.{type(error).__qualname__} at {places or 'no frame'}"


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        values = " ".join(f"{key}={_plain(value)}" for key, value in _values(record).items())
        return f"{clock} {record.levelname.lower():7} {record.getMessage()}{' ' if values else ''}{values}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        return json.dumps(entry | _values(record), default=str, ensure_ascii=False)


def _values(record: logging.LogRecord) -> dict[str, object]:
    return cast(dict[str, object], getattr(record, _VALUES, {}))


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c.isspace() or c == '"' for c in text) else text
