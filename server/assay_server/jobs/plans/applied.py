"""A plan as a caller applies it: offsets of pairs, rewards of responses, rows of its dataset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

from assay_server.errors import AssayError
from assay_server.interventions.apply import PairOffset, PlanIndex, Reward, pair_offsets, response_rewards
from assay_server.interventions.data_plan import Pairs, Row, data_rows, parquet_of
from assay_server.interventions.plan_checks import require_family
from assay_server.interventions.plans import CompiledPlan, Plan
from assay_server.interventions.reading import Engine, Reading
from assay_server.interventions.types import OFFSETS, REWARDING
from assay_server.subject.types import Pair, PromptedResponse


class AppliedPlan:
    """One plan, checked against the loaded subject and what it is applied to; it stays what it is where the plan is deleted.

    Args:
        engine: the scorer.
        index: the plan.
        pairs: its dataset's, from a row on.
    """

    def __init__(self, engine: Engine, index: PlanIndex, pairs: Callable[[int], Pairs]) -> None:
        self._engine = engine
        self._index = index
        self._pairs = pairs

    @property
    def compiled(self) -> CompiledPlan:
        """The plan with its rows and tensors."""
        return self._index.compiled

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.compiled.plan

    def offsets(
        self, how: Reading, *, dataset_pairs_only: bool = False
    ) -> Callable[[Sequence[Pair]], Awaitable[list[PairOffset | AssayError]]]:
        """From pairs to their offsets, see ``pair_offsets``. Raises FailedPrecondition (NO_SUCH_FAMILY)."""
        require_family(self.plan, OFFSETS, "offsets")
        return partial(pair_offsets, self._engine, self._index, how=how, dataset_pairs_only=dataset_pairs_only)

    def rewards(
        self, how: Reading
    ) -> Callable[[Sequence[PromptedResponse], Sequence[float]], Awaitable[list[Reward | AssayError]]]:
        """From responses and their rewards to shaped ones, see ``response_rewards``. Raises as ``offsets``."""
        require_family(self.plan, REWARDING, "rewards")
        return partial(response_rewards, self._engine, self.compiled, how=how)

    def rows(self, start: int = 0) -> AsyncIterator[list[Row]]:
        """What the plan does to each usable pair of its dataset, from a row on, in chunks."""
        return data_rows(self._engine, self.compiled, self._pairs, start)

    async def parquet(self) -> bytes:
        """All rows as one Parquet file."""
        rows = [row async for part in self.rows() for row in part]
        return await asyncio.to_thread(parquet_of, self.plan, rows)
