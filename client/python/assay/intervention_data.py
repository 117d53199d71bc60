"""A data plan on this side: what all its rows share, and the rows, as they arrive or loaded.

data = client.data_plan(plan).load()          all rows in memory, to be iterated more than once
data.texts[0].text                            what INOCULATION_ROWS prompts with
for row in data: row.weight, row.flip         one for each usable pair, by ascending row
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from assay.errors import ServerFault
from assay.intervention_results import DataPlanRow, InoculationText
from assay.v1 import intervention_service_pb2 as service


@dataclass(frozen=True, slots=True)
class DataPlan:
    """What a plan does to the pairs of its dataset.

    Attributes:
        plan: "plans/{id}".
        dataset_fingerprint: of the dataset that `DataPlanRow.row` counts in.
        tokenizer_fingerprint: of the tokenizer that token masks count in.
        texts: prompts that rows refer to by place.
        rows: by ascending row, one for each usable pair; an iterator is consumed by the first loop over it.
    """

    plan: str
    dataset_fingerprint: str
    tokenizer_fingerprint: str
    texts: tuple[InoculationText, ...]
    rows: Iterable[DataPlanRow]

    def __iter__(self) -> Iterator[DataPlanRow]:
        return iter(self.rows)

    def load(self) -> "DataPlan":
        """The same with all rows in memory."""
        return DataPlan(self.plan, self.dataset_fingerprint, self.tokenizer_fingerprint, self.texts, tuple(self.rows))


@dataclass(frozen=True, slots=True)
class AsyncDataPlan:
    """`DataPlan` with ``async for``; its rows are consumed by the first loop over them."""

    plan: str
    dataset_fingerprint: str
    tokenizer_fingerprint: str
    texts: tuple[InoculationText, ...]
    rows: AsyncIterator[DataPlanRow]

    def __aiter__(self) -> AsyncIterator[DataPlanRow]:
        return self.rows

    async def load(self) -> DataPlan:
        """All rows in memory."""
        rows = tuple([row async for row in self.rows])
        return DataPlan(self.plan, self.dataset_fingerprint, self.tokenizer_fingerprint, self.texts, rows)


def head_of(first: service.StreamDataPlanResponse | None) -> dict[str, Any]:
    """What all rows share, from the first message; ServerFault where it does not say."""
    if first is None or not first.HasField("head"):
        raise ServerFault("the data plan's first message has no head", reason="PROTOCOL")
    return {
        "plan": first.head.plan,
        "dataset_fingerprint": first.head.dataset_fingerprint,
        "tokenizer_fingerprint": first.head.tokenizer_fingerprint,
        "texts": tuple(map(InoculationText.from_proto, first.head.texts)),
    }


def rows_of(message: service.StreamDataPlanResponse) -> Iterator[DataPlanRow]:
    """The rows of one message."""
    return map(DataPlanRow.from_proto, message.rows)
