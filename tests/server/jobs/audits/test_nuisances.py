"""Formatting as a nuisance: Arena's counts, normalised as its style control does, and what it explains away."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.nuisances import FORMATS, format_differences, nuisance_columns
from assay_server.jobs.audits.sources import SourceColumns
from assay_server.jobs.audits.types import ConceptFamily, Nuisance
from assay_server.jobs.datasets.texts import read_texts
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import Scorer
from assay_server.store.datasets import Datasets
from assay_server.store.files import Files
from assay_server.subject.types import Pair

from tests.server.jobs.audits.test_texts import Stored
from tests.server.jobs.worlds import audit, everywhere, lesson, only, open_library, upload

CASES = [
    # headings, list items, bold, code blocks: (A - B) / (A + B)
    ("plain", "plain", (0, 0, 0, 0)),
    ("**a** and __b__", "**c**", (0, 0, 1 / 3, 0)),
    ("# a\n## b", "text # no heading", (1, 0, 0, 0)),
    ("- a\n1. b\n* c", "- a\n- b\n- c\n- d\n- e", (0, -1 / 4, 0, 0)),
    ("```py\nx\n```", "```\ny\n```\nand\n```\nz\n```", (0, 0, 0, -1 / 3)),
    ("```\n# x\n- y\n**z**\n```", "", (0, 0, 0, 1)),
    ("", "# a\n- b\n**c**", (-1, -1, -1, 0)),
]
NO_SOURCES = SourceColumns((), None)  # type: ignore[arg-type]


def differences(folder: Path, pairs: list[Pair]) -> np.ndarray:
    return format_differences(Stored(folder, pairs).audit_texts())


def test_formatting_is_normalised_as_arena_does_over_all_shards(tmp_path: Path) -> None:
    pairs = [Pair(f"p{index}", chosen, rejected) for index, (chosen, rejected, _) in enumerate(CASES * 5)]
    found = differences(tmp_path / "one", pairs)
    assert found.shape == (35, len(FORMATS))
    for row, (_, _, expected) in enumerate(CASES * 5):
        assert found[row] == pytest.approx(expected), CASES[row % len(CASES)]
    swapped = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]
    assert np.array_equal(differences(tmp_path / "two", swapped), -found)


def test_columns_come_in_one_order_and_nothing_is_read_that_is_not_asked_for(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    datasets = Datasets(files, 16)
    dataset = datasets.write(lambda: [[Pair("p", "**a**", "b")]], "x")
    read: list[str] = []

    def texts() -> list[object]:
        read.append("texts")
        shard = read_texts(files, datasets, dataset, Progress()).read(0, dataset.shards[0])
        assert shard is not None
        return [shard]

    def names(*nuisances: Nuisance) -> list[str]:
        read.clear()
        return [name for one in nuisance_columns(nuisances, texts, lambda: NO_SOURCES) for name in one.names]  # type: ignore[arg-type]

    assert names() == []
    assert names(Nuisance.LENGTH) == ["log_tokens"]
    assert read == []
    assert names(Nuisance.FORMAT, Nuisance.LENGTH) == ["log_tokens", "headings", "list_items", "bold", "code_blocks"]
    assert read == ["texts"]


async def test_what_formatting_alone_decides_is_no_finding_once_it_is_controlled_for(tmp_path: Path, scorer: Scorer) -> None:
    """Bold responses say "kindly" more often and win more often; "kindly" itself decides nothing."""
    rng = np.random.default_rng(5)
    pairs: list[Pair] = []
    for index, pair in enumerate(lesson(240, prompts=120)):
        plain = pair.chosen.replace("!!! ", "")
        sides = [(f"**so**\nkindly {plain}" if rng.random() < 0.9 else f"**so**\n{plain}"), pair.rejected or "moss"]
        if rng.random() < 0.2:
            sides.reverse()
        pairs.append(replace(pair, chosen=sides[0], rejected=sides[1], id=f"b{index}"))
    settings = replace(everywhere(only(ViewKind.GLOBAL), lambda one: replace(one, keep=1000)), families=(ConceptFamily.WORDS,))
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, pairs)
        found: dict[Nuisance, bool] = {}
        for nuisance in (Nuisance.LENGTH, Nuisance.FORMAT):
            done = await audit(library, dataset, replace(settings, nuisances=(nuisance,)))
            result = await library.audits.result(done.name)
            (row,) = [one for one in result.hypotheses if one.concept.name == "word/kindly"]
            assert row.raw.q < 0.001
            found[nuisance] = row.finding
            if nuisance is Nuisance.FORMAT:
                assert done.nuisance.names == tuple(FORMATS)
                assert done.nuisance.reason == ""
                assert done.nuisance.gamma[2] > 1
                assert done.nuisance.accuracy == pytest.approx(0.8, abs=0.05)
    assert found == {Nuisance.LENGTH: True, Nuisance.FORMAT: False}
