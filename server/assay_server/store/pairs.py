"""Pairs as rows of Parquet, and as the bytes that their fingerprint is taken over.

The fingerprint of a dataset is the SHA-256 of its canonical JSON Lines: one object per pair with the keys ``chosen``, ``id``,
``metadata``, ``prompt`` (a text, or a list of ``{"content", "role"}``) and ``rejected``, keys sorted, no spaces, everything
outside ASCII escaped, a newline after each. Anyone can recompute it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from assay_server.errors import InvalidItem
from assay_server.subject.types import Message, Pair, Prompt

_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.int64(), nullable=False),  # equal ids are one prompt
        pa.field("prompt_messages", pa.list_(_TURN)),  # exactly one of these two is set
        pa.field("prompt_text", pa.string()),
        pa.field("chosen", pa.string(), nullable=False),
        pa.field("rejected", pa.string(), nullable=False),
        pa.field("metadata", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)


def canonical(pair: Pair) -> bytes:
    """The pair's line of canonical JSON Lines.

    Raises:
        InvalidItem: INVALID_TEXT: a text holds half of a surrogate pair, which no encoding of Unicode can carry.
    """
    line = {
        "chosen": pair.chosen,
        "id": pair.id,
        "metadata": dict(pair.metadata),
        "prompt": _plain(pair.prompt),
        "rejected": pair.rejected,
    }
    encoded = _json(line)
    if b"\\ud" in encoded:  # rare: look closer
        try:
            json.dumps(line, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InvalidItem("A text holds half of a surrogate pair; send valid Unicode.", reason="INVALID_TEXT") from error
    return encoded + b"\n"


def prompt_id(prompt: Prompt) -> int:
    """A number in [0, 2^63) that two prompts share if and only if their contents are equal, up to collisions of 63 bits."""
    digest = hashlib.sha256(_json(_plain(prompt))).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def to_parquet(pairs: Sequence[Pair]) -> bytes:
    """One Parquet file with one row per pair."""
    rows = [
        {
            "id": pair.id,
            "prompt_id": prompt_id(pair.prompt),
            "prompt_messages": None if isinstance(pair.prompt, str) else cast(Any, _plain(pair.prompt)),
            "prompt_text": pair.prompt if isinstance(pair.prompt, str) else None,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "metadata": sorted(pair.metadata.items()),
        }
        for pair in pairs
    ]
    return table_bytes(pa.Table.from_pylist(rows, schema=SCHEMA))


def from_parquet(data: bytes) -> list[Pair]:
    """The pairs of a file that ``to_parquet`` wrote."""
    rows = cast("list[dict[str, Any]]", read_table(data).to_pylist())
    return [
        Pair(
            row["prompt_text"] if row["prompt_messages"] is None else _turns(row["prompt_messages"]),
            row["chosen"],
            row["rejected"],
            row["id"],
            dict(row["metadata"]),
        )
        for row in rows
    ]


def table_bytes(table: Any) -> bytes:
    """An Arrow table as one Parquet file; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return cast(bytes, sink.getvalue().to_pybytes())


def read_table(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """The Arrow table of a Parquet file, or some of its columns."""
    return pq.read_table(pa.BufferReader(data), columns=None if columns is None else list(columns), use_threads=False)


def _plain(prompt: Prompt) -> str | list[dict[str, str]]:
    if isinstance(prompt, str):
        return prompt
    return [{"content": message.content, "role": message.role} for message in prompt]


def _turns(messages: list[dict[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in messages)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
