"""The codec: what was encoded comes back to the bit, and nothing else comes back at all."""

import struct
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest
from assay_server.cache import CorruptEntry, decode, encode
from assay_server.subject.types import Pooled, SpanName
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.cache.builders import key_of, pooled_of, pooleds, same

KEY = key_of(7)


@given(pooleds(), st.binary(min_size=32, max_size=32))
def test_decoding_gives_back_the_bits_that_were_encoded(pooled: Pooled, key: bytes) -> None:
    assert same(decode(key, encode(key, pooled)), pooled)


@given(pooleds())
def test_every_truncation_and_extension_is_corrupt(pooled: Pooled) -> None:
    data = encode(KEY, pooled)
    for end in range(len(data)):
        with pytest.raises(CorruptEntry):
            decode(KEY, data[:end])
    with pytest.raises(CorruptEntry):
        decode(KEY, data + b"\0")


@settings(max_examples=200)
@given(pooleds(), st.data())
def test_any_changed_byte_is_corrupt(pooled: Pooled, data: st.DataObject) -> None:
    entry = bytearray(encode(KEY, pooled))
    places = data.draw(st.sets(st.integers(0, len(entry) - 1), min_size=1, max_size=8))
    for place in places:
        entry[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptEntry):
        decode(KEY, bytes(entry))


@given(pooleds(), st.binary(min_size=32, max_size=32).filter(lambda key: key != KEY))
def test_an_entry_of_another_key_is_corrupt(pooled: Pooled, other: bytes) -> None:
    with pytest.raises(CorruptEntry) as caught:
        decode(KEY, encode(other, pooled))
    assert caught.value.reason == "key"


@settings(max_examples=250)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptEntry):
        decode(KEY, data)


@settings(max_examples=250)
@given(pooleds(), st.data())
def test_a_forged_entry_decodes_to_sound_features_or_is_corrupt(pooled: Pooled, data: st.DataObject) -> None:
    """With a checksum that fits, damage reaches the checks of the content; they let only what could be encoded through."""
    body = bytearray(encode(KEY, pooled)[:-8])
    for place in data.draw(st.sets(st.integers(33, len(body) - 1), min_size=1, max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    forged = bytes(body) + blake2b(body, digest_size=8).digest()
    try:
        decoded = decode(KEY, forged)
    except CorruptEntry:
        return
    assert same(decode(KEY, encode(KEY, decoded)), decoded)


def test_a_forged_length_allocates_nothing() -> None:
    entry = encode(KEY, pooled_of(0))
    features_at = 56 + 12
    assert struct.unpack_from("<I", entry, features_at) == (50,)
    body = entry[:features_at] + struct.pack("<I", (1 << 32) - 1) + entry[features_at + 4 : -8]
    with pytest.raises(CorruptEntry) as caught:
        decode(KEY, body + blake2b(body, digest_size=8).digest())
    assert caught.value.reason == "length"


def _with_chosen(**changes: object) -> Pooled:
    pooled = pooled_of(0)
    return replace(pooled, spans=pooled.spans | {SpanName.CHOSEN: replace(pooled.spans[SpanName.CHOSEN], **changes)})


_CHOSEN = pooled_of(0).spans[SpanName.CHOSEN]


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 0},
        {"tokens": 1 << 32},
        {"exponent": 1 << 15},
        {"indices": _CHOSEN.indices[::-1].copy()},
        {"indices": np.repeat(_CHOSEN.indices[:25], 2)},
        {"indices": _CHOSEN.indices[:-1]},
        {"counts": np.zeros_like(_CHOSEN.counts)},
        {"counts": _CHOSEN.counts + np.uint32(_CHOSEN.tokens)},
        {"max_f16": np.full_like(_CHOSEN.max_f16, np.inf)},
        {"max_f16": np.full_like(_CHOSEN.max_f16, np.nan)},
        {"max_f16": -_CHOSEN.max_f16 - np.float16(1)},
        {"mean_residual_f16": np.full_like(_CHOSEN.mean_residual_f16, np.nan)},
        {"mean_residual_f16": np.full_like(_CHOSEN.mean_residual_f16, -np.inf)},
    ],
    ids="-".join,
)
def test_features_that_break_their_invariants_are_not_encoded(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="pooled features"):
        encode(KEY, _with_chosen(**changes))


def test_values_that_are_shifted_between_spans_are_not_encoded() -> None:
    pooled = pooled_of(0)
    chosen, rejected = pooled.spans.values()
    moved = {
        SpanName.CHOSEN: replace(chosen, max_f16=chosen.max_f16[:-1]),
        SpanName.REJECTED: replace(rejected, max_f16=np.append(rejected.max_f16, np.float16(1))),
    }
    with pytest.raises(ValueError, match="pooled features"):
        encode(KEY, replace(pooled, spans=moved))


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_not_encoded(score: float) -> None:
    with pytest.raises(ValueError, match="pooled features"):
        encode(KEY, replace(pooled_of(0), directions={SpanName.CHOSEN: np.array([score], np.float32)}))


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        encode(b"short", pooled_of(0))


def test_decoded_arrays_are_read_only_and_hold_on_to_nothing() -> None:
    data = encode(KEY, pooled_of(0))
    pooled = decode(KEY, data)
    held = {id(base): base for span in pooled.spans.values() for base in (span.indices.base, span.max_f16.base)}
    assert sum(base.nbytes for base in held.values()) == sum(s.indices.nbytes + s.max_f16.nbytes for s in pooled.spans.values())
    with pytest.raises(ValueError, match="read-only"):
        pooled.spans[SpanName.CHOSEN].counts[0] = 1


def test_small_ids_and_counts_take_few_bytes() -> None:
    few = encode(KEY, pooled_of(0, features=800, d_in=576))
    assert len(few) == 56 + 2 * 20 + 2 * (800 * (2 + 2 + 1) + 576 * 2) + 8
    wide = encode(KEY, pooled_of(0, features=800, d_in=576, d_sae=1 << 20))
    assert len(wide) == len(few) + 2 * 800 * 2
