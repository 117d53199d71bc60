"""One open UploadPairs: batches in, each durable before the next is read.

Invariants:
- At most one message of an upload is in memory, besides the transport's buffers: a slow disk reaches the client as flow control.
- A pair that can never be scored is stored like any other, and counted as unusable when the dataset is scored; only what breaks
  the stream's own order or limits ends the upload.
- Whatever ends the stream, the stored batches stay, and an upload with the same request_id resumes after them.
- Only `end` completes a dataset: a half-close may be a connection that broke.
"""

from __future__ import annotations  # gRPC's generic types cannot be subscripted at run time

from collections.abc import Sequence

from assay.v1 import audit_service_pb2, pair_pb2, scoring_pb2

from assay_server.errors import FailedPrecondition, InvalidItem
from assay_server.jobs.datasets.jobs import DatasetJobs
from assay_server.jobs.datasets.types import DatasetInfo, UploadPosition
from assay_server.rpc.fields import check_count
from assay_server.rpc.items import Turn
from assay_server.rpc.names import request_id, short_text
from assay_server.rpc.pairs import read_stored_pair
from assay_server.rpc.state import Context, Loaded, ServerState
from assay_server.rpc.streams import batch_of, receive
from assay_server.subject.types import Pair


class PairUpload:
    """Runs one upload to its end."""

    def __init__(self, state: ServerState, datasets: DatasetJobs, context: Context) -> None:
        self._state = state
        self._datasets = datasets
        self._context = context

    async def run(self) -> DatasetInfo:
        """Stores every batch, and completes the dataset at its end.

        Raises:
            AssayError: the stream broke the contract or a limit, it closed without its end, or the server stops.
        """
        head = _read_head(await receive(self._context, self._state))
        loaded = self._state.loaded
        position = await self._datasets.begin(head.request_id, head.display_name)
        while (message := await receive(self._context, self._state)) is not None:
            if message.WhichOneof("payload") == "end":
                _check_last(await receive(self._context, self._state))
                return await self._datasets.finish(head.request_id, message.end.pairs)
            batch = self._check(message, loaded)
            if position.dataset is not None or batch.sequence < position.next_sequence:
                continue
            size = message.ByteSize()
            self._check_size(position.pairs + len(batch.pairs), position.sent_bytes + size)
            position = await self._datasets.append(head.request_id, batch.sequence, await _read_pairs(batch.pairs), size)
            self._state.metrics.pairs("UploadPairs", {"OK": len(batch.pairs)})
        if position.dataset is None:
            raise _unended(head.request_id, position)
        return position.dataset

    def _check(self, message: audit_service_pb2.UploadPairsRequest, loaded: Loaded) -> scoring_pb2.PairBatch:
        batch = batch_of(message, "every later message carries a batch, the last one the end")
        if batch.sequence < 0:
            raise InvalidItem(
                f"The sequence is {batch.sequence}; sequences count from 0.",
                reason="SEQUENCE_ORDER",
                field="batch.sequence",
                details={"sequence": batch.sequence},
            )
        check_count(len(batch.pairs), loaded.bounds.limits.max_pairs_per_message, "max_pairs_per_message", "batch.pairs")
        return batch

    def _check_size(self, pairs: int, size: int) -> None:
        config = self._state.config
        for what, value, limit, most in (
            ("pairs", pairs, "max_dataset_pairs", config.max_dataset_pairs),
            ("bytes", size, "max_upload_bytes", config.max_upload_bytes),
        ):
            if value > most:
                raise InvalidItem(
                    f"With this batch the upload holds {value} {what}; {limit} is {most}. Split the dataset, or ask the operator "
                    f"to raise {limit}.",
                    reason="DATASET_TOO_LARGE",
                    field="batch.pairs",
                    details={what: value, limit: most},
                )


def _read_head(message: audit_service_pb2.UploadPairsRequest | None) -> audit_service_pb2.UploadOptions:
    if message is None or message.WhichOneof("payload") != "options":
        raise InvalidItem(
            "The first message carries no options; open an upload with UploadOptions, which names it by its request_id.",
            reason="STREAM_ORDER",
            field="options",
        )
    request_id(message.options.request_id, "options.request_id", required=True)
    short_text(message.options.display_name, "options.display_name")
    return message.options


def _check_last(message: audit_service_pb2.UploadPairsRequest | None) -> None:
    if message is not None:
        raise InvalidItem(
            "A message came after the end; the end is the last message, and the dataset was not completed.",
            reason="STREAM_ORDER",
            field=message.WhichOneof("payload") or "payload",
        )


def _unended(request_id: str, position: UploadPosition) -> FailedPrecondition:
    return FailedPrecondition(
        f"The stream closed without its end; the upload {request_id} has {position.pairs} pairs stored and is not complete. Run "
        f"`assay audit` again, or go on from next_sequence, which is {position.next_sequence}, and send the end last.",
        reason="UPLOAD_INCOMPLETE",
        field="end",
        details={"stored": position.pairs, "next_sequence": position.next_sequence},
    )


async def _read_pairs(pairs: Sequence[pair_pb2.Pair]) -> list[Pair]:
    turn = Turn()
    read: list[Pair] = []
    for item in pairs:
        read.append(read_stored_pair(item))
        await turn.pause()
    return read
