"""What is held out and predicted of a dataset: however its pairs lie in shards, and about as many pairs as are asked for."""

import numpy as np
import pytest
from assay_server.audit.findings import AuditOptions
from assay_server.audit.passes import survey
from assay_server.jobs.audits import explaining
from assay_server.jobs.audits.explaining import explain

from tests.server.audit.small_datasets import Dataset, dataset, express_more, length_preferring, split

OPTIONS = AuditOptions(seed=3)


def styled(pairs: Dataset) -> np.ndarray:
    known = survey(pairs)
    return np.stack([np.cos(known.rows), np.sin(known.rows)], axis=1)


def test_the_blocks_of_a_dataset_are_the_same_however_it_was_cut() -> None:
    draws = np.random.default_rng(0)
    shard = length_preferring(express_more(dataset(1, 500), [76, 77], draws.random(500) < 0.6, draws), draws, 0.5)
    shard = express_more(shard, [78], draws.random(500) < 0.6, draws)
    whole, cut = split(shard, []), split(shard, [17, 18, 300])
    found = explain(whole, survey(whole), OPTIONS, styled(whole), others={"noise": draws.normal(size=(500, 3))})
    names = ["length", "style", "SAE findings", "SAE", "SAE over style", "noise", "noise over style"]
    assert [block.name for block in found.blocks] == names
    assert [block.columns for block in found.blocks[:2]] == [1, 3]
    auc = {block.name: block.auc for block in found.blocks}
    assert auc["SAE over style"] > auc["style"] + 0.05
    assert auc["noise"] < 0.56
    assert (found.pairs, found.note) == (500, "")
    again = explain(cut, survey(cut), OPTIONS, styled(cut))
    assert again.blocks == found.blocks[:5]


def test_of_many_pairs_whole_prompts_are_drawn_and_the_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "MOST_PAIRS", 200)
    monkeypatch.setattr(explaining, "MOST_COLUMNS", 30)
    shard = dataset(2, 500)
    pairs = split(shard, [100])
    found = explain(pairs, survey(pairs), OPTIONS, styled(pairs))
    assert 190 <= found.pairs <= 200
    assert found.note == (
        f"{found.pairs} of 500 pairs took part, whole prompts drawn by the seed; 50 features that fire least were left out."
    )
    assert {block.name: block.columns for block in found.blocks}["SAE"] <= 30
