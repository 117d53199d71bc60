"""Uploading pairs: packing, back-pressure, and going on after a lost connection or in another process.

Invariants:
- A batch is kept until the server says that it is stored (`Upload.where`), and only what it has not stored is sent again. It is
  asked each time that half of `Flow.bytes_in_flight` was packed; what it has not stored by then stays in memory.
- The caller's iterable is consumed once, in the caller's thread or task, no faster than the connection takes it.
- The end of the source is told to the server with the number of pairs, and only that completes the dataset.
- Under one request id an upload goes on after the pairs that the server has, whichever client sent them: the same id must mean
  the same pairs. `request_id_of` derives one from a file's or a sequence's content; a mere iterator has a fresh one, and goes on
  after a lost connection but not in another process.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any

import grpc

from assay.audits import Dataset
from assay.data.files import PairFile, open_pairs
from assay.errors import AssayError, DeadlineExceeded, InputError, ServerFault, from_rpc_error, is_transport_fault
from assay.flow import ENVELOPE_BYTES, FRAME_BYTES, Flow, Recovery, RetryPolicy
from assay.model import Limits, ModelInfo
from assay.names import fresh_id
from assay.pairs import Pair
from assay.transport import Metadata
from assay.v1 import audit_service_pb2 as service
from assay.v1 import pair_pb2, scoring_pb2

QUEUED_MESSAGES = 4  # between the caller's thread and gRPC's
_PUT_SECONDS = 0.1  # how soon a writer sees that the call has ended
ANSWER_SECONDS = 600.0  # for the last answer: the server writes the rest of a large dataset before it

Source = Path | str | PairFile | Iterable[Pair]
Told = Callable[[int], object]


def pairs_of(source: Source) -> Iterable[Pair]:
    """The pairs of a file, or the iterable itself; a row of a file that holds no pair raises its RowError."""
    if isinstance(source, str | Path):
        source = open_pairs(source)
    return _file_pairs(source) if isinstance(source, PairFile) else source


def request_id_of(source: object) -> str:
    """A request id that equal content has too, where the content is at hand; else a fresh one."""
    if isinstance(source, str | Path):
        source = open_pairs(source)
    if isinstance(source, PairFile):
        return derived_id("file", source.digest, source.reading)
    if isinstance(source, Sequence):
        whole = hashlib.sha256()
        for pair in source:
            text = pair.to_proto().SerializeToString(deterministic=True)
            whole.update(len(text).to_bytes(8, "big") + text)
        return derived_id("pairs", whole.hexdigest())
    return fresh_id()


def derived_id(kind: str, *parts: str) -> str:
    """A request id that says what it stands for: the kind, and a digest of the parts."""
    whole = hashlib.sha256()
    for part in parts:
        text = part.encode()
        whole.update(len(text).to_bytes(8, "big") + text)
    return f"{kind}-{whole.hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class _Kept:
    sequence: int
    message: service.UploadPairsRequest
    size: int


class Parcels:
    """Pairs on their way into batches, and batches that the server has not stored yet. No I/O.

    Args:
        limits: what the server accepts; 0 in a limit means that it did not say.
        flow: how much to pack into a message, and how much to send before asking what is stored.
        state: where the upload stands.
    """

    def __init__(self, limits: Limits, flow: Flow, state: service.GetUploadResponse) -> None:
        self._most_bytes = (limits.max_message_bytes or (4 << 20)) - ENVELOPE_BYTES
        self._message_bytes = min(flow.bytes_per_message, self._most_bytes)
        self._message_pairs = min(flow.pairs_per_message, limits.max_pairs_per_message or flow.pairs_per_message)
        self._ask_bytes = flow.bytes_in_flight // 2
        self._sequence = state.next_sequence
        self._open: list[pair_pb2.Pair] = []
        self._open_bytes = 0
        self._kept: deque[_Kept] = deque()
        self._packed_bytes = 0
        self._asked_at = 0
        self._unsent = 0  # batches at the end of `_kept` that this connection has not carried
        self.pairs = 0

    def add(self, pair: Pair) -> None:
        """Takes one pair; InputError where it cannot travel."""
        where = f"pair {self.pairs + 1} (id {pair.id!r})"
        try:
            message = pair.to_proto()
        except ValueError:
            raise InputError(f"{where}: a text is no Unicode", reason="INVALID_UTF8") from None
        size = message.ByteSize() + FRAME_BYTES
        if size > self._most_bytes:
            most = self._most_bytes + ENVELOPE_BYTES
            raise InputError(
                f"{where} takes {size} bytes, more than one message of {most} holds: shorten it, or leave it out",
                reason="MESSAGE_TOO_LARGE",
                details={"bytes": str(size), "max_message_bytes": str(most)},
            )
        if self._open and (self._open_bytes + size > self._message_bytes or len(self._open) >= self._message_pairs):
            self.flush()
        self._open.append(message)
        self._open_bytes += size
        self.pairs += 1

    def flush(self) -> None:
        """Closes the open batch, however full."""
        if not self._open:
            return
        batch = scoring_pb2.PairBatch(sequence=self._sequence, pairs=self._open)
        self._kept.append(_Kept(self._sequence, service.UploadPairsRequest(batch=batch), self._open_bytes))
        self._packed_bytes += self._open_bytes
        self._sequence += 1
        self._unsent += 1
        self._open, self._open_bytes = [], 0

    def next_unsent(self) -> service.UploadPairsRequest | None:
        """The next message for this connection; None where there is none now."""
        if not self._unsent:
            return None
        self._unsent -= 1
        return self._kept[-1 - self._unsent].message

    @property
    def wants_to_know(self) -> bool:
        """Whether it is time to ask the server what it has stored."""
        return self._packed_bytes - self._asked_at >= self._ask_bytes

    def stored(self, state: service.GetUploadResponse, *, again: bool = False) -> None:
        """Drops what is stored; with `again` a new connection has to carry the rest.

        Where another client completed the upload, every batch is stored, and the end tells whether it was of the same pairs.

        Raises:
            ServerFault: the server has lost batches that it had stored.
        """
        self._asked_at = self._packed_bytes
        if state.HasField("dataset"):
            self._kept.clear()
            self._unsent = 0
            return
        first = self._kept[0].sequence if self._kept else self._sequence
        if state.next_sequence < first:
            raise ServerFault(
                f"the server had stored {first} batches of this upload and now has {state.next_sequence}: upload it again",
                reason="UPLOAD_LOST",
                details={"had": str(first), "has": str(state.next_sequence)},
            )
        while self._kept and self._kept[0].sequence < state.next_sequence:
            self._kept.popleft()
        self._unsent = len(self._kept) if again else min(self._unsent, len(self._kept))


class Upload:
    """One run of `Client.upload_pairs`.

    Args:
        method: the stub's method.
        where: asks how far the upload is.
        get_model: asks what the server accepts.
        head: the first message of each connection.
        metadata: what the call carries.
    """

    def __init__(
        self,
        method: Any,
        where: Callable[[], service.GetUploadResponse],
        get_model: Callable[[], ModelInfo],
        head: service.UploadPairsRequest,
        *,
        metadata: Metadata,
        flow: Flow,
        retry: RetryPolicy,
        address: str,
    ) -> None:
        self._method = method
        self._where = where
        self._get_model = get_model
        self._metadata = metadata
        self._head = head
        self._flow = flow
        self._address = address
        self._recovery = Recovery(retry)
        self._stored = 0

    def run(self, source: Source, told: Told | None) -> Dataset:
        """Sends what the server does not have yet; returns the dataset."""
        pairs = pairs_of(source)
        state = self._stands()
        if state.HasField("dataset"):
            return complete_already(state, pairs)
        parcels = Parcels(self._patiently(self._get_model).limits, self._flow, state)
        rest = skip(iter(pairs), state.pairs, parcels)
        while True:
            link = _Link(self._method, self._metadata, self._head)
            try:
                return made_of(self._send(link, rest, parcels, told), parcels.pairs)
            except grpc.RpcError as failure:
                rpc: Any = failure
                error = from_rpc_error(rpc, address=self._address)
                time.sleep(self._recovery.failed(error, transport=is_transport_fault(rpc)))
            finally:
                link.close()
            parcels.stored(self._stands(), again=True)

    def _send(self, link: "_Link", source: Iterator[Pair], parcels: Parcels, told: Told | None) -> Any:
        """Sends all there is over one connection; returns the answer to it."""
        for message in outgoing(source, parcels):
            link.put(message)
            if parcels.wants_to_know:
                parcels.stored(self._stands())
            if told is not None:
                told(parcels.pairs)
        return link.finish(parcels.pairs)

    def _stands(self) -> service.GetUploadResponse:
        state = self._patiently(self._where)
        if state.next_sequence > self._stored:
            self._stored = state.next_sequence
            self._recovery.progressed()
        return state

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        while True:
            try:
                return ask()
            except AssayError as error:
                time.sleep(self._recovery.failed(error, transport=False))


def head(request_id: str, display_name: str) -> service.UploadPairsRequest:
    """The first message of an upload's connection."""
    return service.UploadPairsRequest(options=service.UploadOptions(request_id=request_id, display_name=display_name))


