"""An audit as a file, in chunks that fit any client's message limit.

Invariants:
- A chunk holds at most ``CHUNK_BYTES``; chunks in order make the file, and there is no empty one.
- A slow reader holds one file in memory, whose size its writers bound; ``max_streams`` bounds how many.
"""

from collections.abc import AsyncIterator, Iterator

from assay_server.jobs.library import Library
from assay_server.rpc.audits.reports import render_audit
from assay_server.rpc.audits.requests import Format
from assay_server.rpc.state import Loaded

CHUNK_BYTES = 1 << 18


async def export(library: Library, loaded: Loaded, name: str, form: Format, *, deadline: float | None) -> AsyncIterator[bytes]:
    """The file's chunks.

    Args:
        library: holds the audit.
        loaded: highlights the report's evidence.
        name: the audit.
        form: which file.
        deadline: ``time.monotonic()`` instant past which nothing is read again for highlights.
    """
    if form is Format.PARQUET:
        data = await library.audits.parquet(name)
    else:
        data = (await render_audit(library, loaded, name, deadline=deadline)).encode("utf-8", "replace")
    for chunk in chunks_of(data):
        yield chunk


def chunks_of(data: bytes) -> Iterator[bytes]:
    """The bytes in chunks, none of them empty."""
    return (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
