"""The measurement of scale: its synthetic data is what it says, and its figures follow from the runs."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay_server.jobs.datasets.texts import read_texts
from assay_server.jobs.operations.progress import Progress
from assay_server.store.datasets import Datasets
from assay_server.store.features import Features
from assay_server.store.files import Files
from assay_server.subject.types import SpanName

from benchmarks import scale, synthetic, synthetic_texts
from benchmarks.scale_audit import INFO, Phases, prepare

CHOSEN, REJECTED = SpanName.CHOSEN, SpanName.REJECTED


def run(pairs: int, seconds: float, gib: float) -> dict[str, Any]:
    phases = {"survey": {"processor": seconds / 4}, "lessons": {"processor": seconds / 2}}
    memory = {"peak_gib": gib, "scan_peak_gib": 0.5, "workers": 2, "worker_peak_gib": 0.3}
    scan = {"scan_processor_seconds": seconds / 4, "words": 400 * pairs}
    return {
        "pairs": pairs,
        "nonzeros": 970 * pairs,
        "seconds": seconds,
        "processor_seconds": seconds,
        "phases": phases,
        **memory,
        **scan,
    }


def test_a_smaller_dataset_is_the_start_of_a_larger_one_and_a_span_fires_a_few_hundred_features() -> None:
    small, whole = synthetic.drawn(1, 100, seed=1), synthetic.drawn(1, 2_048, seed=1)
    chosen = whole.spans[CHOSEN]
    assert (abs(small.spans[CHOSEN].count - chosen.count[:100])).nnz == 0
    assert np.array_equal(small.prompts, whole.prompts[:100])
    assert 200 < chosen.count.nnz / 2_048 < 500
    assert small.nonzeros == sum(span.count.nnz for span in small.spans.values())
    assert (chosen.count.data <= np.repeat(chosen.tokens, np.diff(chosen.count.indptr))).all()
    rates = np.sort(np.bincount(chosen.count.indices, minlength=synthetic.FEATURES))[::-1] / 2_048
    assert rates[0] > 0.5
    assert rates[20_000] < 0.01
    longer = chosen.tokens > 1.6 * whole.spans[REJECTED].tokens
    fired = [np.diff(whole.spans[side].count.indptr)[longer].mean() for side in (CHOSEN, REJECTED)]
    assert fired[0] > fired[1]


def test_features_of_a_block_fire_together_and_a_taught_one_is_mostly_in_the_chosen_response() -> None:
    shards = [synthetic.drawn(number, 2_048, seed=2) for number in range(2)]
    members = synthetic.blocks_of(2)
    fires = shards[0].spans[CHOSEN].count[:, members[0]].toarray() > 0
    together = np.corrcoef(fires.T.astype(float))[np.triu_indices(synthetic.CLUSTER_FEATURES, 1)]
    assert together.min() > 0.1
    taught = synthetic.CLUSTERS - 2  # the last one also stands for all that are rarer
    held = {
        side: sum(int((shard.spans[side].blocks == taught).any(axis=1).sum()) for shard in shards) for side in (CHOSEN, REJECTED)
    }
    assert held[CHOSEN] > 1.5 * held[REJECTED]


def test_texts_are_as_long_as_their_tokens_say_and_a_prompt_is_the_same_for_all_its_pairs() -> None:
    drawn = synthetic.drawn(0, 400, seed=3)
    pairs = synthetic_texts.pairs_of(drawn, 3)
    assert pairs == synthetic_texts.pairs_of(drawn, 3)
    assert pairs[1].prompt == pairs[0].prompt
    assert len({pair.prompt for pair in pairs}) == len(set(drawn.prompts.tolist()))
    words = np.array([len(pair.chosen.split()) for pair in pairs])
    assert 120 < words.mean() < 190
    assert np.corrcoef(words, drawn.spans[CHOSEN].tokens)[0, 1] > 0.95
    shares = [np.mean(["\n- " in text for text in side]) for side in ([p.chosen for p in pairs], [p.rejected for p in pairs])]
    assert shares[0] > shares[1] > 0.1


def test_the_store_holds_what_was_drawn_and_its_texts_can_be_read(tmp_path: Path) -> None:
    prepare(tmp_path, 60, 0)
    prepared = json.loads((tmp_path / "prepared.json").read_text())
    files = Files(str(tmp_path))
    store = Datasets(files, synthetic.SHARD)
    dataset = store.get(prepared["dataset"])
    shard = Features(files, dataset.id, INFO).read(0, dataset.shards[0])
    drawn = synthetic.drawn(0, 60, 0)
    assert shard is not None
    assert prepared["nonzeros"] == drawn.nonzeros
    chosen = drawn.spans[CHOSEN].count
    first = int(chosen.indptr[1])  # row 0 is one that could not be scored
    assert not shard.usable[0]
    assert shard.usable[1:].all()
    assert np.array_equal(shard.spans[CHOSEN].features, chosen.indices[first:])
    assert np.array_equal(shard.spans[CHOSEN].count, chosen.data[first:])
    texts = read_texts(files, store, dataset, Progress()).read(0, dataset.shards[0])
    assert texts is not None
    assert len(texts.words["chosen"].ends) == 60
    assert dataset.metadata_keys == ("topic",)


def test_a_mark_names_the_time_and_memory_that_lie_before_it() -> None:
    phases = Phases()
    held = np.ones(30_000_000)
    del held
    phases.mark("much")
    time.sleep(0.2)
    phases.mark("idle")
    assert phases.spent["much"].peak_gib > phases.spent["idle"].peak_gib + 0.15
    assert phases.spent["idle"].seconds >= 0.2 > phases.spent["idle"].processor


def test_the_exponent_is_the_slope_of_logs() -> None:
    runs = [run(size, 3e-4 * size**1.05, 2.0) for size in (1_000, 2_000, 4_000, 8_000)]
    assert scale.exponent(runs, lambda one: one["seconds"]) == pytest.approx(1.05)
    assert scale.exponent(runs, scale.peak_gib) == pytest.approx(0.0, abs=1e-9)
    assert scale.steps(runs) == [
        (name, share, pytest.approx(1.05)) for name, share in (("lessons", 0.5), ("survey", 0.25), ("text scan", 0.25))
    ]


def test_memory_counts_the_workers_beside_the_process_that_waits_for_them() -> None:
    assert scale.peak_gib(run(1_000, 10, 3.0)) == 3.0
    assert scale.peak_gib({**run(1_000, 10, 1.0), "worker_peak_gib": 0.6}) == pytest.approx(1.7)


def test_a_bar_of_the_full_size_is_not_met_by_smaller_ones() -> None:
    part = {metric.metric: metric for metric in scale.metrics([run(1_000, 10, 1), run(2_000, 20, 2)])}
    assert part["wall time of the largest run"].holds is False
    assert part["exponent of time in nonzeros"].holds is False
    sizes = [run(32_500, 125, 3), run(65_000, 250, 4), run(130_000, 500, 5), run(260_000, 1_000, 7)]
    full = {metric.metric: metric for metric in scale.metrics(sizes)}
    assert full["exponent of time in nonzeros"].holds is True
    assert full["wall time of the largest run"].holds is True
    assert full["peak memory of the largest run"].holds is True
    slow = {metric.metric: metric for metric in scale.metrics([run(130_000, 500, 4), run(260_000, 1_300, 9)])}
    assert slow["wall time of the largest run"].holds is False
    assert slow["peak memory of the largest run"].holds is False
    assert slow["exponent of time in nonzeros"].holds is False


def test_a_kept_run_of_one_seed_is_not_told_as_anothers(tmp_path: Path) -> None:
    folders = {scale.kept_in(str(tmp_path), pairs, seed) for pairs in (2_000, 10_000) for seed in (0, 1, 2)}
    assert len(folders) == 6
    assert tmp_path / "2000" in folders, "what was kept without a seed in its name was of seed 0"


def test_notes_name_the_sizes_that_did_not_end() -> None:
    assert "260,000" in scale.notes([run(130_000, 500, 4)], [130_000, 260_000], "The machine was shared.")
    assert "Not run" not in scale.notes([run(1_000, 5, 1)], [1_000], "")
