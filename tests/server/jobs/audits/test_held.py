"""Finished audits in memory: one object as long as nothing changed, and never what was."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.errors import FailedPrecondition, NotFound
from assay_server.jobs.audits.files import AuditFiles
from assay_server.jobs.audits.held import HELD, HeldResults
from assay_server.jobs.audits.snapshots import Snapshot, to_record
from assay_server.jobs.audits.tables import fingerprint
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, AuditState, DecisionInfo, DecisionMode, LabelText
from assay_server.store.features import DirectionSet
from assay_server.store.files import Files
from assay_server.subject.identity import SubjectRef

from tests.server.jobs.audits.test_tables import make_table

SUBJECT = SubjectRef(*["s"] * 8)


class Labels:
    """Labels that tests change; counts what is asked."""

    def __init__(self) -> None:
        self.text = "before"
        self.asked: list[str] = []

    def __call__(self, name: str, features: Sequence[int]) -> LabelText:
        self.asked.append(name)
        return LabelText(f"{self.text} {name}")


class Reading(AuditFiles):
    """Real files that count how often tables are read."""

    reads = 0

    def tables(self, name: str) -> dict[ViewKind, TestTable]:
        self.reads += 1
        return super().tables(name)


@pytest.fixture
def files(tmp_path: Path) -> Reading:
    return Reading(Files(str(tmp_path)))


def finished(files: AuditFiles, name: str = "audits/a", seed: int = 0, **more: Any) -> AuditInfo:
    tables = {view: make_table(view, seed=seed) for view in (ViewKind.GLOBAL, ViewKind.FEATURE_CONDITIONED)}
    settings = AuditSettings(AuditOptions(keep=9))
    info = AuditInfo(name, "datasets/d", name, AuditState.DONE, settings, SUBJECT, 1.0, result_fingerprint=fingerprint(tables))
    info = replace(info, **more)
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    files.write_concepts(name, to_record(Snapshot((), ("concepts/x", "concepts/y"), DirectionSet(vectors), (0.5, -1.0))))
    files.finish(info, tables)
    return info


async def test_pages_of_a_result_that_nobody_changed_share_one_object_and_one_reading(files: Reading) -> None:
    info, labels = finished(files), Labels()
    held = HeldResults(files, labels)
    first = await held.get(info.name)
    asked = len(labels.asked)
    assert asked == len(set(labels.asked)), "each concept and condition is looked up once, however many rows it has"
    assert len(first.hypotheses) == 2 * 9
    assert {row.concept.label.text for row in first.hypotheses} >= {"before cluster/0"}
    assert all(row.condition is None or row.condition.label.text.startswith("before data-") for row in first.hypotheses)
    assert await held.get(info.name) is first
    assert files.reads == 1
    assert first.directions["concepts/y"].vector.tolist() == [3, 4, 5]
    assert first.directions["concepts/y"].threshold == -1.0
    assert first.hypotheses == (await HeldResults(files, labels).get(info.name)).hypotheses


async def test_new_labels_and_decisions_show_at_once_without_reading_tables_again(files: Reading) -> None:
    info, labels = finished(files), Labels()
    held = HeldResults(files, labels)
    first = await held.get(info.name)
    labels.text = "after"
    second = await held.get(info.name)
    assert second.hypotheses[0].concept.label.text.startswith("after")
    assert first.hypotheses[0].concept.label.text.startswith("before")
    name = first.hypotheses[3].name
    files.write_decision(DecisionInfo(f"{info.name}/decisions/1", name, DecisionMode.KEEP, None, "", "", 2.0))
    third = await held.get(info.name)
    decided = [row.name for row in third.hypotheses if row.decision is not None]
    assert decided == [name]
    assert files.reads == 1


async def test_a_deleted_audit_is_gone_and_another_of_its_name_is_another(files: Reading) -> None:
    info, labels = finished(files), Labels()
    held = HeldResults(files, labels)
    before = await held.get(info.name)
    files.delete(info.name)
    with pytest.raises(NotFound):
        await held.get(info.name)
    finished(files, seed=1)  # nobody told the cache
    after = await held.get(info.name)
    assert after.hypotheses != before.hypotheses
    held.drop(info.name)
    assert (await held.get(info.name)).hypotheses == after.hypotheses
    assert files.reads == 3
    files.write(replace(info, state=AuditState.RUNNING))
    with pytest.raises(FailedPrecondition):
        await held.get(info.name)


async def test_only_so_many_audits_stay_in_memory_those_asked_for_last(files: Reading) -> None:
    held = HeldResults(files, Labels())
    names = [finished(files, f"audits/{number}", number).name for number in range(HELD + 1)]
    for name in names[:HELD]:
        await held.get(name)
    await held.get(names[0])
    assert files.reads == HELD
    await held.get(names[HELD])  # the second is the one that was not asked for longest
    await held.get(names[0])
    assert files.reads == HELD + 1
    await held.get(names[1])
    assert files.reads == HELD + 2


async def test_damaged_concepts_cost_highlights_and_no_findings(files: Reading, tmp_path: Path) -> None:
    info = finished(files)
    (tmp_path / info.name / "concepts.json").write_text("{")
    result = await HeldResults(files, Labels()).get(info.name)
    assert (len(result.hypotheses), result.directions) == (18, {})