def end(pairs: int) -> service.UploadPairsRequest:
    """The last message of an upload, which completes it."""
    return service.UploadPairsRequest(end=service.UploadEnd(pairs=pairs))


def made_of(answer: service.UploadPairsResponse, sent: int) -> Dataset:
    """The dataset that an upload made.

    Raises:
        ServerFault: it holds another number of pairs than were sent.
    """
    dataset = Dataset.from_proto(answer.dataset)
    if dataset.pairs != sent:
        raise ServerFault(
            f"{sent} pairs were sent, and the server made a dataset of {dataset.pairs} ({dataset.name}): do not use it, and "
            "upload the pairs again under another request_id",
            reason="PAIRS_DIFFER",
            details={"sent": str(sent), "stored": str(dataset.pairs)},
        )
    return dataset


def complete_already(state: service.GetUploadResponse, pairs: object) -> Dataset:
    """The dataset of an upload that is complete.

    Raises:
        InputError: the pairs can be counted, and are another number.
    """
    dataset = Dataset.from_proto(state.dataset)
    if isinstance(pairs, Sized) and len(pairs) != dataset.pairs:
        raise other_pairs(len(pairs), dataset.pairs)
    return dataset


def skip(source: Iterator[Pair], count: int, parcels: Parcels) -> Iterator[Pair]:
    """Passes over the pairs that the server has.

    Raises:
        InputError: there are fewer: the request id stands for other pairs.
    """
    for passed in range(count):
        if next(source, None) is None:
            raise other_pairs(passed, count)
    parcels.pairs = count
    return source


