"""What is held out and predicted of a dataset: however its pairs lie in shards, and about as many pairs as are asked for."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from assay_server.audit.auc import Estimate
from assay_server.audit.explained import sampled_pairs
from assay_server.audit.findings import AuditOptions
from assay_server.audit.matrices import Csr
from assay_server.audit.passes import survey
from assay_server.audit.shards import PairShard
from assay_server.jobs.audits import explaining
from assay_server.jobs.audits.explaining import explain
from assay_server.store.controls import ControlShard, Firings

from tests.server.audit.small_datasets import Dataset, dataset, express_more, length_preferring, split

OPTIONS = AuditOptions(seed=3)


def styled(pairs: Dataset) -> np.ndarray:
    known = survey(pairs)
    return np.stack([np.cos(known.rows), np.sin(known.rows)], axis=1)


def described(rows: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(3 * rows), np.sin(5 * rows)], axis=1)


@dataclass(frozen=True)
class Firing(Firings):
    def take(self, rows: np.ndarray) -> "Firing":
        part = Csr((self.count, self.features, self.indptr), shape=(len(self.tokens), 80))[rows]
        return Firing(self.tokens[rows], part.indptr.astype(np.int64), part.indices.astype(np.int64), part.data)


def firings(shard: PairShard) -> list[Firing]:
    """What a shard's responses fire, as a control shard has it."""
    found: list[Firing] = []
    for side, freq in ((1, shard.freq_chosen), (2, shard.freq_rejected)):
        tokens = shard.tokens[:, side]
        count = np.maximum(1, np.rint(freq.data * np.repeat(tokens, np.diff(freq.indptr)))).astype(np.int64)
        found.append(Firing(tokens, freq.indptr.astype(np.int64), freq.indices.astype(np.int64), count))
    return found


def test_the_blocks_of_a_dataset_are_the_same_however_it_was_cut() -> None:
    draws = np.random.default_rng(0)
    shard = length_preferring(express_more(dataset(1, 500), [76, 77], draws.random(500) < 0.6, draws), draws, 0.5)
    shard = express_more(shard, [78], draws.random(500) < 0.6, draws)
    whole, cut = split(shard, []), split(shard, [17, 18, 300])
    found = explain(whole, survey(whole), OPTIONS, styled(whole), descriptors=described)
    names = ["length", "style", "descriptors", "SAE findings", "SAE findings + descriptors", "SAE", "SAE over style"]
    assert [block.name for block in found.blocks] == names
    assert [block.columns for block in found.blocks[:3]] == [1, 3, 2]
    assert found.blocks[4].columns == found.blocks[3].columns + 2
    auc = {block.name: block.auc for block in found.blocks}
    assert auc["SAE over style"] > auc["style"] + 0.05
    assert auc["descriptors"] < 0.56
    assert (found.pairs, found.note) == (500, "")
    again = explain(cut, survey(cut), OPTIONS, styled(cut), descriptors=described)
    assert again.blocks == found.blocks
    bare = explain(cut, survey(cut), OPTIONS, styled(cut))
    assert bare.blocks == tuple(block for block in found.blocks if "descriptors" not in block.name)
    assert found.over_random is None


def test_controls_are_read_of_some_pairs_and_every_block_is_fitted_on_these() -> None:
    draws = np.random.default_rng(5)
    shard = express_more(dataset(4, 500), [76, 77, 78], draws.random(500) < 0.6, draws)
    pairs = split(shard, [200])
    known = survey(pairs)
    some = np.flatnonzero(sampled_pairs(known.prompts, 300, 3))
    own = [part.take(some) for part in firings(shard)]
    # The control's dictionary fires as the SAE does, so that it has to predict the same.
    dense = (shard.freq_chosen - shard.freq_rejected)[some].toarray().astype(np.float32)
    controls = [
        ControlShard(some[part], dense[part], own[0].take(part), own[1].take(part))
        for part in np.split(np.arange(len(some)), [99])
    ]
    found = explain(pairs, known, replace(OPTIONS, tau=0.0), styled(pairs), controls=controls)
    assert (found.pairs, found.note) == (len(some), f"{len(some)} of 500 pairs took part, whole prompts drawn by the seed.")
    block = {one.name: one for one in found.blocks}
    assert list(block)[-4:] == ["dense", "dense over style", "random dictionary", "random dictionary over style"]
    assert block["random dictionary"].auc == block["SAE"].auc > 0.6
    assert block["random dictionary over style"].auc == block["SAE over style"].auc
    assert found.over_random == Estimate(0.0, 0.0, 0.0)
    assert block["dense"].columns == 80
    assert block["dense"].auc > 0.6


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
