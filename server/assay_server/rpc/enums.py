"""The contract's enums and ours, matched by name: ``INTERVENTION_MODE_AMPLIFY`` is ``Mode.AMPLIFY``."""

from collections.abc import Sequence
from enum import Enum
from typing import Any, Generic, TypeVar

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from assay_server.errors import InvalidItem
from assay_server.rpc.fields import unique

E = TypeVar("E", bound=Enum)


class EnumMap(Generic[E]):
    """One enum of the contract, in both directions.

    Args:
        wire: the contract's enum, whose zero is "..._UNSPECIFIED".
        ours: our enum; each member has its name in the contract, or is ``unspecified``.
        unspecified: the member for zero; None refuses zero.
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
        """The member with this number, received in the field ``path``; ``default`` for zero.

        Raises:
            InvalidItem: UNKNOWN_ENUM_VALUE: the number is not in the contract.
        """
        if not number and default is not None:
            return default
        if number not in self._members:
            raise InvalidItem(
                f"{path.rsplit('.', maxsplit=1)[-1]} is {number}; the values are {min(self._members)} to {max(self._members)}.",
                reason="UNKNOWN_ENUM_VALUE",
                field=path,
                details={"value": number},
            )
        return self._members[number]

    def read_each(self, numbers: Sequence[int], path: str) -> tuple[E, ...]:
        """The members with these numbers. Raises InvalidItem for a number that is unknown (as ``read``) or repeated."""
        return unique([self.read(number, f"{path}[{place}]") for place, number in enumerate(numbers)], path)

    def number(self, member: E) -> Any:
        """The member's number in the contract."""
        return self._numbers[member]
