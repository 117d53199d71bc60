# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it
"""What the asyncio client does with rollouts: `assay.comparison_methods` with ``await``; arguments and errors as there."""

from collections.abc import Iterable

from assay.aio_connection import AsyncConnection
from assay.audit_calls import Named, name_of
from assay.comparisons import DEFAULT_COMPARISON, ComparisonOptions, RolloutComparison, comparison_request
from assay.operations import AsyncOperation


class AsyncComparisonMethods(AsyncConnection):
    """Rollouts before and after training, beside what the data predicted."""

    async def compare_rollouts(
        self,
        dataset: Named | str,
        rollouts: Named | str,
        noise: Named | str,
        *,
        plan: Named | str | None = None,
        margins: Iterable[float] | None = None,
        margins_of: str = "",
        options: ComparisonOptions = DEFAULT_COMPARISON,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[RolloutComparison]:
        """Starts a comparison, and returns at once."""
        request = comparison_request(
            name_of(dataset),
            name_of(rollouts),
            name_of(noise),
            plan=name_of(plan or ""),
            margins=margins,
            margins_of=margins_of,
            options=options,
            request_id=request_id,
        )
        return self._handle(await self._ask(self._audits.CompareRollouts, request, timeout))
