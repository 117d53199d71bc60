"""Controls of a real audit: read through the device of a real tiny subject, stored by shard, and never read twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.errors import Cancelled
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, ConceptFamily
from assay_server.jobs.datasets import controls
from assay_server.jobs.datasets.controls import drawn_rows, read_controls
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import Scorer
from assay_server.store.datasets import Datasets
from assay_server.store.features import Features
from assay_server.store.files import DataDir
from assay_server.subject.random_dictionary import RandomDictionary, SpansRead, read_spans
from assay_server.subject.sae import FeatureEncoder
from assay_server.subject.subject import Subject
from assay_server.subject.types import TokenTree

from tests.server.jobs.worlds import SHARD, audit, lesson, open_library, upload
from tests.support.tiny_subject import FEATURES, WIDTH, Watched
from tests.support.waiting import PATIENCE

PAIRS = lesson(150, prompts=120)
STATISTICS = AuditOptions(views=(ViewKind.GLOBAL,), max_t_flips=0, keep=10, evidence=0)
PLAIN = AuditSettings(STATISTICS, families=(ConceptFamily.FEATURES,))
CONTROLLED = replace(PLAIN, statistics=replace(STATISTICS, control_pairs=100))
ROWS = ["dense", "dense over style", "random dictionary", "random dictionary over style"]


def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pairs of every batch that is read for controls."""
    seen: list[int] = []

    def counted(subject: Subject, encoders: Sequence[FeatureEncoder], trees: Sequence[TokenTree]) -> SpansRead:
        seen.append(len(trees))
        return read_spans(subject, encoders, trees)

    monkeypatch.setattr(controls, "read_spans", counted)
    return seen


def names(info: AuditInfo) -> list[str]:
    assert info.explained is not None
    return [block.name for block in info.explained.blocks]


async def test_an_audit_with_controls_shows_their_rows_of_the_pairs_that_were_drawn(
    tmp_path: Path, watched: Watched, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = passes(monkeypatch)
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, PAIRS)
        bare = await audit(library, dataset, PLAIN)
        assert (seen, names(bare)[-1]) == ([], "SAE over style")
        assert bare.explained is not None
        assert bare.explained.over_random is None
        done = await audit(library, dataset, CONTROLLED)
        assert names(done) == [*names(bare), *ROWS]
        assert done.explained is not None
        assert done.explained.over_random is not None
        assert 90 <= done.explained.pairs == sum(seen) <= 100
        columns = {block.name: block.columns for block in done.explained.blocks}
        assert columns["dense"] == WIDTH
        assert 10 < columns["random dictionary"] <= FEATURES
        assert done.cost.tokens_read > 1000
        assert done.result_fingerprint == bare.result_fingerprint, "the tests are the same"
        assert (await library.audits.get(done.name)) == done, "what was found comes back from its file"
        before = sum(seen)
        again = await audit(library, dataset, replace(CONTROLLED, metadata_keys=("topic",)))
        assert again.explained == done.explained
        assert sum(seen) == before, "another audit of the same draw reads nothing again"
    assert watched.threads == {"assay-device"}


async def test_a_draw_of_too_few_prompts_reads_nothing_and_the_usual_sample_is_fitted_with_a_note(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = passes(monkeypatch)
    asked = replace(PLAIN, statistics=replace(STATISTICS, control_pairs=30))
    async with open_library(tmp_path, scorer) as library:
        done = await audit(library, await upload(library, PAIRS), asked)
    assert (seen, names(done)[-1]) == ([], "SAE over style")
    assert done.explained is not None
    assert done.explained.pairs > 100
    assert done.explained.note == (
        "controls were left out: 30 pairs hold fewer than 50 whole prompts of the draw, too few to hold some out."
    )


async def test_a_cancelled_reading_keeps_its_shards_and_goes_on_to_the_same_bits(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_library(tmp_path / "calm", scorer) as library:
        calm = await audit(library, await upload(library, PAIRS), CONTROLLED)
    seen = passes(monkeypatch)
    async with open_library(tmp_path / "stormy", scorer) as library:
        dataset = await upload(library, PAIRS)
        advance = Progress.advance

        def stop(progress: Progress, count: int) -> None:
            advance(progress, count)
            if progress.phase == "controls" and progress.done > 3 * SHARD:
                progress.stop()

        with monkeypatch.context() as patch:
            patch.setattr(Progress, "advance", stop)
            operation = await library.audits.create(dataset, CONTROLLED)
            end = await library.operations.wait(operation.name, PATIENCE)
        assert isinstance(end.error, Cancelled)
        first = sum(seen)
        assert 0 < first < 90
        done = await audit(library, dataset, CONTROLLED)
    assert done.explained == calm.explained
    assert calm.explained is not None
    assert sum(seen) < calm.explained.pairs + SHARD, "at most one shard was read again"


async def test_what_is_stored_is_what_a_reading_of_each_pair_alone_gives(
    tmp_path: Path, watched: Watched, scorer: Scorer
) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, PAIRS)
        await audit(library, dataset, PLAIN)
    with DataDir(str(tmp_path)) as data:
        store = Datasets(data.files, SHARD)
        stored = store.get(dataset.removeprefix("datasets/"))
        features = Features(data.files, stored.id, scorer.info)
        shards, cost = await read_controls(scorer, store, stored, features, 100, 5, Progress())
        rows = np.concatenate([shard.rows for shard in shards])
        assert np.array_equal(rows, drawn_rows(stored, features, 100, 5, Progress()))
        assert all(PAIRS[row].rejected for row in rows.tolist()), "unusable pairs are not drawn"
        again, nothing = await read_controls(scorer, store, stored, features, 100, 5, Progress())
    assert cost.tokens_read > 0
    assert (nothing.tokens_read, nothing.seconds) == (0, 0.0)
    dictionary = RandomDictionary(watched.real, 5)
    for shard, stored_again in zip(shards, again, strict=True):
        assert np.array_equal(shard.dense, stored_again.dense)
        for place, row in enumerate(shard.rows.tolist()):
            read = read_spans(watched.real, [dictionary], [watched.real.tokenizer.pair(PAIRS[row])])
            assert np.allclose(shard.dense[place], read.means[0] - read.means[1], atol=2e-3)
            for span, (side, other) in enumerate(((shard.chosen, stored_again.chosen), (shard.rejected, stored_again.rejected))):
                mine = slice(side.indptr[place], side.indptr[place + 1])
                fires = read.pooled[0].span == span
                assert side.tokens[place] == read.tokens[span]
                assert np.array_equal(side.features[mine], read.pooled[0].feature[fires])
                assert np.array_equal(other.count[mine], read.pooled[0].count[fires])
