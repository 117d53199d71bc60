"""Which model wrote which response: found in the metadata, tested in the global view, and controlled for where it is asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assay_server.audit.families import Family
from assay_server.audit.findings import ViewKind
from assay_server.errors import InvalidItem
from assay_server.jobs.audits.nuisances import MOST_SOURCES, provenance
from assay_server.jobs.audits.sources import SourceColumns, source_columns, source_keys
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, ConceptFamily, HypothesisRow, Nuisance
from assay_server.jobs.library import Library
from assay_server.scorer import Scorer
from assay_server.store.datasets import Datasets
from assay_server.store.files import Files
from assay_server.subject.types import Pair

from tests.server.jobs.worlds import QUICK, audit, everywhere, lesson, only, open_library, upload

SAE = (ConceptFamily.FEATURES, ConceptFamily.CLUSTERS)
GLOBAL = replace(everywhere(only(ViewKind.GLOBAL), lambda one: replace(one, keep=1000)), families=SAE)
KEYS = ("chosen_model", "rejected_model")


def written(folder: Path, writers: list[tuple[str, str]], keys: tuple[str, str] = KEYS) -> SourceColumns:
    """The columns of pairs written by (chosen's, rejected's) models."""
    datasets = Datasets(Files(str(folder)), 16)
    pairs = [Pair(f"p{index}", "a", "b", metadata=dict(zip(keys, two, strict=True))) for index, two in enumerate(writers)]
    return source_columns(datasets, datasets.write(lambda: [pairs], "x"))


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (["chosen_model", "rejected_model"], ("chosen_model", "rejected_model")),
        (["chosen-model", "rejected-model", "topic"], ("chosen-model", "rejected-model")),
        (["model_chosen", "model_rejected"], ("model_chosen", "model_rejected")),
        (["chosen_source", "rejected_source"], ("chosen_source", "rejected_source")),
        (["source_chosen", "source_rejected"], ("source_chosen", "source_rejected")),
        (["chosenModel", "rejectedModel"], ("chosenModel", "rejectedModel")),
        (["modelChosen", "modelRejected"], ("modelChosen", "modelRejected")),
        (["chosen_source", "rejected_source", "model_chosen", "model_rejected"], ("model_chosen", "model_rejected")),
        (["chosen_score", "rejected_score", "chosen_length", "rejected_length"], None),
        (["chosen_model", "rejected_source"], None),
        (["chosen_model"], None),
        (["model", "source"], None),
        (["chosen_rejected_model"], None),
        ([], None),
    ],
)
def test_the_keys_that_name_the_writers_are_known_by_their_pattern(keys: list[str], found: tuple[str, str] | None) -> None:
    assert source_keys(keys) == source_keys(keys[::-1]) == found


def test_a_source_is_1_where_it_wrote_the_chosen_response_alone(tmp_path: Path) -> None:
    writers = [("a", "b"), ("b", "a"), ("a", "a"), ("a", "c"), ("", "a"), ("a", ""), ("", ""), *[("b", "a")] * 20]
    found = written(tmp_path, writers)
    assert found.names == ("source/a", "source/b", "source/c")
    first = [[1, -1, 0], [-1, 1, 0], [0, 0, 0], [1, 0, -1], [-1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert found.values.toarray().tolist() == [*first, *[[-1, 1, 0]] * 20]
    assert found.frequent(22).names == ("source/a", "source/b")
    assert found.frequent(23).names == ("source/a",)
    rows = np.array([3, 1])
    values, strengths = found.frequent(22).columns(rows)
    assert values.toarray().tolist() == strengths.toarray().tolist() == [[1, 0], [-1, 1]]


def test_which_sources_there_are_does_not_depend_on_the_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writers = [tuple(rng.choice(["m", "n", "o", "p"], 2).tolist()) for _ in range(100)]
    one = written(tmp_path / "one", writers)
    other = written(tmp_path / "two", [(rejected, chosen) for chosen, rejected in writers])
    assert other.names == one.names
    assert np.array_equal(other.values.toarray(), -one.values.toarray())


def test_without_keys_there_is_no_source(tmp_path: Path) -> None:
    found = written(tmp_path, [("1", "2")] * 3, ("chosen_score", "rejected_score"))
    assert (found.names, found.values.shape) == ((), (3, 0))


@pytest.mark.parametrize(("models", "columns"), [(2, 1), (5, 4), (9, 8), (30, MOST_SOURCES)])
def test_provenance_is_the_most_frequent_sources_but_one(tmp_path: Path, models: int, columns: int) -> None:
    writers = [(str(k), str((k + 1) % models)) for k in range(models) for _ in range(3)]
    sources = written(tmp_path, writers)
    found = provenance(sources)
    assert found.names == sources.names[:columns]
    assert np.array_equal(found.values, sources.values.toarray()[:, :columns])


def test_provenance_of_one_source_or_none(tmp_path: Path) -> None:
    assert provenance(written(tmp_path / "one", [("a", ""), ("", "a")])).values.tolist() == [[1.0], [-1.0]]
    assert provenance(written(tmp_path / "none", [("a", "a")] * 2)).values.shape == (2, 0)


def told(count: int, share: float, *, say: str = "kindly") -> list[Pair]:
    """Pairs of models "loud" and "calm"; loud's responses say a word, calm's do not, and loud is chosen in a share of them."""
    rng = np.random.default_rng(2)
    pairs: list[Pair] = []
    for pair in lesson(count, prompts=count):
        loud, calm = f"{say} {pair.chosen}", pair.rejected or "moss"
        sides, models = (loud, calm), ("loud", "calm")
        if rng.random() >= share:
            sides, models = sides[::-1], models[::-1]
        metadata = {"topic": pair.metadata["topic"], **dict(zip(KEYS, models, strict=True))}
        pairs.append(Pair(pair.prompt, sides[0], sides[1], pair.id, metadata))
    return pairs


async def rows(library: Library, info: AuditInfo) -> dict[str, HypothesisRow]:
    return {row.concept.name: row for row in (await library.audits.result(info.name)).hypotheses}


async def test_sources_are_tested_and_a_word_of_one_is_no_finding_once_they_are_controlled_for(
    tmp_path: Path, scorer: Scorer
) -> None:
    settings = replace(GLOBAL, families=(ConceptFamily.WORDS,), nuisances=())
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, told(200, 0.75))
        raw = await audit(library, dataset, settings)
        controlled = await audit(library, dataset, replace(settings, nuisances=(Nuisance.PROVENANCE,)))
        one, other = await rows(library, raw), await rows(library, controlled)
    assert one["source/loud"].finding
    assert one["source/loud"].raw.estimate == pytest.approx(0.5, abs=0.12)
    assert one["source/calm"].raw.estimate == -one["source/loud"].raw.estimate
    assert one["word/kindly"].finding
    assert {count.family: count.tests for count in raw.views[0].families}[Family.SOURCE] == 2
    assert controlled.nuisance.names == ("source/calm",)
    assert controlled.nuisance.reason == ""
    assert controlled.nuisance.gamma[0] == pytest.approx(-np.log(3), abs=0.35)
    assert other["word/kindly"].raw.q < 0.001
    assert not other["word/kindly"].finding
    assert not other["source/loud"].finding


async def test_a_model_that_is_always_chosen_is_found_and_cannot_be_controlled_for(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, told(60, 1.0))
        done = await audit(library, dataset, replace(GLOBAL, nuisances=(Nuisance.LENGTH, Nuisance.PROVENANCE)))
        found = await rows(library, done)
    loud = found["source/loud"]
    assert loud.raw.estimate == 1.0
    assert loud.raw.q < 1e-9
    assert done.nuisance.reason
    assert loud.controlled is not None
    assert loud.controlled.reason
    assert (loud.controlled.p, loud.finding) == (1.0, False)
    assert done.views[0].findings_raw > 0
    assert done.views[0].findings_controlled == 0


async def test_a_source_of_few_pairs_is_not_tested_and_none_is_in_clusters_of_pairs(tmp_path: Path, scorer: Scorer) -> None:
    first, *others = told(64, 0.5)
    rare = replace(first, metadata={**first.metadata, "chosen_model": "rare", "rejected_model": "calm"})
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, [rare, *others])
        settings = replace(QUICK, families=SAE, metadata_keys=("topic",))
        found = (await library.audits.result((await audit(library, dataset, settings)).name)).hypotheses
    about = [row for row in found if row.concept.name.startswith("source/")]
    assert {row.concept.name for row in about} == {"source/loud", "source/calm"}
    where = {row.condition.name for row in about if row.condition is not None}
    assert all(name.startswith("metadata/topic=") for name in where), "in no cluster of pairs"


async def test_provenance_without_names_is_refused_with_the_keys_looked_for(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, lesson(20))
        for ask in (
            library.audits.create(dataset, replace(GLOBAL, nuisances=(Nuisance.PROVENANCE,))),
            library.audits.test(dataset, "feature/3", None, AuditSettings(nuisances=(Nuisance.PROVENANCE,))),
        ):
            with pytest.raises(InvalidItem) as refused:
                await ask
            assert (refused.value.reason, refused.value.field) == ("SOURCES_UNKNOWN", "options.nuisances")
            assert "chosen_model and rejected_model" in refused.value.message
