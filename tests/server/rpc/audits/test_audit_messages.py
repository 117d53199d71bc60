"""Audits and hypotheses on the wire: families of tests, and the log-odds of words."""

from dataclasses import replace

from assay_server.audit.families import Family, FamilyCount
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, AuditState, ViewSummary
from assay_server.rpc.audits import messages

from tests.support.fake_rows import SUBJECT, hypothesis_row


def test_a_view_tells_what_each_family_tested_and_found() -> None:
    counts = (FamilyCount(Family.TEXT, False, 80, 9, 7), FamilyCount(Family.WORDS, True, 300, 2, 0))
    view = ViewSummary(ViewKind.GLOBAL, 380, 11, 7, 80, 0, lessons=2, families=counts)
    info = AuditInfo("audits/a", "datasets/d", "", AuditState.DONE, AuditSettings(), SUBJECT, 0.0, (view,))
    (told,) = messages.audit(info).views
    assert (told.tests, told.findings_raw, told.findings_controlled, told.lessons) == (380, 11, 7, 2)
    assert [(one.title, one.given, one.tests, one.findings_raw, one.findings_controlled) for one in told.families] == [
        ("text descriptors", False, 80, 9, 7),
        ("words", True, 300, 2, 0),
    ]


def test_the_log_odds_of_a_word_are_told_and_those_of_other_concepts_are_unset() -> None:
    plain = hypothesis_row("audits/a", ViewKind.GLOBAL, 1)
    told = messages.hypothesis(plain)
    assert not told.HasField("log_odds")
    assert not told.HasField("log_odds_z")
    word = messages.hypothesis(replace(plain, log_odds=-0.75, log_odds_z=-3.5))
    assert (word.log_odds, word.log_odds_z) == (-0.75, -3.5)
