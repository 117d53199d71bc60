"""Lesson 0 on the page: what length alone says, and what is left of the raw findings once it is controlled for."""

from __future__ import annotations

from assay_server import figures
from assay_server.audit.findings import ViewKind
from assay_server.audit.length import Direction
from assay_server.jobs.audits.card_words import controlled_words
from assay_server.jobs.audits.types import HypothesisRow, LengthSummary
from assay_server.report.markup import Html, el
from assay_server.report.model import Report, View
from assay_server.report.payload import HYPOTHESES
from assay_server.report.wording import arrow, concept_title, link

STANDING = 0.1  # share of the raw findings that stand unchanged, up to which a dataset's lesson is called length
NOT_NOTHING = (
    "Nothing found is not nothing taught: a dataset can shift a model without a pair that shows it. Over one published DPO, "
    "sycophantic agreement rose from 12% to 32%, and no pair shows it."
)


def lesson_zero(report: Report) -> list[Html]:
    """Length as the first item of the page; and where it is the lesson, the raw order beside the controlled one."""
    length = report.info.length
    if length is None or not length.pairs:
        return []
    if not mostly_length(report):
        if length.direction is not Direction.NEITHER and not length.reason:
            return []  # the first card tells it
        return [el("p", el("strong", "Lesson 0, length: "), length_words(length), class_="aside")]
    longer = length.direction is Direction.LONGER
    lede = (
        f"First of all, {figures.plural(length.pairs, 'pair')} teach length: {'longer' if longer else 'shorter'} responses win."
    )
    parts = [el("p", lede, class_="lede"), el("p", el("strong", "Lesson 0, length: "), length_words(length))]
    if report.raw_first:
        before = f"Before {controlled_words(report.info.settings)} is controlled for, the strongest concepts over all pairs are:"
        parts += [el("p", before, class_="aside"), el("ul", *[_raw(report, row) for row in report.raw_first], class_="lessons")]
    return parts


def length_words(length: LengthSummary) -> str:
    """Direction, ratio, accuracy and AUC, in sentences."""
    if length.reason:
        return f"lengths could not be compared: {length.reason}."
    side = {Direction.LONGER: "longer", Direction.SHORTER: "shorter", Direction.NEITHER: "neither longer nor shorter"}
    counts = f"longer in {figures.share(length.longer, 1)} of the pairs, shorter in {figures.share(length.shorter, 1)}"
    first = f"chosen responses are {side[length.direction]} ({counts}, p = {figures.probability(length.p)})"
    ratio = f"the median ratio of tokens is {length.ratio:.2f} [{length.ratio_low:.2f}, {length.ratio_high:.2f}]"
    right = f"Taking the longer response gets {figures.share(length.accuracy, 1)} of the preferences right"
    return (
        f"{first}; {ratio}. {right}; the AUC of length alone is {length.auc:.3f} [{length.auc_low:.3f}, {length.auc_high:.3f}]."
    )


def mostly_length(report: Report) -> bool:
    """Whether length tells the sides apart and hardly any raw finding over all pairs stands once it is controlled for."""
    length = report.info.length
    views = [view.summary for view in report.views if view.kind is ViewKind.GLOBAL]
    if length is None or length.direction is Direction.NEITHER or not views or not judged(report.views):
        return False
    return views[0].findings_raw > 0 and views[0].unchanged <= STANDING * views[0].findings_raw


def judged(views: tuple[View, ...] | list[View]) -> bool:
    """Whether raw findings were judged: in older audits, and where nothing could be controlled for, none was."""
    return any(view.summary.explained + view.summary.weakened + view.summary.unchanged for view in views)


def verdict_words(report: Report, views: list[View], words: str) -> tuple[str, str]:
    """What control does to the raw findings, and how much information it leaves."""
    explained, weakened, unchanged = (
        sum(getattr(view.summary, one) for view in views) for one in ("explained", "weakened", "unchanged")
    )
    raw = figures.plural(sum(view.summary.findings_raw for view in views), "raw finding")
    verb = "explain" if " and " in words else "explains"
    first = (
        f"Of {raw}, {words} {verb} {figures.count(explained)}, {figures.count(unchanged)} "
        f"{'stands' if unchanged == 1 else 'stand'} unchanged, and {figures.count(weakened)} "
        f"{'is' if weakened == 1 else 'are'} weaker or undecided."
    )
    left = report.info.length.information_left if report.info.length else None
    if left is None:
        return first, ""
    worth = figures.count(round(left * report.usable_pairs))
    return first, (
        f" The control leaves {figures.share(left, 1)} of the information: the tests are about as sure as those of {worth} pairs "
        "without it, so a finding that no longer passes is not thereby explained."
    )


def _raw(report: Report, row: HypothesisRow) -> Html:
    kept = {item.name for view in report.views for item in view.hypotheses[:HYPOTHESES]}
    title = link(row) if row.name in kept else el("bdi", concept_title(row.concept))
    left = "not testable" if row.effect.reason else figures.signed(row.effect.estimate)
    figure = el("span", f"{figures.signed(row.raw.estimate)} raw, {left} controlled", class_="num")
    return el("li", arrow(row, row.raw), " ", el("span", title, class_="what"), " ", figure)
