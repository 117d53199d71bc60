"""Files of pairs on the server's own disk, read by the client's readers: one file gives the same pairs uploaded or imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assay.data import open_pairs
from assay.errors import AssayError as ClientError
from assay.pairs import Pair as ClientPair

from assay_server.errors import InvalidItem
from assay_server.jobs.datasets.run import BadRow
from assay_server.subject.types import Message, Pair


def read_pair_file(path: Path) -> Iterator[Pair | BadRow]:
    """The rows of a file, in order.

    Raises:
        InvalidItem: INVALID_FILE: the file itself cannot be read, or is damaged from some row on.
    """
    try:
        for row in open_pairs(path).rows():
            if row.pair is not None:
                yield _pair(row.pair)
            elif row.error is not None:
                yield BadRow(row.line, row.error.reason, row.error.message)
    except (ClientError, OSError) as error:
        raise InvalidItem(f"The file cannot be read: {error}.", reason="INVALID_FILE", field="uri") from error


def _pair(pair: ClientPair) -> Pair:
    prompt = pair.prompt if isinstance(pair.prompt, str) else tuple(Message(m.role, m.content) for m in pair.prompt)
    return Pair(prompt, pair.chosen, pair.rejected, pair.id, dict(pair.metadata))
