"""Names the features of a token tree: the 32 bytes under which they are cached.

Invariants:
- Equal keys mean equal features: the digest covers all that they depend on (format, model, dtype, SAE, hook, tokenizer,
  template, tokens, spans, truncation, directions) and frames every part by its length, so that no two trees share a byte string.
- The key does not cover whether the prompt span was requested. There is one entry per key; where it ``lacks_prompt`` and the
  call wants it, the entry is a miss, and the fuller value takes its place.
"""

import struct
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from assay_server.subject.types import Directions, Pooled, SpanName, SubjectInfo, TokenTree

KEY_BYTES = 32
KEY_VERSION = 1
"""Raised whenever the same tree would pool to other numbers than before."""

_SPAN_CODES = tuple((name, code) for code, name in enumerate((SpanName.PROMPT, SpanName.CHOSEN, SpanName.REJECTED)))
_ID = np.dtype("<i4")
_TREE = struct.Struct("<IIII")
_LENGTH = struct.Struct("<I")
_SPAN = struct.Struct("<BI")


class KeyMaker:
    """Makes the keys of one subject; what is the same for all trees is hashed once.

    Args:
        info: the subject that is loaded.
    """

    def __init__(self, info: SubjectInfo) -> None:
        parts = (
            info.model_fingerprint,
            info.dtype,
            info.sae_fingerprint,
            info.hook,
            info.tokenizer_fingerprint,
            info.template_fingerprint,
        )
        self._subject = blake2b(digest_size=KEY_BYTES, person=b"assay.features")
        self._subject.update(_LENGTH.pack(KEY_VERSION))
        for part in parts:
            encoded = part.encode()
            self._subject.update(_LENGTH.pack(len(encoded)))
            self._subject.update(encoded)

    def key(self, tree: TokenTree, *, directions: Directions | None = None) -> bytes:
        """The key of ``tree`` under this subject, and of its scores along ``directions`` if there are any; 32 bytes.

        ``tree.truncated`` is part of it: it is reported with the features, and a text that was cut may equal one that was not.
        """
        digest = self._subject.copy()
        spans = tree.spans
        scored = b"" if directions is None else directions.digest
        digest.update(_TREE.pack(tree.truncated, len(tree.branches), len(spans), len(scored)))
        digest.update(scored)
        for ids in (tree.trunk, *tree.branches):
            digest.update(_LENGTH.pack(len(ids)))
            digest.update(_as_bytes(ids))
        for name, code in _SPAN_CODES:
            positions = spans.get(name)
            if positions is not None:
                digest.update(_SPAN.pack(code, len(positions)))
                digest.update(_as_bytes(positions))
        return digest.digest()


def lacks_prompt(pooled: Pooled) -> bool:
    """Whether the prompt has tokens that ``pooled`` does not tell the features of: a miss for a call that wants them."""
    return pooled.prompt_tokens > 0 and SpanName.PROMPT not in pooled.spans


def _as_bytes(ids: NDArray[np.int32]) -> memoryview:
    """``ids`` as contiguous little-endian memory, on common machines without a copy."""
    return np.ascontiguousarray(ids, dtype=_ID).data
