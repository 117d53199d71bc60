"""A library in memory, for tests of rpc: its rooms answer as the real ones do, and a test sets their pace."""

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from assay_server.errors import AssayError, Cancelled, FailedPrecondition, InvalidItem, NotFound
from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditResult,
    AuditSettings,
    AuditState,
    DecisionInfo,
    DecisionMode,
    EvidencePair,
    HypothesisDetail,
    StatedCondition,
    ViewSummary,
)
from assay_server.jobs.comparisons.types import ComparisonRequest, ComparisonResult
from assay_server.jobs.datasets.types import DatasetInfo, UploadPosition
from assay_server.jobs.operations.types import OperationInfo
from assay_server.subject.types import Pair

from tests.support.fake_rows import SUBJECT, comparison, hypothesis_row


class FakeLibrary:
    """``jobs.library.Library`` in memory; ``tests/support/test_fake_library.py`` holds its rooms to the real ones.

    Attributes:
        gate: set it to a cleared event to hold operations (and appends) until it is set.
        appends: batches that were stored, by request id.
        sent_bytes: what they were sent as, by request id.
        failing: raised by the next appends, one each.
        rows: hypotheses of each view of an audit.
    """

    def __init__(self, rows: int = 60) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.appends: dict[str, list[list[Pair]]] = {}
        self.sent_bytes: dict[str, int] = {}
        self.failing: list[BaseException] = []
        self.rows = rows
        self.parquet = b"PAR1" + bytes(range(256)) * 3000
        self.asked: list[Any] = []
        self.completed: dict[str, DatasetInfo] = {}
        self.stored: dict[str, tuple[DatasetInfo, list[Pair]]] = {}
        self._clock = itertools.count(1_700_000_000)
        self.operations = FakeOperations(self)
        self.datasets = FakeDatasets(self)
        self.audits = FakeAudits(self)
        self.comparisons = FakeComparisons(self)
        self.concepts = NoConcepts()
        self.plans = None

    async def aclose(self) -> None:
        self.operations.stop()

    def now(self) -> float:
        """Another instant at each call."""
        return float(next(self._clock))

    @staticmethod
    def name_of(pairs: list[Pair]) -> str:
        """What the dataset of these pairs is called."""
        return f"datasets/{_fingerprint(pairs)[:24]}"

    def store(self, pairs: list[Pair], display_name: str = "") -> DatasetInfo:
        """Store a dataset at once."""
        fingerprint, name = _fingerprint(pairs), self.name_of(pairs)
        keys = tuple(sorted({key for pair in pairs for key in pair.metadata}))
        prompts = len({pair.prompt for pair in pairs})
        info = DatasetInfo(name, display_name, fingerprint, len(pairs), 0, prompts, keys, self.now(), False)
        self.stored.setdefault(name, (info, pairs))
        return self.stored[name][0]


class NoConcepts:
    """No concept is stored."""

    def get(self, name: str, field: str = "name") -> Any:
        raise NotFound(f"There is no {name}.", field=field)


