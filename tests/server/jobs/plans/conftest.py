"""The world that tests of plans share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.jobs.plans.worlds import World, world


@pytest.fixture
async def tiny(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made