def other_pairs(have: int, stored: int) -> InputError:
    """The request id stands for other pairs."""
    return InputError(
        f"there are {have} pairs here, and the server has {stored} under this request id already: give another request_id",
        reason="OTHER_UPLOAD",
        details={"pairs": str(have), "stored": str(stored)},
    )


def unanswered() -> DeadlineExceeded:
    """All was sent, and the server did not answer."""
    return DeadlineExceeded(
        f"every pair was sent, and the server returned no dataset within {ANSWER_SECONDS:g} s: the same upload asks again",
        reason="NO_ANSWER",
    )


def outgoing(source: Iterator[Pair], parcels: Parcels) -> Iterator[service.UploadPairsRequest]:
    """Messages as they become full, then the last one; what an earlier connection left unstored comes first."""
    while True:
        while (message := parcels.next_unsent()) is not None:
            yield message
        pair = next(source, None)
        if pair is None:
            parcels.flush()
            if (message := parcels.next_unsent()) is not None:
                yield message
            return
        parcels.add(pair)


class _Link:
    """One connection: a short queue that gRPC's thread empties as fast as the connection takes it."""

    def __init__(self, method: Any, metadata: Metadata, first: Any) -> None:
        self._queue: Queue[service.UploadPairsRequest] = Queue(QUEUED_MESSAGES)
        self._queue.put(first)
        self._gone = threading.Event()
        self._call = method.future(self._requests(), metadata=metadata)

    def put(self, message: service.UploadPairsRequest) -> None:
        """Waits for room; raises how the call ended where it has."""
        while True:
            if self._call.done():
                self._call.result()
                raise ServerFault("the server ended the upload before its end was sent", reason="PROTOCOL")
            try:
                return self._queue.put(message, timeout=_PUT_SECONDS)
            except Full:
                continue

    def finish(self, pairs: int) -> Any:
        """Ends the upload of so many pairs and waits for the dataset."""
        self.put(end(pairs))
        try:
            return self._call.result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise unanswered() from None

    def close(self) -> None:
        """Ends the call where it still goes on; what was stored stays."""
        self._gone.set()
        self._call.cancel()

    def _requests(self) -> Iterator[service.UploadPairsRequest]:
        while not self._gone.is_set():
            try:
                message = self._queue.get(timeout=_PUT_SECONDS)
            except Empty:
                continue
            yield message
            if message.HasField("end"):
                return


def _file_pairs(file: PairFile) -> Iterator[Pair]:
    for row in file.rows():
        if row.pair is not None:
            yield row.pair
        elif row.error is not None:
            raise row.error