class FakeOperations:
    """See ``Operations``."""

    def __init__(self, library: FakeLibrary) -> None:
        self._library = library
        self._operations: dict[str, OperationInfo] = {}
        self._over: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def get(self, name: str) -> OperationInfo:
        return _find(self._operations, name)

    def all(self) -> list[OperationInfo]:
        return sorted(self._operations.values(), key=lambda info: -info.created)

    async def wait(self, name: str, seconds: float | None = None) -> OperationInfo:
        _find(self._operations, name)
        waiting = asyncio.ensure_future(self._over[name].wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()
        return self._operations[name]

    async def cancel(self, name: str) -> None:
        if not _find(self._operations, name).done:
            self._tasks[name].cancel()
            self.end(name, error=Cancelled("The operation was cancelled."))

    async def delete(self, name: str) -> None:
        if not _find(self._operations, name).done:
            raise FailedPrecondition(f"{name} is not done.", reason="NOT_DONE")
        del self._operations[name]

    def begin(self, kind: str, target: str, request_id: str, finish: Callable[[], str]) -> OperationInfo:
        """Begin an operation that ends once the gate is open."""
        name = f"operations/{kind}-{request_id or len(self._operations)}"
        if name in self._operations:
            return self._operations[name]
        now = self._library.now()
        info = OperationInfo(name, kind, target, "scoring", 10, 40, 5.0, 6.0, now, now + 0.5, 1, False)
        self._operations[name], self._over[name] = info, asyncio.Event()

        async def run() -> None:
            await self._library.gate.wait()
            self.end(name, response=finish())

        self._tasks[name] = asyncio.create_task(run())
        return info

    def end(self, name: str, *, response: str = "", error: AssayError | None = None) -> None:
        """End an operation."""
        self._operations[name] = replace(self._operations[name], done=True, phase="", response=response, error=error)
        self._over[name].set()

    def known(self, kind: str, request_id: str) -> OperationInfo | None:
        """The operation of a request."""
        return self._operations.get(f"operations/{kind}-{request_id}")

    def stop(self) -> None:
        """Cancel what runs."""
        for task in self._tasks.values():
            task.cancel()


class FakeImports:
    """See ``Imports``."""

    def __init__(self, library: FakeLibrary) -> None:
        self._library = library

    async def begin(self, uri: str, display_name: str = "", request_id: str = "") -> OperationInfo:
        if not uri.startswith("file:///"):
            raise InvalidItem("Not a file.", reason="INVALID_URI", field="uri")
        dataset = self._library.store([Pair("a", "b", "c")], display_name)
        return self._library.operations.begin("import", dataset.name, request_id, lambda: dataset.name)


class FakeDatasets:
    """See ``DatasetJobs``."""

    def __init__(self, library: FakeLibrary) -> None:
        self._library = library
        self.imports = FakeImports(library)

    async def begin(self, request_id: str, display_name: str) -> UploadPosition:
        self._library.appends.setdefault(request_id, [])
        return await self.position(request_id)

    async def append(self, request_id: str, sequence: int, pairs: Sequence[Pair], sent_bytes: int) -> UploadPosition:
        library = self._library
        if library.failing:
            raise library.failing.pop(0)
        await library.gate.wait()
        batches = library.appends[request_id]
        if sequence > len(batches):
            raise FailedPrecondition(
                f"Batch {sequence} came, and {len(batches)} is expected.",
                reason="SEQUENCE_GAP",
                details={"sequence": sequence, "expected": len(batches)},
            )
        if sequence == len(batches):
            batches.append(list(pairs))
            library.sent_bytes[request_id] = library.sent_bytes.get(request_id, 0) + sent_bytes
        return await self.position(request_id)

    async def finish(self, request_id: str, pairs: int) -> DatasetInfo:
        stored = [pair for batch in self._library.appends[request_id] for pair in batch]
        if len(stored) != pairs:
            raise FailedPrecondition(
                f"{len(stored)} pairs are stored, and {pairs} announced.",
                reason="UPLOAD_INCOMPLETE",
                details={"stored": len(stored), "announced": pairs},
            )
        if not stored:
            raise InvalidItem("The dataset holds no pair.", reason="EMPTY_DATASET")
        self._library.completed[request_id] = self._library.store(stored, request_id)
        return self._library.completed[request_id]

    async def position(self, request_id: str) -> UploadPosition:
        batches = self._library.appends.get(request_id, [])
        sent = self._library.sent_bytes.get(request_id, 0)
        return UploadPosition(len(batches), sum(map(len, batches)), self._library.completed.get(request_id), sent)

    async def get(self, name: str) -> DatasetInfo:
        return _find(self._library.stored, name)[0]

    async def all(self) -> list[DatasetInfo]:
        return sorted((info for info, _ in self._library.stored.values()), key=lambda info: -info.created)

    async def delete(self, name: str) -> None:
        _find(self._library.stored, name)
        if any(audit.dataset == name and audit.state is AuditState.RUNNING for audit in await self._library.audits.all()):
            raise FailedPrecondition("An audit of it runs.", reason="IN_USE")
        del self._library.stored[name]

    async def pairs_at(self, name: str, rows: Iterable[int]) -> dict[int, Pair]:
        pairs = _find(self._library.stored, name)[1]
        return {row: pairs[row] for row in sorted(rows) if row < len(pairs)}


class FakeAudits:
    """See ``AuditJobs``."""

    def __init__(self, library: FakeLibrary) -> None:
        self._library = library
        self._audits: dict[str, AuditInfo] = {}
        self._results: dict[str, AuditResult] = {}
        self._decisions: dict[str, DecisionInfo] = {}

    async def create(
        self, dataset: str, settings: AuditSettings, *, display_name: str = "", request_id: str = ""
    ) -> OperationInfo:
        self._library.asked.append(settings)
        return await self._begin("audit", dataset, settings, display_name, request_id, self._library.rows)

    async def test(
        self,
        dataset: str,
        concept: str,
        condition: StatedCondition | None,
        settings: AuditSettings,
        *,
        request_id: str = "",
    ) -> OperationInfo:
        self._library.asked.append((concept, condition, settings))
        return await self._begin("test", dataset, settings, "", request_id, 1)

    async def _begin(
        self, kind: str, dataset: str, settings: AuditSettings, title: str, request_id: str, rows: int
    ) -> OperationInfo:
        library = self._library
        stored = await library.datasets.get(dataset)
        if known := library.operations.known(kind, request_id):
            return known
        name = f"audits/a{len(self._audits)}"
        views = tuple(
            ViewSummary(view, 1000, 30, 20, rows, 4, "", "fewer clusters than asked") for view in settings.statistics.views
        )
        info = AuditInfo(name, stored.name, title, AuditState.RUNNING, settings, SUBJECT, library.now())
        self._audits[name] = info

        def finish() -> str:
            self._audits[name] = done = replace(info, state=AuditState.DONE, views=views, ended=library.now())
            kept = [hypothesis_row(name, view, rank + 1) for view in settings.statistics.views for rank in range(rows)]
            self._results[name] = AuditResult(done, {}, tuple(kept))
            return kept[0].name if kind == "test" else name

        return library.operations.begin(kind, name, request_id, finish)

    async def get(self, name: str) -> AuditInfo:
        return _find(self._audits, name)

    async def all(self) -> list[AuditInfo]:
        return sorted(self._audits.values(), key=lambda info: -info.created)

    async def delete(self, name: str) -> None:
        _find(self._audits, name)
        del self._audits[name]
        self._results.pop(name, None)

    async def result(self, audit: str) -> AuditResult:
        info = _find(self._audits, audit)
        if info.state is AuditState.RUNNING:
            raise FailedPrecondition(f"{audit} is not done.", reason="NOT_DONE")
        if info.state is not AuditState.DONE:
            raise FailedPrecondition(f"{audit} failed.", reason="AUDIT_FAILED")
        return self._results[audit]

    async def hypothesis(self, name: str) -> HypothesisDetail:
        result = await self.result(name.split("/hypotheses/", maxsplit=1)[0])
        rows = {row.name: row for row in result.hypotheses}
        pairs = _find(self._library.stored, result.info.dataset)[1]
        evidence = [EvidencePair(row, pair, 0.5 - row) for row, pair in enumerate(pairs[:4])]
        decided = [decision for decision in self._decisions.values() if decision.hypothesis == name]
        row = replace(_find(rows, name), decision=decided[-1] if decided else None)
        return HypothesisDetail(row, tuple(evidence[:2]), tuple(evidence[2:]))

    async def parquet(self, audit: str) -> bytes:
        await self.result(audit)
        return self._library.parquet

    async def decide(
        self,
        hypothesis: str,
        mode: DecisionMode,
        *,
        strength: float | None = None,
        note: str = "",
        author: str = "",
        request_id: str = "",
    ) -> DecisionInfo:
        await self.hypothesis(hypothesis)
        id = request_id or f"d{len(self._decisions)}"
        name = f"{hypothesis.split('/hypotheses/', maxsplit=1)[0]}/decisions/{id}"
        info = DecisionInfo(name, hypothesis, mode, strength, note, author, self._library.now())
        return self._decisions.setdefault(name, info)

    async def decisions(self, audit: str = "audits/-") -> list[DecisionInfo]:
        if audit != "audits/-":
            _find(self._audits, audit)
        return [info for info in self._decisions.values() if audit in ("audits/-", info.name.split("/decisions/")[0])]


class FakeComparisons:
    """See ``ComparisonJobs``."""

    def __init__(self, library: FakeLibrary) -> None:
        self._library = library
        self._comparisons: dict[str, ComparisonResult] = {}

    async def create(self, request: ComparisonRequest, *, request_id: str = "") -> OperationInfo:
        library = self._library
        library.asked.append(request)
        for name in (request.dataset, request.rollouts, request.noise):
            await library.datasets.get(name)
        name = f"comparisons/{request_id or len(self._comparisons)}"
        self._comparisons[name] = comparison(name, request, library.now())
        return library.operations.begin("comparison", name, request_id, lambda: name)

    async def get(self, name: str, *, brief: bool = False) -> ComparisonResult:
        found: ComparisonResult = _find(self._comparisons, name)
        return ComparisonResult(found.head) if brief else found


def _fingerprint(pairs: list[Pair]) -> str:
    return hashlib.sha256(repr(pairs).encode("utf-8", "replace")).hexdigest()


def _find(known: dict[str, Any], name: str) -> Any:
    if name not in known:
        raise NotFound(f"There is no {name}.", field="name")
    return known[name]
