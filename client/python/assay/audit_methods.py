"""What the blocking client does with datasets, audits, hypotheses and decisions.

dataset = client.upload_pairs("pairs.jsonl")
audit = client.audit(dataset).wait()
for hypothesis in client.hypotheses(audit, "finding = true"):
    print(hypothesis.concept.label, hypothesis.effect.estimate, hypothesis.effect.q)
"""

from collections.abc import Iterator
from pathlib import Path

from assay import audit_calls
from assay.audit_calls import Named, name_of
from assay.audits import DEFAULT_AUDIT, Audit, AuditOptions, Dataset
from assay.connection import Connection
from assay.files import replacing
from assay.hypotheses import Decision, DecisionMode, Hypothesis
from assay.operations import Operation
from assay.upload import Source, Told, Upload, head, pairs_of, request_id_of
from assay.v1 import audit_service_pb2 as service


class AuditMethods(Connection):
    """Datasets, audits, hypotheses, decisions."""

    def upload_pairs(
        self,
        pairs: Source,
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
            pairs: a file (as `assay.data.open_pairs` reads it), or any iterable, consumed lazily in this thread.
            request_id: the caller's name for this upload: letters, digits, "-" and "_", at most 64.
            display_name: for people; by default a file's name.
            on_progress: called with the number of pairs that are on their way, those of earlier runs included.

        Raises:
            InputError: a row of the file holds no pair, a pair cannot travel, or the request id stands for other pairs.
        """
        request_id = request_id or request_id_of(pairs)
        where = service.GetUploadRequest(request_id=request_id)
        return Upload(
            lambda requests: self._audits.UploadPairs.future(requests, metadata=self._metadata),
            lambda: self._ask(self._audits.GetUpload, where, None),
            lambda: self.model().limits,
            head(request_id, display_name or audit_calls.file_name(pairs)),
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).run(pairs_of(pairs), on_progress)

    def import_pairs(
        self, uri: str, *, display_name: str = "", request_id: str | None = None, timeout: float | None = None
    ) -> Operation[Dataset]:
        """Stores the pairs of a file that the server may read: "file:///..." under one of its import roots.

        A row that holds no pair is left out and named in the server's log; once it is done, the operation's `pairs_done` counts
        the pairs, and `pairs_total` the rows.
        """
        request = audit_calls.import_request(uri, display_name, request_id)
        return self._handle(self._ask(self._audits.ImportPairs, request, timeout))

    def datasets(self, *, timeout: float | None = None) -> Iterator[Dataset]:
        """All datasets, newest first, page by page."""
        pages = self._pages(self._audits.ListDatasets, audit_calls.datasets_request, "datasets", timeout)
        return map(Dataset.from_proto, pages)

    def dataset(self, name: str, *, timeout: float | None = None) -> Dataset:
        """One dataset, by its name or id."""
        return Dataset.from_proto(self._ask(self._audits.GetDataset, audit_calls.dataset_request(name), timeout).dataset)

    def delete_dataset(self, dataset: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a dataset with its features; InvalidRequest (IN_USE) while an audit of it runs."""
        self._ask(self._audits.DeleteDataset, audit_calls.delete_dataset_request(name_of(dataset)), timeout)

    def audit(
        self,
        dataset: Named | str,
        options: AuditOptions = DEFAULT_AUDIT,
        *,
        display_name: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation[Audit]:
        """Starts an audit, and returns at once: ``client.audit(dataset).wait()`` waits for it.

        Args:
            dataset: what to audit, or its name.
            options: every knob has the method's default.
            display_name: for people; by default the dataset's.
            request_id: the same id gives the same operation, also in another process.
            timeout: seconds that starting may take.
        """
        request = audit_calls.audit_request(name_of(dataset), options, display_name, request_id)
        return self._handle(self._ask(self._audits.CreateAudit, request, timeout))

    def test(
        self,
        dataset: Named | str,
        concept: Named | str,
        *,
        where: tuple[str, str] | str | None = None,
        where_prompt: Named | str = "",
        options: AuditOptions = DEFAULT_AUDIT,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation[Hypothesis]:
        """Starts the test of one stated hypothesis, corrected for nothing else.

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
        request = audit_calls.statement_request(
            name_of(dataset), name_of(concept), where, name_of(where_prompt), options, request_id
        )
        return self._handle(self._ask(self._audits.TestHypothesis, request, timeout))

    def audits(self, dataset: Named | str = "", *, timeout: float | None = None) -> Iterator[Audit]:
        """All audits, or those of a dataset, newest first, page by page."""
        wanted = name_of(dataset)
        pages = self._pages(self._audits.ListAudits, lambda token: audit_calls.audits_request(wanted, token), "audits", timeout)
        return map(Audit.from_proto, pages)

    def get_audit(self, name: str, *, timeout: float | None = None) -> Audit:
        """One audit, by its name or id."""
        return Audit.from_proto(self._ask(self._audits.GetAudit, audit_calls.get_audit_request(name), timeout).audit)

    def delete_audit(self, audit: Named | str, *, timeout: float | None = None) -> None:
        """Deletes an audit with its hypotheses and decisions; one that runs is cancelled."""
        self._ask(self._audits.DeleteAudit, audit_calls.delete_audit_request(name_of(audit)), timeout)

    def hypotheses(
        self,
        audit: Named | str,
        filter: str = "",
        order_by: str = "",
        *,
        page_size: int = audit_calls.PAGE_SIZE,
        timeout: float | None = None,
    ) -> Iterator[Hypothesis]:
        """An audit's hypotheses, page by page, without their evidence.

        Args:
            audit: the audit, or its name.
            filter: conditions joined by AND, for example ``view = "global" AND q <= 0.05 AND label : "list"``; the fields are
                view, finding, q, p, effect, rank, inside, concept, condition and label.
            order_by: one of these fields, "desc" after it for descending; by default view, then rank.
            page_size: hypotheses a call, at most 1000.
            timeout: seconds a call may take.
        """
        name = name_of(audit)
        pages = self._pages(
            self._audits.ListHypotheses,
            lambda token: audit_calls.hypotheses_request(name, filter, order_by, page_size, token),
            "hypotheses",
            timeout,
        )
        return map(Hypothesis.from_proto, pages)

    def hypothesis(self, hypothesis: Named | str, *, highlights: bool = False, timeout: float | None = None) -> Hypothesis:
        """One hypothesis with the pairs that speak for and against it; with `highlights` where its concept fires in them."""
        request = audit_calls.hypothesis_request(name_of(hypothesis), highlights)
        answer = self._call(self._audits.GetHypothesis, request, timeout, self._timeouts.score)
        return Hypothesis.from_proto(answer.hypothesis)

    def decide(
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
        """Records what is wanted of a hypothesis's concept; the last decision counts, earlier ones are kept.

        Args:
            hypothesis: the hypothesis, or its name.
            mode: take its concept out of the learning signal, put more of it in, or keep it as it is.
            strength: how strongly, from 0; 1 by default.
            note: why, for people.
            author: who, for people.
            request_id: the same id gives the same decision.
            timeout: seconds it may take.
        """
        request = audit_calls.decision_request(name_of(hypothesis), mode, strength, note, author, request_id)
        return Decision.from_proto(self._ask(self._audits.RecordDecision, request, timeout).decision)

    def decisions(self, audit: Named | str = "", *, timeout: float | None = None) -> Iterator[Decision]:
        """Decisions of an audit, or of all, oldest first, page by page."""
        wanted = name_of(audit)
        pages = self._pages(
            self._audits.ListDecisions, lambda token: audit_calls.decisions_request(wanted, token), "decisions", timeout
        )
        return map(Decision.from_proto, pages)

    def export_audit(self, audit: Named | str, path: str | Path, format: str = "", *, timeout: float | None = None) -> Path:
        """Writes an audit to a file, whole or not at all: the report (.html), or all hypotheses (.parquet).

        Args:
            audit: the audit, or its name.
            path: the file.
            format: "html" or "parquet"; by default told by the file's name.
            timeout: seconds it may take; no limit by default.
        """
        path = Path(path)
        request = audit_calls.export_request(name_of(audit), format or path.suffix[1:])
        with replacing(path) as temporary, temporary.open("wb") as stream:
            for chunk in self._stream(self._audits.ExportAudit, request, timeout):
                stream.write(chunk.data)
        return path
