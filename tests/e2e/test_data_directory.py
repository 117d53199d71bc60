"""Data directories that earlier releases wrote: each opens, lists, exports and goes on, by the public client alone.

What comes from the directory is the same to the last bit; what the model reads anew each time, within a tolerance. Nothing here
says how the server does it, so that no change of its insides changes this file. A directory is never written again.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from assay import Client, DecisionMode, NotFound
from assay_server.subject.subject import Subject, load_subject

from tests.support.data_directory import DATASETS, OPEN_UPLOAD, ask, ask_and_leave, differences, read_computed, read_kept
from tests.support.plan_server import plan_server

DATA = Path(__file__).parents[1] / "data"
WRITTEN = sorted(DATA.glob("written-at-*"))
assert WRITTEN, f"{DATA} holds no data directory that a release wrote"
KERNELS = 1e-3  # another machine's matrix products, on scores of some tens


@dataclass(frozen=True)
class Opened:
    """A copy of a written directory, served, and what was written of it."""

    client: Client
    pairs: Path
    expected: dict[str, Any]


@pytest.fixture(scope="module", params=WRITTEN, ids=lambda folder: folder.name)
def written(request: pytest.FixtureRequest) -> tuple[Path, Subject]:
    """What a release wrote, and the subject that it wrote beside it."""
    model, sae = (str(request.param / "subject" / part) for part in ("model", "sae"))
    return request.param, load_subject(model, sae, device="cpu", overrides=("VARIANCE",), whole_model=True)


@pytest.fixture(scope="module")
def kept(written: tuple[Path, Subject], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The directory with finished work. Its tests run in order: those that read, then those that go on with it."""
    yield from opened(*written, "kept", tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def under_way(written: tuple[Path, Subject], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The directory of a server that was killed."""
    yield from opened(*written, "under-way", tmp_path_factory.mktemp("under-way"))


def opened(folder: Path, subject: Subject, part: str, scratch: Path) -> Iterator[Opened]:
    """Serves a copy, in which nothing is ever too old."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    shutil.copytree(folder / part, scratch / part)
    ages = {"upload_max_age_seconds": math.inf, "operation_max_age_seconds": math.inf}
    with plan_server(scratch / part, subject, **ages) as server, Client(server.address) as client:
        yield Opened(client, folder / "pairs", expected)


def test_the_stored_subject_has_the_fingerprints_that_it_had(kept: Opened) -> None:
    """Without them nothing that it made is its own any more. Its weights are stored; what else counts, packages decide."""
    model, packages = kept.client.model(), kept.expected["packages"]
    others = {name: (was, version(name)) for name, was in packages.items() if was != version(name)}
    subject = {**model.identity, "whole_model": model.whole_model_fingerprint}
    assert subject == kept.expected["kept"]["subject"], f"packages that changed, then and now: {others}"


def test_everything_that_is_kept_reads_as_it_was_written(kept: Opened, tmp_path: Path) -> None:
    found = read_kept(kept.client, kept.pairs, tmp_path)
    assert list(differences(kept.expected["kept"], found)) == []


def test_what_is_listed_can_be_got_one_by_one(kept: Opened) -> None:
    client = kept.client
    assert [client.dataset(one.name) for one in client.datasets()] == list(client.datasets())
    assert [client.get_audit(one.name) for one in client.audits()] == list(client.audits())
    assert [client.concept(one.name) for one in client.concepts()] == list(client.concepts())
    assert [client.plan(one.name) for one in client.plans()] == list(client.plans())
    for plan in client.plans():
        assert tuple(client.intervention(one.name).intervention for one in plan.interventions) == plan.interventions
    for audit in client.audits():
        decisions = list(client.decisions(audit))
        for one in client.hypotheses(audit):
            assert replace(client.hypothesis(one), supporting=(), contradicting=()) == one
            assert one.decision in (None, *decisions)


def test_the_report_of_every_audit_is_made(kept: Opened, tmp_path: Path) -> None:
    for audit in kept.client.audits():
        page = kept.client.export_audit(audit, tmp_path / "report.html").read_text(encoding="utf-8")
        assert page.lower().startswith("<!doctype html>")
        assert audit.result_fingerprint in page
        assert all(one.id in page for one in kept.client.hypotheses(audit, "finding = true"))


def test_what_the_model_reads_again_is_what_it_read_then(kept: Opened) -> None:
    found = read_computed(kept.client, kept.pairs)
    assert list(differences(kept.expected["computed"], found, tolerance=KERNELS)) == []


def test_asking_again_gives_what_was_made_then(kept: Opened) -> None:
    before = {one.name for one in kept.client.operations()}
    asked: dict[str, str] = kept.expected["asked"]
    assert set(asked.values()) <= before
    for name, operation in ask(kept.client, kept.pairs):
        if name in asked:
            assert (operation.name, operation.done) == (asked[name], True)
        operation.wait(timeout=60)
    assert len(list(kept.client.datasets())) == len(DATASETS)


def test_what_was_written_can_be_decided_about_and_deleted(kept: Opened) -> None:
    client = kept.client
    hypothesis = next(client.hypotheses("audits/audit", 'view = "global"', "rank"))
    decision = client.decide(hypothesis, DecisionMode.KEEP, note="on second thoughts")
    assert list(client.decisions("audits/audit"))[-1] == decision
    assert client.hypothesis(hypothesis).decision == decision
    deleting: list[tuple[Any, Any, str]] = [
        (client.dataset, client.delete_dataset, client.get_audit("audits/small").dataset),
        (client.get_audit, client.delete_audit, "audits/small"),
        (client.concept, client.delete_concept, "concepts/told"),
        (client.plan, client.delete_plan, "plans/decided"),
    ]
    for get, delete, name in deleting:
        assert get(name).name == name
        delete(name)
        with pytest.raises(NotFound):
            get(name)


def test_work_that_a_killed_server_left_is_taken_up_and_done(under_way: Opened) -> None:
    client, left = under_way.client, under_way.expected["left"]
    assert {one.name for one in client.operations()} == set(left.values())
    made = {name: client.operation(operation).wait(timeout=60) for name, operation in left.items()}
    assert all(client.operation(operation).status.progress.resumed == 1 for operation in left.values())
    assert {name: operation.name for name, operation in ask_and_leave(client, under_way.pairs)} == left
    assert made["audit"] == client.get_audit("audits/audit")
    assert made["plan"] == client.plan("plans/plan")
    assert made["loud"] == client.concept("concepts/loud")
    assert made["ranked"].rows == 2


def test_an_upload_that_was_left_open_goes_on_where_it_stopped(under_way: Opened) -> None:
    told: list[int] = []
    pairs = under_way.pairs / "plain.jsonl"
    dataset = under_way.client.upload_pairs(pairs, request_id=OPEN_UPLOAD, on_progress=told.append)
    written = {one["display_name"]: one["fingerprint"] for one in under_way.expected["kept"]["datasets"]}
    assert dataset.fingerprint == written["plain.jsonl"]
    assert told[0] > 8
