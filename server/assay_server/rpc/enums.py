"""The contract's enums and ours, matched by name: ``INTERVENTION_MODE_AMPLIFY`` is ``Mode.AMPLIFY``."""

from enum import Enum
from typing import Any, Generic, TypeVar

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from assay_server.rpc.fields import choose

E = TypeVar("E", bound=Enum)


class EnumMap(Generic[E]):
    """One enum of the contract, both ways.

    Args:
        wire: the contract's, whose zero is "..._UNSPECIFIED".
        ours: each member has its name in the contract, or is ``unspecified``.
        unspecified: what zero means; None refuses it.
    """

    def __init__(self, wire: EnumTypeWrapper, ours: type[E], unspecified: E | None = None) -> None:
        prefix, known = wire.Name(0).removesuffix("UNSPECIFIED"), wire.keys()
        self._numbers = {
            one: 0 if one is unspecified and prefix + one.name not in known else wire.Value(prefix + one.name) for one in ours
        }
        self._members = {number: one for one, number in self._numbers.items()}
        if unspecified is not None:
            self._members[0] = unspecified

    def read(self, number: int, path: str, default: E | None = None) -> E:
        """What a number received in the field ``path`` stands for; zero, ``default``. Raises InvalidItem (UNKNOWN_ENUM_VALUE)."""
        return choose(self._members, number, path) if number or default is None else default

    def number(self, member: E) -> Any:
        """What the contract calls it."""
        return self._numbers[member]
