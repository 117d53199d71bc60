"""The contract's enums and ours: by name, both ways."""

import pytest
from assay.v1 import intervention_pb2 as pb
from assay_server.errors import InvalidItem
from assay_server.interventions.types import Family, Mode, Placement
from assay_server.rpc.enums import EnumMap


def test_every_member_comes_back_from_its_number() -> None:
    families = EnumMap(pb.InterventionFamily, Family, Family.REWARD_SHAPING)
    assert families.number(Family.STEERING) == pb.INTERVENTION_FAMILY_STEERING
    assert [families.read(families.number(one), "family") for one in Family] == list(Family)
    assert families.read(0, "family") is Family.REWARD_SHAPING
    assert families.number(Family.REWARD_SHAPING) == pb.INTERVENTION_FAMILY_REWARD_SHAPING


def test_a_member_that_the_contract_leaves_unsaid_is_its_zero() -> None:
    placements = EnumMap(pb.PromptPlacement, Placement, Placement.AUTO)
    assert placements.number(Placement.AUTO) == 0
    assert placements.read(0, "placement") is Placement.AUTO


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_number_that_stands_for_nothing_is_refused(number: int) -> None:
    with pytest.raises(InvalidItem) as caught:
        EnumMap(pb.InterventionMode, Mode).read(number, "interventions[0].mode")
    assert (caught.value.reason, caught.value.field) == ("UNKNOWN_ENUM_VALUE", "interventions[0].mode")


def test_a_member_without_a_name_in_the_contract_is_found_at_once() -> None:
    with pytest.raises(ValueError, match="AUTO"):
        EnumMap(pb.PromptPlacement, Placement)


@pytest.mark.parametrize(
    ("numbers", "reason", "field"), [([1, 0], "UNKNOWN_ENUM_VALUE", "modes[1]"), ([2, 1, 2], "DUPLICATE_VALUE", "modes[2]")]
)
def test_a_list_names_each_member_once_and_by_a_known_number(numbers: list[int], reason: str, field: str) -> None:
    modes = EnumMap(pb.InterventionMode, Mode)
    assert modes.read_each([modes.number(one) for one in Mode], "modes") == tuple(Mode)
    with pytest.raises(InvalidItem) as caught:
        modes.read_each(numbers, "modes")
    assert (caught.value.reason, caught.value.field) == (reason, field)
