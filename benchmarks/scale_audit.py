"""One audit of a synthetic dataset as the server runs it, from a data directory: what it takes, phase by phase.

``prepare`` writes pairs and features by the store's own classes, ``measure`` reads the texts in worker processes and runs the
handler of the "audit" operation with its defaults, all families of concepts and one metadata key. Nothing is scored, and nothing
is left out. Both are run in processes of their own.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import Pool
from pathlib import Path
from typing import Any
from unittest.mock import patch

from assay_server.audit.findings import AuditOptions
from assay_server.audit.watch import Watch
from assay_server.jobs.audits import run as audit_run
from assay_server.jobs.audits import texts as audit_texts
from assay_server.jobs.audits.concepts import concept_set
from assay_server.jobs.audits.files import AuditFiles
from assay_server.jobs.audits.run import AuditRunner
from assay_server.jobs.audits.snapshots import snapshot_of, to_record
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, AuditState
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.jobs.datasets.texts import read_texts
from assay_server.jobs.operations.progress import Progress
from assay_server.store.clusters import Cluster
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import Features, ShardCost
from assay_server.store.files import Files
from assay_server.store.text_worker import TextWorker
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import Pair, SubjectInfo

from benchmarks.synthetic import FEATURES, SHARD, blocks_of, drawn
from benchmarks.synthetic_texts import pairs_of

INFO = SubjectInfo(
    model_id="synthetic",
    model_fingerprint="0" * 64,
    model_architecture="none",
    tokenizer_fingerprint="1" * 64,
    template_fingerprint="2" * 64,
    hook="blocks.0",
    hook_module="blocks.0",
    blocks_run=1,
    blocks_total=1,
    d_in=16,
    d_sae=FEATURES,
    sae_architecture="topk",
    sae_id="synthetic",
    sae_fingerprint="3" * 64,
    dtype="float32",
    device="cpu",
    context_tokens=8192,
    explained_variance=0.9,
    mean_l0=64.0,
    calibration_tokens=0,
)
UNREADABLE = 997  # one pair of so many cannot be scored, as in real datasets
AUDIT = "audits/scale"


def prepare(folder: Path, pairs: int, seed: int) -> None:
    """Write the dataset and its features, where they are not there yet."""
    done = folder / "prepared.json"
    if done.exists():
        return
    files = Files(str(folder))
    store = Datasets(files, SHARD)
    sizes = [min(SHARD, pairs - first) for first in range(0, pairs, SHARD)]
    with Pool(os.cpu_count()) as pool:
        texts = pool.starmap(_texts, [(number, size, seed) for number, size in enumerate(sizes)], chunksize=1)
        dataset = store.write(lambda: iter(texts), "synthetic")
        shards = [(folder, dataset, number, size, seed, texts[number]) for number, size in enumerate(sizes)]
        nonzeros = sum(pool.starmap(_write_features, shards, chunksize=1))
    clusters = [Cluster(k, tuple(members)) for k, members in enumerate(blocks_of(seed).tolist())]
    record = to_record(snapshot_of(concept_set(FEATURES, clusters=clusters)))
    AuditFiles(files).write_concepts(AUDIT, record)
    words = sum(len(text.split()) for shard in texts for pair in shard for text in _texts_of(pair))
    done.write_text(json.dumps({"dataset": dataset.id, "nonzeros": nonzeros, "words": words}))


def measure(folder: Path, pairs: int, seed: int) -> dict[str, Any]:
    """The text scan and the audit, measured: seconds in all and of the processor in every phase, and peak memory."""
    prepared: dict[str, Any] = json.loads((folder / "prepared.json").read_text())
    files = Files(str(folder))
    files.delete_tree("texts")
    store = Datasets(files, SHARD)
    dataset = store.get(prepared["dataset"])
    phases = Phases()
    workers: list[float] = []
    with patch.object(TextWorker, "close", _told_of_peak(TextWorker.close, workers)):
        read_texts(files, store, dataset, Progress())
    phases.mark("text scan")
    scan = phases.spent.pop("text scan")
    with phases.watched():
        info = asyncio.run(_audit(files, store, dataset, seed))
    phases.mark("writing")
    seconds, processor = (sum(getattr(one, name) for one in phases.spent.values()) for name in ("seconds", "processor"))
    return {
        "pairs": pairs,
        "nonzeros": prepared["nonzeros"],
        "words": prepared["words"],
        "seconds": seconds + scan.seconds,
        "processor_seconds": processor + scan.processor,
        "scan_seconds": scan.seconds,
        "scan_processor_seconds": scan.processor,
        "scan_peak_gib": scan.peak_gib,
        "workers": len(workers),
        "worker_peak_gib": max(workers, default=0.0),
        "peak_gib": max(one.peak_gib for one in (scan, *phases.spent.values())),
        "load": os.getloadavg()[0],
        "phases": {name: one.shown() for name, one in phases.spent.items()},
        "tests": {view.view.value: view.tests for view in info.views},
        "findings": {view.view.value: view.findings_controlled for view in info.views},
        "lessons": {view.view.value: view.lessons for view in info.views},
        "conditions": {view.view.value: view.conditions for view in info.views},
        "names": len(AuditFiles(files).names(AUDIT)),
        "fingerprint": info.result_fingerprint,
        "reasons": {view.view.value: view.reason for view in info.views if view.reason},
    }


@dataclass
class Spent:
    """What a phase took; its peak of memory is the process's own while it ran."""

    seconds: float = 0.0
    processor: float = 0.0
    peak_gib: float = 0.0

    def shown(self) -> dict[str, float]:
        """Rounded, for a file."""
        return {"seconds": round(self.seconds, 2), "processor": round(self.processor, 2), "peak_gib": round(self.peak_gib, 3)}


