"""A server whose subject is the policy that these tests train, with stored pairs, once for all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from assay import Client, Dataset, Intervene, InterventionFamily, InterventionMode, Pair, Plan
from datasets import disable_progress_bars

from tests.client.training.policies import make_pairs
from tests.support.plan_server import plan_server
from tests.support.waiting import PATIENCE

disable_progress_bars()


@dataclass(frozen=True)
class Served:
    """A client of the server, and the pairs that it keeps."""

    client: Client
    address: str
    pairs: list[Pair]
    dataset: Dataset

    def plan(self, family: InterventionFamily, about: Any = "feature/8", **changes: Any) -> Plan:
        """A plan of one intervention, to explain away unless said otherwise."""
        return self.plans(Intervene(about, **{"mode": InterventionMode.EXPLAIN_AWAY, "family": family, **changes}))

    def plans(self, *interventions: Intervene) -> Plan:
        """A plan of several."""
        return self.client.create_plan(self.dataset, interventions).wait(timeout=PATIENCE)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pairs = make_pairs(40)
    with plan_server(tmp_path_factory.mktemp("plans")) as server, Client(server.address) as client:
        yield Served(client, server.address, pairs, client.upload_pairs(pairs))
