# ruff: noqa: ASYNC109 - deadlines travel to the server; files are small beside what fills them
"""What the asyncio client does with datasets, audits, hypotheses and decisions: `assay.audit_methods` with ``await``.

Arguments, results and errors are those of the blocking client's methods, where each is described.
"""

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from assay import audit_calls
from assay.aio_connection import AsyncConnection
from assay.aio_upload import AsyncUpload
from assay.audit_calls import Named, name_of
from assay.audits import DEFAULT_AUDIT, Audit, AuditOptions, Dataset
from assay.files import replacing
from assay.hypotheses import Decision, DecisionMode, Hypothesis
from assay.model import Limits
from assay.operations import AsyncOperation
from assay.pairs import Pair
from assay.upload import Source, Told, head, pairs_of, request_id_of
from assay.v1 import audit_service_pb2 as service


class AsyncAuditMethods(AsyncConnection):
    """Datasets, audits, hypotheses, decisions."""

    async def upload_pairs(
        self,
        pairs: Source | AsyncIterable[Pair],
        *,
        request_id: str | None = None,
        display_name: str = "",
        on_progress: Told | None = None,
    ) -> Dataset:
        """Stores pairs on the server; equal pairs in equal order are one dataset, however often they come."""
        request_id = request_id or request_id_of(pairs)
        where = service.GetUploadRequest(request_id=request_id)

        async def limits() -> Limits:
            return (await self.model()).limits

        return await AsyncUpload(
            lambda: self._audits.UploadPairs(metadata=self._metadata),
            lambda: self._ask(self._audits.GetUpload, where, None),
            limits,
            head(request_id, display_name or audit_calls.file_name(pairs)),
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).run(pairs if isinstance(pairs, AsyncIterable) else pairs_of(pairs), on_progress)

    async def import_pairs(
        self, uri: str, *, display_name: str = "", request_id: str | None = None, timeout: float | None = None
    ) -> AsyncOperation[Dataset]:
        """Stores the pairs of a file that the server may read: "file:///..." under one of its import roots.

        A row that holds no pair is left out and named in the server's log; once it is done, the operation's `pairs_done` counts
        the pairs, and `pairs_total` the rows.
        """
        request = audit_calls.import_request(uri, display_name, request_id)
        return self._handle(await self._ask(self._audits.ImportPairs, request, timeout))

    async def datasets(self, *, timeout: float | None = None) -> AsyncIterator[Dataset]:
        """All datasets, newest first, page by page."""
        pages = self._pages(self._audits.ListDatasets, audit_calls.datasets_request, "datasets", timeout)
        async for message in pages:
            yield Dataset.from_proto(message)

    async def dataset(self, name: str, *, timeout: float | None = None) -> Dataset:
        """One dataset, by its name or id."""
        return Dataset.from_proto((await self._ask(self._audits.GetDataset, audit_calls.dataset_request(name), timeout)).dataset)

    async def delete_dataset(self, dataset: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a dataset with its features; InvalidRequest (IN_USE) while an audit of it runs."""
        await self._ask(self._audits.DeleteDataset, audit_calls.delete_dataset_request(name_of(dataset)), timeout)

    async def audit(
        self,
        dataset: Named | str,
        options: AuditOptions = DEFAULT_AUDIT,
        *,
        display_name: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[Audit]:
        """Starts an audit, and returns at once: ``client.audit(dataset).wait()`` waits for it."""
        request = audit_calls.audit_request(name_of(dataset), options, display_name, request_id)
        return self._handle(await self._ask(self._audits.CreateAudit, request, timeout))

    async def test(
        self,
        dataset: Named | str,
        concept: Named | str,
        *,
        where: tuple[str, str] | str | None = None,
        where_prompt: Named | str = "",
        options: AuditOptions = DEFAULT_AUDIT,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[Hypothesis]:
        """Starts the test of one stated hypothesis, corrected for nothing else."""
        request = audit_calls.statement_request(
            name_of(dataset), name_of(concept), where, name_of(where_prompt), options, request_id
        )
        return self._handle(await self._ask(self._audits.TestHypothesis, request, timeout))

    async def audits(self, dataset: Named | str = "", *, timeout: float | None = None) -> AsyncIterator[Audit]:
        """All audits, or those of a dataset, newest first, page by page."""
        wanted = name_of(dataset)
        pages = self._pages(self._audits.ListAudits, lambda token: audit_calls.audits_request(wanted, token), "audits", timeout)
        async for message in pages:
            yield Audit.from_proto(message)

    async def get_audit(self, name: str, *, timeout: float | None = None) -> Audit:
        """One audit, by its name or id."""
        return Audit.from_proto((await self._ask(self._audits.GetAudit, audit_calls.get_audit_request(name), timeout)).audit)

    async def delete_audit(self, audit: Named | str, *, timeout: float | None = None) -> None:
        """Deletes an audit with its hypotheses and decisions; one that runs is cancelled."""
        await self._ask(self._audits.DeleteAudit, audit_calls.delete_audit_request(name_of(audit)), timeout)

    async def hypotheses(
        self,
        audit: Named | str,
        filter: str = "",
        order_by: str = "",
        *,
        page_size: int = audit_calls.PAGE_SIZE,
        timeout: float | None = None,
    ) -> AsyncIterator[Hypothesis]:
        """An audit's hypotheses, page by page, without their evidence."""
        name = name_of(audit)
        pages = self._pages(
            self._audits.ListHypotheses,
            lambda token: audit_calls.hypotheses_request(name, filter, order_by, page_size, token),
            "hypotheses",
            timeout,
        )
        async for message in pages:
            yield Hypothesis.from_proto(message)

    async def hypothesis(self, hypothesis: Named | str, *, highlights: bool = False, timeout: float | None = None) -> Hypothesis:
        """One hypothesis with the pairs that speak for and against it; with `highlights` where its concept fires in them."""
        request = audit_calls.hypothesis_request(name_of(hypothesis), highlights)
        answer = await self._call(self._audits.GetHypothesis, request, timeout, self._timeouts.score)
        return Hypothesis.from_proto(answer.hypothesis)

    async def decide(
        self,
        hypothesis: Named | str,
        mode: DecisionMode,
        *,
        strength: float | None = None,
        note: str = "",
        author: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Decision:
        """Records what is wanted of a hypothesis's concept; the last decision counts, earlier ones are kept."""
        request = audit_calls.decision_request(name_of(hypothesis), mode, strength, note, author, request_id)
        return Decision.from_proto((await self._ask(self._audits.RecordDecision, request, timeout)).decision)

    async def decisions(self, audit: Named | str = "", *, timeout: float | None = None) -> AsyncIterator[Decision]:
        """Decisions of an audit, or of all, oldest first, page by page."""
        wanted = name_of(audit)
        pages = self._pages(
            self._audits.ListDecisions, lambda token: audit_calls.decisions_request(wanted, token), "decisions", timeout
        )
        async for message in pages:
            yield Decision.from_proto(message)

    async def export_audit(self, audit: Named | str, path: str | Path, format: str = "", *, timeout: float | None = None) -> Path:
        """Writes an audit to a file, whole or not at all: the report (.html), or all hypotheses (.parquet)."""
        path = Path(path)
        request = audit_calls.export_request(name_of(audit), format or path.suffix[1:])
        with replacing(path) as temporary, temporary.open("wb") as stream:
            async for chunk in self._stream(self._audits.ExportAudit, request, timeout):
                stream.write(chunk.data)
        return path
