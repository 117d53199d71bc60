"""A deleted concept is forgotten whole: with the operation that made it."""

from pathlib import Path

import pytest
from assay_server.errors import NotFound
from assay_server.jobs.concepts.types import FromCluster
from assay_server.scorer import Scorer

from tests.support.concepts import concept_jobs, loud_texts, request
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize("source", [FromCluster(0), loud_texts(12)], ids=["features", "a direction"])
async def test_the_same_request_makes_a_deleted_concept_again(tmp_path: Path, scorer: Scorer, source: object) -> None:
    asked = request(source, concept_id="mine", request_id="r1")
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        first = await operations.wait((await jobs.create(asked)).name, PATIENCE)
        await jobs.delete("concepts/mine")
        with pytest.raises(NotFound):
            operations.get(first.name)
        again = await operations.wait((await jobs.create(asked)).name, PATIENCE)
        assert again.response == "concepts/mine"
        assert jobs.get(again.response).name == "concepts/mine"
