# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it
"""What the asyncio client does with rollouts: ``await client.compare_rollouts(dataset, rollouts, noise, margins=margins)``."""

from collections.abc import Iterable

from assay.aio.connection import AsyncConnection
from assay.aio.operations import AsyncOperation
from assay.comparisons import DEFAULT_COMPARISON, ComparisonOptions, RolloutComparison, comparison_request
from assay.names import Named, name_of


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
        """Starts a comparison, and returns at once; `wait` of what it returns waits for the result.

        Args:
            dataset: what the model was trained on, or its name.
            rollouts: pairs (prompt, chosen: a response after training, rejected: one before); a prompt may have several.
            noise: two independent responses of the model before training, as chosen and rejected, on the same prompts.
            plan: what the training applied; it weighs the prediction.
            margins: beta ((log p+ - ref+) - (log p- - ref-)) of the trained policy per pair, at least 2. Without them no
                conclusion is drawn.
            margins_of: display name of these pairs: "held-out pairs".
            options: every knob has the method's default.
            request_id: the same id gives the same operation, also in another process.
            timeout: timeout of the start, in seconds.
        """
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
