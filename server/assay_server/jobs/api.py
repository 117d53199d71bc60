"""What a transport asks of the audit jobs: the protocol that ``rpc`` codes against.

Invariants:
- Names are resource names ("datasets/…", "audits/…", "audits/…/hypotheses/…", "operations/…"); instants are UNIX seconds.
- What a method returned is durable: a ``kill -9`` right after it loses nothing of it.
- Labels are looked up when rows are read; they are in no table and enter no test (METHOD.md §2).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditResult,
    AuditSettings,
    DecisionInfo,
    DecisionMode,
    HypothesisDetail,
    StatedCondition,
)
from assay_server.jobs.datasets.types import DatasetInfo, UploadPosition
from assay_server.jobs.operations.types import OperationInfo
from assay_server.subject.types import Pair

if TYPE_CHECKING:
    from assay_server.jobs.comparisons.types import ComparisonRequest, ComparisonResult


class AuditJobs(Protocol):
    """Datasets, audits, decisions and operations of one data directory. Confined to one event loop.

    Every method may raise ``NotFound`` for a name that is not there, ``InvalidItem`` with the field's path for an argument that
    cannot be, and ``NotReady`` once ``aclose`` began. Field paths are those of the request messages.
    """

    async def start(self) -> None:
        """Take up what was under way when the last process ended."""
        ...

    async def aclose(self) -> None:
        """Stop work at the next safe point; ``start`` of the next process goes on with it."""
        ...

    # Uploads

    async def begin_upload(self, request_id: str, display_name: str) -> UploadPosition:
        """Open an upload, or take one up again. ``dataset`` is set where it is complete already."""
        ...

    async def append(self, request_id: str, sequence: int, pairs: Sequence[Pair], sent_bytes: int) -> UploadPosition:
        """Store one batch, sent as so many bytes; durable on return. A batch that is stored already is skipped.

        Raises:
            FailedPrecondition: SEQUENCE_GAP, with the sequence expected.
        """
        ...

    async def finish_upload(self, request_id: str, pairs: int) -> DatasetInfo:
        """Complete an upload of so many pairs. The same pairs stored before give that older dataset; twice gives the same one.

        Raises:
            FailedPrecondition: UPLOAD_INCOMPLETE, with both numbers: it holds another number of pairs.
            InvalidItem: EMPTY_DATASET: it holds no pair.
        """
        ...

    async def get_upload(self, request_id: str) -> UploadPosition:
        """Where an upload stands; position 0 for one that is not known."""
        ...

    async def import_file(self, uri: str, display_name: str = "", request_id: str = "") -> OperationInfo:
        """Store the pairs of a file under one of the operator's ``import_roots``.

        A row that holds no pair is left out and named in the log. Once it is done, ``pairs_done`` counts the pairs and
        ``pairs_total`` the rows.

        Raises:
            InvalidItem: the URI is not such a file, or of a kind that is not read.
        """
        ...

    # Datasets

    async def get_dataset(self, name: str) -> DatasetInfo:
        """One dataset."""
        ...

    async def list_datasets(self) -> list[DatasetInfo]:
        """All datasets that can be read, newest first, as their manifests tell.

        What was scored of one takes a look at each of its shards: ``unusable_pairs`` and ``scored`` are left to ``get_dataset``.
        """
        ...

    async def delete_dataset(self, name: str) -> None:
        """Delete a dataset with its features. Raises FailedPrecondition (IN_USE) while work on it runs."""
        ...

    def read_pairs(self, name: str, *, start: int = 0) -> AsyncIterator[tuple[int, list[Pair]]]:
        """A dataset's pairs from row ``start`` on, in chunks, each with the row of its first pair."""
        ...

    # Audits

    async def create_audit(
        self, dataset: str, settings: AuditSettings, *, display_name: str = "", request_id: str = ""
    ) -> OperationInfo:
        """Audit a dataset; ``target`` and ``response`` are the audit."""
        ...

    async def test_hypothesis(
        self,
        dataset: str,
        concept: str,
        condition: StatedCondition | None,
        settings: AuditSettings,
        *,
        request_id: str = "",
    ) -> OperationInfo:
        """Test one stated hypothesis. It is kept as an audit (``target``) of one row; ``response`` is the hypothesis."""
        ...

    async def get_audit(self, name: str) -> AuditInfo:
        """One audit."""
        ...

    async def list_audits(self) -> list[AuditInfo]:
        """All audits, newest first."""
        ...

    async def delete_audit(self, name: str) -> None:
        """Delete an audit with its hypotheses and decisions; one that runs is cancelled first."""
        ...

    async def hypotheses(self, audit: str) -> AuditResult:
        """Everything that an audit found.

        Raises:
            FailedPrecondition: NOT_DONE while it runs; AUDIT_FAILED where it ended otherwise.
        """
        ...

    async def get_hypothesis(self, name: str) -> HypothesisDetail:
        """One hypothesis with its evidence. Raises as ``hypotheses``."""
        ...

    async def export_parquet(self, audit: str) -> bytes:
        """The audit's hypotheses of all views as one Parquet file, one row a test. Raises as ``hypotheses``."""
        ...

    # Decisions

    async def record_decision(
        self,
        hypothesis: str,
        mode: DecisionMode,
        *,
        strength: float | None = None,
        note: str = "",
        author: str = "",
        request_id: str = "",
    ) -> DecisionInfo:
        """Record what is wanted of a hypothesis's concept; earlier decisions are kept, the last one counts."""
        ...

    async def list_decisions(self, audit: str = "audits/-") -> list[DecisionInfo]:
        """Decisions of an audit, or of all with "audits/-", oldest first."""
        ...

    # Comparisons

    async def compare_rollouts(self, request: ComparisonRequest, *, request_id: str = "") -> OperationInfo:
        """Compare what a model answers before and after training with what its data predicted; see ``comparison_jobs``."""
        ...

    async def get_comparison(self, name: str, *, brief: bool = False) -> ComparisonResult:
        """A finished comparison, "comparisons/…"; ``brief`` leaves its shifts out."""
        ...

    # Operations

    async def get_operation(self, name: str) -> OperationInfo:
        """One operation, as it stands."""
        ...

    async def list_operations(self) -> list[OperationInfo]:
        """All operations, newest first."""
        ...

    async def wait_operation(self, name: str, seconds: float | None = None) -> OperationInfo:
        """The operation once it is done, or as it stands after that many ``seconds``."""
        ...

    async def cancel_operation(self, name: str) -> None:
        """Ask an operation to stop; it is done, with ``Cancelled``, shortly after. No effect on one that is done."""
        ...

    async def delete_operation(self, name: str) -> None:
        """Forget an operation that is done. Raises FailedPrecondition (NOT_DONE) otherwise."""
        ...