def _clocks() -> tuple[float, float]:
    """Seconds on the wall, and of the processor with ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


@dataclass
class Phases:
    """Time and memory between marks, added up by name. A mark names what lies before it."""

    spent: dict[str, Spent] = field(default_factory=dict)
    _last: tuple[float, float] = field(default_factory=_clocks)

    def mark(self, name: str) -> None:
        """What was done since the last mark was this."""
        now, peak = _clocks(), _peak_gib()
        one = self.spent.setdefault(name, Spent())
        one.seconds += now[0] - self._last[0]
        one.processor += now[1] - self._last[1]
        one.peak_gib = max(one.peak_gib, peak)
        self._last = now
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew

    def watched(self) -> ExitStack:
        """Marks the steps of an audit for as long as it is open."""
        stack = ExitStack()
        texts = audit_texts.AuditTexts
        for owner, step, label, before in (
            (texts, "columns", "text columns", "texts, read again"),
            (audit_run, "metadata_groups", "conditions of metadata", "sources"),
            (audit_run, "survey", "survey", "shards found"),
            (texts, "odds", "log-odds of words", "features that fire"),
            (audit_run, "run_views", "lessons", "concepts"),
            (audit_run, "explain", "explained", "formatting"),
            (audit_run, "dataset_names", "names", "fingerprint"),
        ):
            stack.enter_context(patch.object(owner, step, self._marking(getattr(owner, step), label, before)))
        stack.enter_context(patch.object(audit_run, "Watch", self._watch))
        return stack

    def _marking(self, step: Callable[..., Any], label: str, before: str) -> Callable[..., Any]:
        @functools.wraps(step)
        def marked(*args: Any, **named: Any) -> Any:
            self.mark(before)
            found = step(*args, **named)
            self.mark(label)
            return found

        return marked

    def _watch(self, progress: Callable[[str, int, int], None], check: Callable[[], None]) -> Watch:
        def told(phase: str, done: int, total: int) -> None:
            self.mark(phase)
            progress(phase, done, total)

        return Watch(told, check)


class _NothingToScore:
    """A scorer for a dataset whose features are all stored."""

    info = INFO

    async def score(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("every pair was scored before")

    encode_tokens = score


async def _audit(files: Files, store: Datasets, dataset: Dataset, seed: int) -> AuditInfo:
    audits = AuditFiles(files)
    settings = AuditSettings(AuditOptions(seed=seed), metadata_keys=("topic",))
    name = f"datasets/{dataset.id}"
    audits.write(AuditInfo(AUDIT, name, "scale", AuditState.RUNNING, settings, SubjectRef.of(INFO), time.time()))
    reader = DatasetReader(files, store, _NothingToScore(), ScoringOptions())
    await AuditRunner(audits, store, reader, INFO).run({"audit": AUDIT}, Progress())
    return audits.read(AUDIT)


def _texts(number: int, pairs: int, seed: int) -> list[Pair]:
    return pairs_of(drawn(number, pairs, seed), seed)


def _write_features(folder: Path, dataset: Dataset, number: int, pairs: int, seed: int, texts: list[Pair]) -> int:
    shard = drawn(number, pairs, seed)
    outcomes = [shard.pooled(k) if row % UNREADABLE else "TOO_LONG" for k, row in enumerate(shard.rows.tolist())]
    Features(Files(str(folder)), dataset.id, INFO).write(number, dataset.shards[number], texts, outcomes, ShardCost())
    return shard.nonzeros


def _texts_of(pair: Pair) -> Iterator[str]:
    yield from (pair.chosen, pair.rejected)
    yield from () if isinstance(pair.prompt, str) else (turn.content for turn in pair.prompt)


def _told_of_peak(close: Callable[[Any], None], peaks: list[float]) -> Callable[[Any], None]:
    """Notes a worker's peak before it ends: what the kernel says of ended children counts the parent that they came from."""

    def closing(worker: Any) -> None:
        peaks.append(_peak_gib(worker._process.pid))
        close(worker)

    return closing


def _peak_gib(process: int | str = "self") -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 2**20 if found else 0.0
