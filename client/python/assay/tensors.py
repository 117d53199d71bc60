"""Dense tensors in little-endian bytes, without numpy.

With numpy at hand a float32 tensor is ``numpy.frombuffer(tensor.data, "<f4").reshape(tensor.shape)``.
"""

import math
import struct
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from assay.v1 import pair_pb2

DType = Literal["float32", "float16", "bfloat16"]

_WIRE: dict[DType, Any] = {
    "float32": pair_pb2.Tensor.DTYPE_FLOAT32,
    "float16": pair_pb2.Tensor.DTYPE_FLOAT16,
    "bfloat16": pair_pb2.Tensor.DTYPE_BFLOAT16,
}
_NAMES: dict[int, DType] = {int(wire): name for name, wire in _WIRE.items()}
_SIZES: dict[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A dense tensor: element type, sizes (outermost first) and row-major little-endian bytes.

    Raises:
        ValueError: `data` has not the length that `dtype` and `shape` ask for.
    """

    dtype: DType
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        wanted = math.prod(self.shape) * _SIZES[self.dtype]
        if len(self.data) != wanted:
            raise ValueError(f"{self.dtype} of shape {self.shape} takes {wanted} bytes, and got {len(self.data)}")

    @classmethod
    def from_values(cls, values: Iterable[float]) -> "Tensor":
        """A float32 vector of the given values (a list, a tuple, a one-dimensional numpy array)."""
        numbers = array("f", values)
        if sys.byteorder == "big":
            numbers.byteswap()
        return cls("float32", (len(numbers),), numbers.tobytes())

    @classmethod
    def from_proto(cls, message: pair_pb2.Tensor) -> "Tensor":
        """From the wire; ValueError where element type or length are wrong."""
        name = _NAMES.get(message.dtype)
        if name is None:
            raise ValueError(f"tensor element type {message.dtype} is none that this client knows")
        return cls(name, tuple(message.shape), message.data)

    def to_proto(self) -> pair_pb2.Tensor:
        """The wire form."""
        return pair_pb2.Tensor(dtype=_WIRE[self.dtype], shape=self.shape, data=self.data)

    def values(self) -> list[float]:
        """The elements, row-major, as Python floats (every element type fits exactly)."""
        count = math.prod(self.shape)
        if self.dtype == "float32":
            return list(struct.unpack(f"<{count}f", self.data))
        if self.dtype == "float16":
            return list(struct.unpack(f"<{count}e", self.data))
        # bfloat16 is the upper half of a binary32: put two zero bytes below each element.
        widened = b"".join(b"\0\0" + self.data[at : at + 2] for at in range(0, len(self.data), 2))
        return list(struct.unpack(f"<{count}f", widened))
