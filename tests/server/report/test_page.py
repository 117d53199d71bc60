from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from assay_server.audit.findings import AuditOptions
from assay_server.audit.reason import Reason
from assay_server.jobs.audits.tables import hypothesis_id
from assay_server.jobs.audits.types import AuditSettings
from assay_server.report import Report, render_report

from tests.server.report import examples
from tests.server.report.test_markup import Reader, read

ALL = {
    "lively": examples.lively,
    "hostile": examples.hostile,
    "nothing": examples.nothing,
    "closest": examples.closest,
    "stated": examples.stated,
}


@pytest.fixture(params=sorted(ALL))
def report(request: pytest.FixtureRequest) -> Report:
    return ALL[request.param]()


def inside(page: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag}(?: [^>]*)?>(.*?)</{tag}>", page, re.DOTALL)


def policy_of(page: Reader) -> dict[str, list[str]]:
    content = next(attrs["content"] for tag, attrs in page.tags if tag == "meta" and attrs.get("http-equiv"))
    assert content
    return {name: sources for name, *sources in (rule.split() for rule in content.split(";"))}


def test_the_policy_names_the_style_and_the_script_and_forbids_all_else(report: Report) -> None:
    page = render_report(report)
    policy = policy_of(read(page))
    digests = [
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in (inside(page, "style")[0], inside(page, "script")[-1])
    ]
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert (policy["style-src"], policy["script-src"]) == ([digests[0]], [digests[1]])
    assert set(policy) == {
        *("default-src", "base-uri", "form-action", "style-src", "script-src", "img-src"),
        "require-trusted-types-for",
    }


def test_nothing_of_the_data_becomes_an_element_or_a_handler(report: Report) -> None:
    page = read(render_report(report))
    tags = Counter(tag for tag, _ in page.tags)
    assert (tags["script"], tags["style"], tags["img"], tags["iframe"], tags["object"]) == (2, 1, 0, 0, 0)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on") or name == "style"]
    assert {attrs["href"] for tag, attrs in page.tags if tag == "link"} == {"data:,"}
    assert all((attrs["href"] or "").startswith("#") for tag, attrs in page.tags if tag == "a")
    assert not [attrs for _, attrs in page.tags if "src" in attrs]


def test_the_page_is_utf8_without_control_or_reordering_characters(report: Report) -> None:
    page = render_report(report)
    page.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)


def test_our_own_script_and_style_ask_for_nothing_and_make_no_markup() -> None:
    page = render_report(examples.lively(rows=20))
    script, style = inside(page, "script")[-1], inside(page, "style")[0]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp|WebSocket|import\(|Function\(", script
    )
    assert not re.search(r"url\(|@import|@font-face", style)
    assert "http" not in script


def test_fragments_of_the_page_lead_somewhere() -> None:
    page = read(render_report(examples.lively()))
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    hypotheses = {f"#{hypothesis_id(item.view, item.rank)}" for view in examples.lively().views for item in view.hypotheses}
    links = {str(attrs["href"]) for tag, attrs in page.tags if tag == "a"}
    assert {link for link in links if link not in hypotheses} <= {f"#{id_}" for id_ in ids}


def test_three_thousand_hypotheses_with_long_pairs_stay_under_five_megabytes() -> None:
    assert len(render_report(examples.huge()).encode()) < 5_000_000


def test_megabytes_of_names_and_texts_stay_small() -> None:
    report = examples.hostile()
    big = replace(
        report,
        info=replace(report.info, display_name="t" * 10**6, settings=AuditSettings(metadata_keys=("v" * 10**6,))),
        dataset=replace(report.dataset, display_name="d" * 10**6),
    )
    assert len(render_report(big).encode()) < 1_000_000


@pytest.mark.parametrize("reason", [Reason.ONE_PROMPT, Reason.NO_PAIRS, Reason.CONSTANT, Reason.NO_DIFFERENCE])
def test_a_view_without_tests_says_why(reason: Reason) -> None:
    text = read(render_report(examples.nothing(reason.text))).text
    assert text.count(f"Nothing to show. {reason.text[0].upper()}{reason.text[1:]}.") == 3


def test_what_was_corrected_for_is_said_with_its_numbers() -> None:
    text = read(render_report(examples.lively())).text
    assert "5,542 tests in 3 views." in text
    assert "A finding has q ≤ 0.05" in text
    assert "from 1,024 random sign flips (max-T)" in text
    assert "it is right for 60% of the pairs" in text
    report = examples.lively(rows=20)
    by = replace(report, info=replace(report.info, settings=AuditSettings(AuditOptions(yekutieli=True))))
    assert "Benjamini and Yekutieli" in read(render_report(by)).text


def test_a_stated_hypothesis_is_said_to_be_corrected_for_nothing() -> None:
    text = read(render_report(examples.stated())).text
    assert "its q-value is its p-value" in text
    assert "Nothing was controlled for, by choice." in text


def test_cost_options_and_decisions_are_there() -> None:
    text = read(render_report(examples.lively())).text
    for part in (
        "401,882",
        "412 (18%)",
        "3 min 24 s",
        "cpu (float32, 2 threads)",
        "Explain away, strength 1",
        "Nobody asked for bold text.",
    ):
        assert part in text


def test_the_same_report_is_the_same_page_to_the_byte() -> None:
    assert render_report(examples.lively()) == render_report(examples.lively())


def test_the_report_needs_no_transport_and_no_model() -> None:
    code = (
        "import sys, assay_server.report; print([m for m in ('grpc', 'google.protobuf', 'torch', 'redis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
