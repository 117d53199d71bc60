"""Audits of descriptors and words: planted ones are found, by themselves and beside the SAE's, each family corrected apart."""

from dataclasses import replace
from pathlib import Path

import pytest
from assay_server.audit.families import Family, family_of
from assay_server.audit.findings import ViewKind
from assay_server.errors import InvalidItem, NotFound
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, ConceptFamily, HypothesisRow
from assay_server.jobs.library import Library
from assay_server.scorer import Scorer
from assay_server.subject.types import Pair

from tests.server.jobs.worlds import audit, everywhere, lesson, only, open_library, upload

SAE = (ConceptFamily.FEATURES, ConceptFamily.CLUSTERS)
GLOBAL = everywhere(only(ViewKind.GLOBAL), lambda one: replace(one, keep=1000))


def polite(count: int, *, flipped: bool = False) -> list[Pair]:
    """A lesson in exclamation marks, whose chosen responses also say "kindly" more often, in several places."""
    pairs: list[Pair] = []
    for index, pair in enumerate(lesson(count, prompts=60)):
        chosen = f"kindly {pair.chosen}" if index % 3 else pair.chosen
        rejected = f"{pair.rejected} kindly" if index % 7 == 0 and pair.rejected else pair.rejected
        pairs.append(replace(pair, chosen=chosen, rejected=rejected))
    return [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs] if flipped else pairs


async def rows(library: Library, info: AuditInfo) -> dict[str, HypothesisRow]:
    """The hypotheses of the global view by concept."""
    result = await library.audits.result(info.name)
    return {row.concept.name: row for row in result.hypotheses if row.view is ViewKind.GLOBAL}


async def test_planted_descriptors_and_words_are_found_each_family_corrected_apart(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, polite(160))
        both = await audit(library, dataset, GLOBAL)
        sae = await audit(library, dataset, replace(GLOBAL, families=SAE))
        text = await audit(library, dataset, replace(GLOBAL, families=(ConceptFamily.DESCRIPTORS,)))
        found, plain, alone = [await rows(library, one) for one in (both, sae, text)]
    for name in ("text/exclamation", "word/kindly"):
        assert found[name].finding, name
        assert found[name].raw.estimate > 0.2, name
    word = found["word/kindly"]
    assert word.log_odds is not None
    assert word.log_odds > 1
    assert word.log_odds_z is not None
    assert word.log_odds_z > 3
    assert all(row.log_odds is None for name, row in found.items() if not name.startswith("word/"))
    assert {family_of(name) for name in found} == {Family.SAE, Family.TEXT, Family.WORDS}
    # q-values of one family do not depend on the others.
    assert plain == {name: replace(row, **_places(plain[name], row)) for name, row in found.items() if name in plain}
    assert {family_of(name) for name in plain} == {Family.SAE}
    assert {family_of(name) for name in alone} == {Family.TEXT}
    for name, row in alone.items():
        assert (row.raw.p, row.raw.q, row.raw.q_by) == (found[name].raw.p, found[name].raw.q, found[name].raw.q_by), name
    (view,) = both.views
    assert [one.family for one in view.families] == [Family.SAE, Family.TEXT, Family.WORDS]
    assert sum(one.tests for one in view.families) == view.tests
    assert (
        sum(one.findings_controlled for one in view.families)
        == view.findings_controlled
        == sum(r.finding for r in found.values())
    )
    assert [one.family for one in sae.views[0].families] == [Family.SAE]
    assert sae.views[0].families[0] == view.families[0]


def _places(plain: HypothesisRow, row: HypothesisRow) -> dict[str, object]:
    """What depends on the other rows of a table: its places, lesson, label, and the family-wise p-value over all."""
    changed = {name: getattr(plain, name) for name in ("name", "rank", "rank_first_half", "rank_second_half", "rank_stable")}
    changed |= {name: getattr(plain, name) for name in ("lesson", "lesson_z", "lesson_stability", "concept")}
    for name in ("raw", "controlled"):
        effect = getattr(row, name)
        changed[name] = None if effect is None else replace(effect, p_max_t=getattr(plain, name).p_max_t)
    return changed


async def test_swapped_labels_turn_signs_and_nothing_else(tmp_path: Path, scorer: Scorer) -> None:
    settings = replace(GLOBAL, families=(ConceptFamily.DESCRIPTORS, ConceptFamily.WORDS), nuisances=())
    async with open_library(tmp_path, scorer) as library:
        one = await rows(library, await audit(library, await upload(library, polite(160), "a"), settings))
        other = await rows(library, await audit(library, await upload(library, polite(160, flipped=True), "b"), settings))
    assert set(one) == set(other)
    for name, row in one.items():
        assert other[name].raw.estimate == -row.raw.estimate, name
        assert other[name].raw.p == pytest.approx(row.raw.p), name
        assert other[name].finding == row.finding, name


async def test_texts_are_read_where_an_audit_needs_them_and_deleted_with_their_dataset(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, polite(60))
        stated = await library.audits.test(dataset, "feature/3", None, AuditSettings())
        await library.operations.wait(stated.name, 120)
        assert not (tmp_path / "texts").exists()
        done = await audit(library, dataset, GLOBAL)
        files = sorted((tmp_path / "texts").rglob("*.parquet"))
        assert len(files) == 4
        files[1].write_bytes(files[1].read_bytes()[:-5])
        files[3].unlink()
        again = await audit(library, dataset, GLOBAL)
        assert again.result_fingerprint == done.result_fingerprint
        assert len(list((tmp_path / "texts").rglob("*.parquet"))) == 4
        for one in await library.audits.all():
            await library.audits.delete(one.name)
        await library.datasets.delete(dataset)
        assert not list((tmp_path / "texts").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("concept", "sign"), [("text/exclamation", 1), ("text/more-exclamation", 1), ("word/Kindly", 1), ("text/table", 0)]
)
async def test_a_concept_of_the_text_can_be_stated(tmp_path: Path, scorer: Scorer, concept: str, sign: int) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, polite(120))
        operation = await library.audits.test(dataset, concept, None, AuditSettings())
        end = await library.operations.wait(operation.name, 120)
        assert end.error is None
        row = (await library.audits.hypothesis(end.response)).hypothesis
        assert row.concept.name == concept.lower()
        assert (row.raw.p < 0.01, row.raw.estimate > 0) == (sign > 0, sign > 0)


async def test_a_stated_descriptor_that_does_not_exist_is_refused(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, polite(40))
        for concept in ("text/nothing", "word/one two three four"):
            with pytest.raises(NotFound):
                await library.audits.test(dataset, concept, None, AuditSettings())


async def test_a_request_is_another_one_with_other_families(tmp_path: Path, scorer: Scorer) -> None:
    """Stored requests of releases that knew two families are known again; `tests/e2e/test_data_directory.py` holds that."""
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, polite(40))
        first = await library.audits.create(dataset, GLOBAL, request_id="a")
        assert (await library.audits.create(dataset, GLOBAL, request_id="a")).name == first.name
        for families in (SAE, (ConceptFamily.WORDS,)):
            with pytest.raises(InvalidItem) as refused:
                await library.audits.create(dataset, replace(GLOBAL, families=families), request_id="a")
            assert refused.value.reason == "REQUEST_ID_REUSED"
