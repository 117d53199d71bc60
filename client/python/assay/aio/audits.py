# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it
"""What the asyncio client does with datasets, audits, hypotheses and decisions.

dataset = await client.upload_pairs("pairs.jsonl")
audit = await (await client.audit(dataset)).wait()
async for hypothesis in client.hypotheses(audit, "finding = true"):
    print(hypothesis.concept.label, hypothesis.effect.estimate, hypothesis.effect.q)
"""

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from assay.aio.connection import AsyncConnection
from assay.aio.operations import AsyncOperation
from assay.aio.upload import AsyncUpload
from assay.audits import DEFAULT_AUDIT, Audit, AuditOptions, Dataset
from assay.cards import Card
from assay.hypotheses import Decision, DecisionMode, Hypothesis
from assay.names import PAGE_SIZE, Named, file_name, fresh_id, name_of, optional_resource, resource
from assay.pairs import Pair
from assay.upload import Source, Told, head, request_id_of
from assay.v1 import audit_pb2
from assay.v1 import audit_service_pb2 as service
from assay.wire import to_wire

_FORMATS = {"html": service.ExportAuditRequest.FORMAT_HTML, "parquet": service.ExportAuditRequest.FORMAT_PARQUET}


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
        """Stores pairs on the server; equal pairs in equal order are one dataset, however often they come.

        A lost connection is opened again and goes on after what the server has stored (`RetryPolicy`). So does the same
        call in another process, where the request id is the same: by default it follows from the content of a file or a
        sequence; of a mere iterator it is a fresh one.

        Args:
            pairs: a file (as `assay.data.open_pairs` reads it), or any iterable, consumed lazily where the call runs.
            request_id: your name for this upload: letters, digits, "-" and "_", at most 64.
            display_name: display name; by default the file's name.
            on_progress: called with the number of pairs on their way, those of earlier runs included.

        Raises:
            InputError: a row of the file holds no pair, a pair cannot travel, or the request id stands for other pairs.
        """
        request_id = request_id or request_id_of(pairs)
        where = service.GetUploadRequest(request_id=request_id)
        return await AsyncUpload(
            self._audits.UploadPairs,
            lambda: self._ask(self._audits.GetUpload, where, None),
            self.model,
            head(request_id, display_name or file_name(pairs)),
            metadata=self._metadata,
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).run(pairs, on_progress)

    async def import_pairs(
        self, uri: str, *, display_name: str = "", request_id: str | None = None, timeout: float | None = None
    ) -> AsyncOperation[Dataset]:
        """Stores the pairs of a file that the server may read: "file:///..." under one of its import roots.

        A row that holds no pair is left out and named in the server's log; once it is done, the operation's `pairs_done` counts
        the pairs, and `pairs_total` the rows.
        """
        request = service.ImportPairsRequest(uri=uri, display_name=display_name, request_id=request_id or "")
        return self._handle(await self._ask(self._audits.ImportPairs, request, timeout))

    async def datasets(self, *, timeout: float | None = None) -> AsyncIterator[Dataset]:
        """All datasets, newest first, page by page."""
        request = service.ListDatasetsRequest(page_size=PAGE_SIZE)
        async for message in self._pages(self._audits.ListDatasets, request, "datasets", timeout):
            yield Dataset.from_proto(message)

    async def dataset(self, name: str, *, timeout: float | None = None) -> Dataset:
        """One dataset, by its name or id."""
        request = service.GetDatasetRequest(name=resource(name, "datasets"))
        answer = await self._ask(self._audits.GetDataset, request, timeout)
        return Dataset.from_proto(answer.dataset)

    async def delete_dataset(self, dataset: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a dataset with its features; InvalidRequest (IN_USE) while an audit of it runs."""
        request = service.DeleteDatasetRequest(name=resource(dataset, "datasets"))
        await self._ask(self._audits.DeleteDataset, request, timeout)

    async def audit(
        self,
        dataset: Named | str,
        options: AuditOptions = DEFAULT_AUDIT,
        *,
        display_name: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[Audit]:
        """Starts an audit, and returns at once: ``await (await client.audit(dataset)).wait()`` waits for it.

        Args:
            dataset: what to audit, or its name.
            options: every knob has the method's default.
            display_name: display name; by default the dataset's.
            request_id: the same id gives the same operation, also in another process.
            timeout: timeout of the start, in seconds.
        """
        request = service.CreateAuditRequest(
            dataset=resource(dataset, "datasets"),
            display_name=display_name,
            options=options.to_proto(),
            request_id=request_id or fresh_id(),
        )
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
        """Starts the test of one stated hypothesis, which is corrected for no others.

        Args:
            dataset: the pairs, or their dataset's name.
            concept: a stored concept, or "concepts/{id}", "feature/17", "cluster/3".
            where: only pairs with this metadata, as (key, value); or a condition of an audit, as
                "audits/{audit}/conditions/{condition}".
            where_prompt: only pairs whose prompt expresses this concept.
            options: tau, levels, nuisances and seed are used.
            request_id: as in `audit`.
            timeout: as in `audit`.
        """
        if where is not None and where_prompt:
            raise ValueError("a hypothesis has one condition: give where or where_prompt, not both")
        request = service.TestHypothesisRequest(
            dataset=resource(dataset, "datasets"),
            concept=name_of(concept),
            options=options.to_proto(),
            request_id=request_id or fresh_id(),
        )
        if where_prompt:
            request.prompt_concept = name_of(where_prompt)
        elif isinstance(where, str):
            request.audit_condition = where
        elif where is not None:
            request.metadata.key, request.metadata.value = where
        return self._handle(await self._ask(self._audits.TestHypothesis, request, timeout))

    async def audits(self, dataset: Named | str = "", *, timeout: float | None = None) -> AsyncIterator[Audit]:
        """All audits, or those of a dataset, newest first, page by page."""
        request = service.ListAuditsRequest(page_size=PAGE_SIZE, dataset=optional_resource(dataset, "datasets"))
        async for message in self._pages(self._audits.ListAudits, request, "audits", timeout):
            yield Audit.from_proto(message)

    async def get_audit(self, name: str, *, timeout: float | None = None) -> Audit:
        """One audit, by its name or id."""
        answer = await self._ask(self._audits.GetAudit, service.GetAuditRequest(name=resource(name, "audits")), timeout)
        return Audit.from_proto(answer.audit)

    async def delete_audit(self, audit: Named | str, *, timeout: float | None = None) -> None:
        """Deletes an audit with its hypotheses and decisions; a running one is cancelled."""
        await self._ask(self._audits.DeleteAudit, service.DeleteAuditRequest(name=resource(audit, "audits")), timeout)

    async def hypotheses(
        self,
        audit: Named | str,
        filter: str = "",
        order_by: str = "",
        *,
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
    ) -> AsyncIterator[Hypothesis]:
        """An audit's hypotheses, page by page, without their evidence.

        Args:
            audit: the audit, or its name.
            filter: conditions joined by AND, for example ``view = "global" AND q <= 0.05 AND label : "list"``; the fields are
                view, finding, q, p, effect, rank, inside, concept, condition and label.
            order_by: one of these fields, "desc" after it for descending; by default view, then rank.
            page_size: hypotheses per call, at most 1000.
            timeout: timeout per call, in seconds.
        """
        parent = resource(audit, "audits")
        request = service.ListHypothesesRequest(parent=parent, filter=filter, order_by=order_by, page_size=page_size)
        async for message in self._pages(self._audits.ListHypotheses, request, "hypotheses", timeout):
            yield Hypothesis.from_proto(message)

    async def cards(self, audit: Named | str, *, timeout: float | None = None) -> list[Card]:
        """What an audit found as cards, in the order of reading: the statements that the report begins with.

        Args:
            audit: the audit, or its name.
            timeout: timeout in seconds; the server reads the pairs that cards show again.
        """
        request = service.ListCardsRequest(name=resource(audit, "audits"))
        answer = await self._call(self._audits.ListCards, request, timeout, self._timeouts.score)
        return [Card.from_proto(message) for message in answer.cards]

    async def hypothesis(self, hypothesis: Named | str, *, highlights: bool = False, timeout: float | None = None) -> Hypothesis:
        """One hypothesis with the pairs that speak for and against it; with `highlights` where its concept fires in them."""
        request = service.GetHypothesisRequest(name=name_of(hypothesis), highlights=highlights)
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
        """Records a decision on a hypothesis's concept; the last one counts, earlier ones are kept.

        Args:
            hypothesis: the hypothesis, or its name.
            mode: take its concept out of the learning signal, put more of it in, or keep it as it is.
            strength: how strongly, from 0; 1 by default.
            note: reason of the decision.
            author: author of the decision.
            request_id: the same id gives the same decision.
            timeout: timeout in seconds.
        """
        decision = audit_pb2.Decision(
            hypothesis=name_of(hypothesis),
            mode=to_wire(audit_pb2.Decision.Mode, "MODE", mode),
            strength=strength,
            note=note,
            author=author,
        )
        request = service.RecordDecisionRequest(decision=decision, request_id=request_id or fresh_id())
        answer = await self._ask(self._audits.RecordDecision, request, timeout)
        return Decision.from_proto(answer.decision)

    async def decisions(self, audit: Named | str = "", *, timeout: float | None = None) -> AsyncIterator[Decision]:
        """Decisions of an audit, or of all audits, oldest first, page by page."""
        request = service.ListDecisionsRequest(parent=resource(name_of(audit) or "-", "audits"), page_size=PAGE_SIZE)
        async for message in self._pages(self._audits.ListDecisions, request, "decisions", timeout):
            yield Decision.from_proto(message)

    async def export_audit(self, audit: Named | str, path: str | Path, format: str = "", *, timeout: float | None = None) -> Path:
        """Writes an audit to a file, whole or not at all: the report (.html), or all hypotheses (.parquet).

        Args:
            audit: the audit, or its name.
            path: the file.
            format: "html" or "parquet"; by default the file name's suffix.
            timeout: timeout in seconds; none by default.
        """
        path = Path(path)
        format = format or path.suffix[1:]
        if format not in _FORMATS:
            raise ValueError(f"format is {format!r}; an audit is exported as {' or '.join(_FORMATS)}")
        request = service.ExportAuditRequest(name=resource(audit, "audits"), format=_FORMATS[format])
        return await self._download(self._audits.ExportAudit, request, path, timeout)
