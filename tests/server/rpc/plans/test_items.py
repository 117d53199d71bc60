"""Offsets and rewards are answered by the loop that answers scores: counted, and with ids cut in errors."""

import re
from typing import Any

import pytest
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service_pb
from assay_server.subject.pair_checks import MAX_ID_BYTES

from tests.server.rpc.plans.served import Served, offsets, wire

AWAY = pb.INTERVENTION_MODE_EXPLAIN_AWAY
LONG = "i" * (MAX_ID_BYTES + 1000)


def counted(served: Served, method: str) -> dict[str, float]:
    """``assay_pairs_total`` of a method, by code."""
    found = re.findall(rf'assay_pairs_total{{code="(\w+)",method="{method}"}} (\S+)', served.metrics.exposition().decode())
    return {code: float(count) for code, count in found}


async def rewarded(served: Served, plan: str, *items: dict[str, Any]) -> list[service_pb.RewardResult]:
    asked = service_pb.ScoreRewardsRequest(plan=plan, responses=[{"text": "a question", **item} for item in items])
    return list((await served.plans.ScoreRewards(asked)).results)


async def test_pairs_with_offsets_are_counted_by_code(served: Served) -> None:
    made = await served.plan({"concept": "feature/8", "mode": AWAY})
    good, empty = wire(served.pairs[0]), wire(served.pairs[1], rejected="")
    await offsets(served, {"plan": made.name}, [good, empty], [good])
    assert counted(served, "StreamOffsets") == {"OK": 2.0, "INVALID_ARGUMENT": 1.0}


async def test_responses_with_rewards_are_counted_by_code(served: Served) -> None:
    made = await served.plan({"concept": "feature/8", "mode": AWAY, "family": pb.INTERVENTION_FAMILY_ONLINE_REWARD})
    await rewarded(served, made.name, {"response": "amber"}, {"response": ""}, {"response": "basil"})
    assert counted(served, "ScoreRewards") == {"OK": 2.0, "INVALID_ARGUMENT": 1.0}


async def test_an_id_that_is_too_long_comes_back_cut(served: Served) -> None:
    made = await served.plan(
        {"concept": "feature/8", "mode": AWAY},
        {"concept": "feature/8", "mode": AWAY, "family": pb.INTERVENTION_FAMILY_ONLINE_REWARD},
    )
    (response,) = await offsets(served, {"plan": made.name}, [wire(served.pairs[0], id=LONG), wire(served.pairs[1])])
    results = await rewarded(served, made.name, {"response": "amber", "id": LONG}, {"response": "basil", "id": "short"})
    for refused, answered in (response.results, results):
        assert "ID_TOO_LONG" in str(refused.error)
        assert refused.id == LONG[:MAX_ID_BYTES]
        assert answered.WhichOneof("outcome") in ("offset", "reward")


async def test_a_refused_response_does_not_shift_the_rewards_of_the_others(served: Served) -> None:
    made = await served.plan({"concept": "feature/8", "mode": AWAY, "family": pb.INTERVENTION_FAMILY_ONLINE_REWARD})
    items = [{"text": "a question", "response": response} for response in ("amber", "", "amber")]
    request = service_pb.ScoreRewardsRequest(plan=made.name, responses=items, rewards=[1.0, 2.0, 4.0])
    first, _, last = (await served.plans.ScoreRewards(request)).results
    assert last.reward.reward - first.reward.reward == pytest.approx(3.0)
