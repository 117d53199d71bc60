"""What the texts of a dataset's pairs show without a model, shard by shard: amounts of descriptors, and words.

    texts/{dataset}/{version}/00000.parquet   one row per pair of the dataset's shard 0
    texts/{dataset}/{version}/00000.json      its digest; written last: a shard without it is none

Columns: for both responses ``{side}_amounts``, one float32 per descriptor, and ``{side}_words``; ``prompt_words``. Words are
places in the list of distinct words that the file's metadata holds under ``words`` (JSON). The version is that of
`assay_server.descriptors`: other definitions are other files. No subject is involved, so all subjects share them.

Reading a text takes longer than anything else that is done with it, so a shard is described once, by a worker process
(``text_worker``), and what is stored are the bytes that came from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay_server.descriptors import DESCRIPTORS, VERSION, read
from assay_server.errors import DataLoss
from assay_server.store.datasets import ShardEntry
from assay_server.store.files import Files, sha256
from assay_server.store.pairs import from_parquet, read_table, table_bytes
from assay_server.subject.types import Pair, Prompt

_SIDES = ("chosen", "rejected")
_TEXTS = ("prompt", *_SIDES)
_FOLDER = VERSION.replace("/", "-")


@dataclass(frozen=True, eq=False)
class Words:
    """Texts as hashes of their words, one behind the other; 0 is the end of a sentence."""

    tokens: NDArray[np.uint64]  # [total]
    ends: NDArray[np.int64]  # [texts] where each text ends in `tokens`


@dataclass(frozen=True, eq=False)
class TextShard:
    """The texts of a shard's pairs; rows are those of the dataset's shard, usable or not."""

    rows: NDArray[np.int64]  # [pairs]
    chosen: NDArray[np.float32]  # [pairs, descriptors]
    rejected: NDArray[np.float32]  # [pairs, descriptors]
    words: Mapping[str, Words]  # of "prompt", "chosen", "rejected"
    spelled: Mapping[int, str]  # from a hash to its word


class Texts:
    """The texts of one dataset. Blocks: call it in a thread.

    Args:
        files: where they are.
        dataset: the dataset's id.
    """

    def __init__(self, files: Files, dataset: str) -> None:
        self._files = files
        self.root = f"texts/{dataset}/{_FOLDER}"

    def missing(self, entries: Sequence[ShardEntry]) -> list[int]:
        """The shards that have to be described (again): not there, damaged, or of other pairs."""
        return [shard for shard, entry in enumerate(entries) if self._get(shard, entry) is None]

    def write(self, shard: int, entry: ShardEntry, data: bytes) -> None:
        """Store what ``described`` gave for a shard."""
        path = f"{self.root}/{shard:05d}"
        self._files.write(f"{path}.parquet", data)
        self._files.write_json(f"{path}.json", {"pairs_sha256": entry.sha256, "start": entry.start, "sha256_file": sha256(data)})

    def read(self, shard: int, entry: ShardEntry) -> TextShard | None:
        """A shard; None where it is missing."""
        data = self._get(shard, entry)
        if data is None:
            return None
        table = read_table(data)
        spelled: list[str] = json.loads(table.schema.metadata[b"words"])
        hashes = np.array([word_hash(word) for word in spelled], np.uint64)
        return TextShard(
            rows=np.arange(entry.start, entry.start + entry.pairs),
            chosen=_amounts(table, "chosen"),
            rejected=_amounts(table, "rejected"),
            words={name: _words(table, name, hashes) for name in _TEXTS},
            spelled=dict(zip(hashes.tolist(), spelled, strict=True)),
        )

    def _get(self, shard: int, entry: ShardEntry) -> bytes | None:
        path = f"{self.root}/{shard:05d}"
        try:
            meta = self._files.read_json(f"{path}.json")
            data = self._files.read(f"{path}.parquet")
        except (FileNotFoundError, DataLoss):
            return None
        same = (meta["start"], meta["pairs_sha256"]) == (entry.start, entry.sha256)
        return data if same and sha256(data) == meta["sha256_file"] else None


def delete_texts(files: Files, dataset: str) -> None:
    """Delete what is stored of a dataset's texts, of every version."""
    files.delete_tree(f"texts/{dataset}")


def described(pairs: bytes) -> bytes:
    """What the texts of a shard of pairs show, as Parquet; see the module. The shard's file in, the file to store out."""
    return table_bytes(_table(from_parquet(pairs)))


@lru_cache(maxsize=1 << 16)
def word_hash(word: str) -> int:
    """64 bits of BLAKE2b, never 0; the end of a sentence (the empty word) is 0."""
    if not word:
        return 0
    data = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") or 1


def asked(prompt: Prompt) -> str:
    """What the user said, turn after turn: what a prompt is about."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message.content for message in prompt if message.role == "user")


def _table(pairs: Sequence[Pair]) -> Any:
    place: dict[str, int] = {}

    def column(texts: Iterable[list[str]]) -> Any:
        flat: list[int] = []
        ends = [0]
        for text in texts:
            flat.extend([place.setdefault(word, len(place)) for word in text])
            ends.append(len(flat))
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat, pa.int32()))

    both = [read(asked(pair.prompt), (pair.chosen, pair.rejected)) for pair in pairs]
    columns = {f"{name}_words": column(words[index] for _, words in both) for index, name in enumerate(_TEXTS)}
    for index, side in enumerate(_SIDES):
        flat = np.array([rows[index] for rows, _ in both], np.float32).reshape(len(pairs), len(DESCRIPTORS))
        columns[f"{side}_amounts"] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), len(DESCRIPTORS))
    return pa.table(columns).replace_schema_metadata({"words": json.dumps(list(place))})


def _amounts(table: Any, side: str) -> NDArray[np.float32]:
    column = table[f"{side}_amounts"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), len(DESCRIPTORS))


def _words(table: Any, name: str, hashes: NDArray[np.uint64]) -> Words:
    column = table[f"{name}_words"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    return Words(hashes[flat] if len(hashes) else np.zeros(0, np.uint64), np.cumsum(lengths).astype(np.int64))
