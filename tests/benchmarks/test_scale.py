"""The measurement of scale: its synthetic data is what it says, and its figures follow from the runs."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scale, synthetic


def run(pairs: int, seconds: float, gib: float) -> dict[str, float]:
    return {"pairs": pairs, "nonzeros": 970 * pairs, "seconds": seconds, "processor_seconds": seconds, "peak_gib": gib}


def test_a_smaller_dataset_is_the_start_of_a_larger_one_and_a_span_fires_a_few_hundred_features(tmp_path: Path) -> None:
    small = synthetic.write(tmp_path, 100, seed=1)
    (first,) = small
    whole = next(islice(iter(synthetic.write(tmp_path, 2_048, seed=1)), 1))
    assert first.freq_chosen.shape == (100, synthetic.FEATURES)
    assert (abs(first.freq_chosen - whole.freq_chosen[:100])).nnz == 0
    assert np.array_equal(first.prompts, whole.prompts[:100])
    fired = whole.freq_chosen.nnz / 2_048
    assert 200 < fired < 500
    assert small.nonzeros == sum(span.nnz for span in (first.freq_chosen, first.freq_rejected, first.freq_prompt))
    assert whole.freq_chosen.data.max() <= 1
    rates = np.sort(np.bincount(whole.freq_chosen.indices, minlength=synthetic.FEATURES))[::-1] / 2_048
    assert rates[0] > 0.5
    assert rates[20_000] < 0.01
    longer = whole.nuisance[:, 0] > 0.5
    assert np.diff(whole.freq_chosen.indptr)[longer].mean() > np.diff(whole.freq_rejected.indptr)[longer].mean()


def test_features_of_a_block_fire_together(tmp_path: Path) -> None:
    (shard,) = synthetic.write(tmp_path, 2_048, seed=2)
    members = synthetic.concepts(2).members
    block = members[:, [synthetic.FEATURES]].toarray()[:, 0] == 1
    assert block.sum() == synthetic.CLUSTER_FEATURES
    fires = shard.freq_chosen[:, np.flatnonzero(block)].toarray() > 0
    together = np.corrcoef(fires.T.astype(float))[np.triu_indices(synthetic.CLUSTER_FEATURES, 1)]
    assert together.min() > 0.1


def test_the_exponent_is_the_slope_of_logs() -> None:
    runs = [run(size, 3e-4 * size**1.05, 2.0) for size in (1_000, 2_000, 4_000, 8_000)]
    assert scale.exponent(runs, "seconds") == pytest.approx(1.05)
    assert scale.exponent(runs, "peak_gib") == pytest.approx(0.0, abs=1e-9)


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


def test_notes_name_the_sizes_that_did_not_end() -> None:
    assert "260,000" in scale.notes([run(130_000, 500, 4)], [130_000, 260_000], "The machine was shared.")
    assert "Not run" not in scale.notes([run(1_000, 5, 1)], [1_000], "")
