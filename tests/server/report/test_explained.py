from __future__ import annotations

from dataclasses import replace

from assay_server.audit.auc import Estimate
from assay_server.audit.explained import Explained, ExplainedBlock
from assay_server.report.explained import TITLE, explained_section
from assay_server.report.markup import join
from assay_server.report.model import Report
from assay_server.report.page import render_report

from tests.server.report import examples
from tests.server.report.test_markup import read


def with_shares(found: Explained | None) -> Report:
    report = examples.lively(20)
    return replace(report, info=replace(report.info, explained=found))


def words(report: Report) -> str:
    return " ".join(read(join(explained_section(report))).text.split())


def test_every_block_is_a_row_with_its_interval_and_the_gain_over_style_comes_first() -> None:
    text = words(examples.lively(20))
    assert "The SAE adds +0.106 [+0.081, +0.132] to the AUC of style." in text
    assert "SAE over style0.702 [0.680, 0.724]columns 3,962" in text
    assert text.endswith("2 features that fire least were left out.")
    assert "nothing sure" not in text
    unsure = replace(examples.EXPLAINED, over_style=Estimate(0.01, -0.02, 0.04))
    assert "[−0.020, +0.040] to the AUC of style. The interval holds zero: nothing sure." in words(with_shares(unsure))


def test_the_page_has_the_section_and_its_link_where_anything_was_fitted() -> None:
    page = render_report(examples.lively(20))
    assert 'href="#explained"' in page
    assert TITLE in page
    bare = render_report(with_shares(None))
    assert 'id="explained"' not in bare
    assert 'href="#explained"' not in bare


def test_a_reason_why_nothing_was_fitted_is_said() -> None:
    assert "30 prompts are too few" in words(with_shares(Explained(note="30 prompts are too few")))


def test_controls_have_a_share_of_dense_and_a_sentence_and_without_them_the_page_says_how_to_get_them() -> None:
    text = words(examples.lively(20))
    assert "assay audit --controls" in text
    assert "Share" not in text
    found = replace(examples.EXPLAINED, note="controls were left out: too few prompts.")
    without = with_shares(found)
    statistics = replace(without.info.settings.statistics, control_pairs=30)
    asked = replace(without, info=replace(without.info, settings=replace(without.info.settings, statistics=statistics)))
    assert "a random dictionary.Controls were left out: too few prompts." in words(asked)
    shares = {"SAE": Estimate(0.95, 0.88, 1.04), "dense": Estimate(1.0, 1.0, 1.0)}
    blocks = (*examples.EXPLAINED.blocks, ExplainedBlock("dense", 576, 0.71, 0.68, 0.73))
    told = tuple(replace(block, share=shares.get(block.name)) for block in blocks)
    found = replace(examples.EXPLAINED, blocks=told, over_random=Estimate(0.02, -0.01, 0.05))
    text = words(with_shares(found))
    assert "assay audit --controls" not in text
    assert "never trained, the SAE's AUC is +0.020 [−0.010, +0.050]. The interval holds zero" in text
    assert "95% [88%, 104%]columns" in text
    assert "dense0.710 [0.680, 0.730]100% [100%, 100%]columns 576" in text
    assert "the share of it that a row explains" in text
    assert "not surely over one half" not in text
    unsure = words(with_shares(replace(found, blocks=(*examples.EXPLAINED.blocks, blocks[-1]))))
    assert "it is not surely over one half itself, so no row has a share of it." in unsure
    assert "the share of it that a row explains" not in unsure
    sure = words(with_shares(replace(found, over_random=Estimate(0.04, 0.01, 0.07))))
    assert "is +0.040 [+0.010, +0.070]." in sure
    assert "training the SAE helped" not in sure
