"""Tensors survive the wire bit for bit."""

import math
import struct

import pytest
from assay import Tensor
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_float32_vectors_survive_the_wire(values: list[float]) -> None:
    tensor = Tensor.from_proto(Tensor.from_values(values).to_proto())
    assert tensor.values() == values
    assert tensor.shape == (len(values),)


@given(st.lists(st.floats(width=16, allow_nan=False)))
def test_float16_is_widened_exactly(values: list[float]) -> None:
    assert Tensor("float16", (len(values),), struct.pack(f"<{len(values)}e", *values)).values() == values


def test_bfloat16_is_the_upper_half_of_a_float32() -> None:
    data = b"".join(struct.pack("<f", value)[2:] for value in (1.0, -2.5, math.inf))
    assert Tensor("bfloat16", (3,), data).values() == [1.0, -2.5, math.inf]


def test_a_length_that_does_not_fit_the_shape_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"24 bytes, and got 4"):
        Tensor("float32", (2, 3), b"1234")


def test_an_unknown_element_type_is_refused() -> None:
    wire = Tensor.from_values([1.0]).to_proto()
    wire.dtype = 17
    with pytest.raises(ValueError, match="17"):
        Tensor.from_proto(wire)
