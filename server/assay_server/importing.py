"""Files of pairs on the server's own disk, read by the client's readers: one file gives the same pairs uploaded or imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assay.data import read_pairs
from assay.data.formats import RowError
from assay.errors import AssayError as ClientError

from assay_server.errors import InvalidItem
from assay_server.subject.types import Message, Pair


def read_pair_file(path: Path) -> Iterator[Pair]:
    """The pairs of a file, in order.

    Raises:
        InvalidItem: INVALID_ROW names the line and the reason; INVALID_FILE where the file itself cannot be read.
    """
    try:
        for pair in read_pairs(path):
            prompt = pair.prompt if isinstance(pair.prompt, str) else tuple(Message(m.role, m.content) for m in pair.prompt)
            yield Pair(prompt, pair.chosen, pair.rejected, pair.id, dict(pair.metadata))
    except RowError as error:
        raise InvalidItem(
            f"{error}. Mend the row, or take it out.",
            reason="INVALID_ROW",
            field="uri",
            details={"line": error.line, "row_reason": getattr(error, "reason", "")},
        ) from error
    except (ClientError, OSError) as error:
        raise InvalidItem(f"The file cannot be read: {error}.", reason="INVALID_FILE", field="uri") from error
