"""What an audit found, in words and tables; pure functions of its results.

A table holds one view's findings, strongest first. Effects are signed: + where chosen responses express the concept more. The
raw and the controlled effect stand side by side, each with its interval.
"""

import dataclasses
import textwrap
from collections.abc import Sequence, Set
from datetime import datetime
from enum import Enum
from typing import Any

from assay.audits import Audit, Nuisance, View, ViewSummary
from assay.hypotheses import ConceptRef, Condition, Decision, Effect, Evidence, Highlight, Hypothesis
from assay.tensors import Tensor

TITLES = {
    View.GLOBAL: "everywhere",
    View.FEATURE_CONDITIONED: "in kinds of pairs",
    View.PROMPT_CONDITIONED: "where the prompt is about something",
    View.STATED: "as stated",
}
LEGEND = (
    "effect: + where chosen responses express the concept more, with its interval; inside a condition, minus outside.\n"
    "q: corrected in its family, named conditions apart. stable: both halves of the data rank it near. No test uses labels.\n"
    "verdict: what control leaves of a raw finding (weakened: weaker, or undecided). carried by: share of the pairs that makes\n"
    "half of the effect. Scales: shares from -1 to 1; sd: standard deviations; log-odds: nats, for words, a scale of its own.\n"
    "Distinct lessons: each finding shown says what those above it leave unsaid; all of them by rank: --all."
)
_GAP = "  "
_LEAST_TEXT = 14  # characters that concept and condition keep on a narrow screen


def controlled_for(audit: Audit) -> str:
    """What effects are controlled for: "length", "length and format", or "" for nothing."""
    nuisances = audit.options.nuisances
    return "length" if nuisances is None else " and ".join(one.value for one in nuisances)


def summary_line(view: ViewSummary, audit: Audit) -> str:
    """What one view tested and found, and what control leaves of the raw findings."""
    title = f"{view.view.value.replace('_', '-') if view.view else 'unknown'} view, {TITLES.get(view.view or View.STATED, '')}"
    if view.reason:
        return f"{title}: nothing was tested. {view.reason}"
    tested = f"{title}: {view.tests:,} tests" + (f" under {view.conditions:,} conditions" if view.conditions else "")
    what = controlled_for(audit)
    if not what:
        return f"{tested}, {view.findings_raw:,} findings; nothing was controlled for"
    text = f"{tested}, {view.findings_raw:,} findings raw, {view.findings_controlled:,} once {what} is controlled for"
    if view.explained + view.weakened + view.unchanged:
        verb = "explain" if " and " in what else "explains"
        text += f" ({what} {verb} {view.explained:,}, leaves {view.unchanged:,} unchanged, {view.weakened:,} weaker or undecided)"
    return text + (f"; they come down to {lessons_text(view)}" if view.lessons else "")


def length_line(audit: Audit) -> str:
    """Lesson 0: what length alone says; "" where it was not looked at."""
    length = audit.length
    if length is None or not length.pairs:
        return ""
    if length.reason:
        return f"lesson 0, length: not comparable. {one_line(length.reason)}"
    which = length.direction.value if length.direction else "unknown"
    text = (
        f"lesson 0, length: chosen is {'neither longer nor shorter' if which == 'neither' else which} "
        f"(longer in {100 * length.longer:.0f}% of pairs, shorter in {100 * length.shorter:.0f}%), "
        f"median ratio {length.ratio:.2f} [{length.ratio_low:.2f}, {length.ratio_high:.2f}], "
        f"the longer one wins {100 * length.accuracy:.0f}%, AUC {length.auc:.3f} [{length.auc_low:.3f}, {length.auc_high:.3f}]"
    )
    if length.information_left is None or not controlled_for(audit):
        return text
    return f"{text}; control leaves {100 * length.information_left:.0f}% of the information"


def explained_lines(audit: Audit) -> list[str]:
    """How much of the preference is explained, as a small table; [] where nothing was fitted."""
    found = audit.explained
    if found is None:
        return []
    shares = any(one.share is not None for one in found.blocks)
    rows = [["explained by", "columns", "held-out AUC", *(["share of dense"] if shares else [])]]
    for one in found.blocks:
        share = "" if one.share is None else "{:.0%} [{:.0%}, {:.0%}]".format(*one.share)
        auc = f"{one.auc:.3f} [{one.low:.3f}, {one.high:.3f}]"
        rows.append([one.name, f"{one.columns:,}", auc, *([share] if shares else [])])
    lines = aligned(rows, left={0}) if found.blocks else []
    if found.over_style is not None:
        value, low, high = found.over_style
        lines.append(f"the SAE adds {value:+.3f} [{low:+.3f}, {high:+.3f}] to style")
    if found.over_random is not None:
        value, low, high = found.over_random
        lines.append(f"against a random dictionary the SAE is {value:+.3f} [{low:+.3f}, {high:+.3f}]")
    return [*lines, *([one_line(found.note)] if found.note else [])]


def note_lines(view: ViewSummary, *, width: int) -> list[str]:
    """Where a view differs from its request, in lines of `width` characters; none where it does not."""
    return textwrap.wrap(f"differs from the request: {one_line(view.note)}", width) if view.note else []


def lessons_text(view: ViewSummary) -> str:
    """How many distinct lessons the findings are."""
    return "1 distinct lesson" if view.lessons == 1 else f"{view.lessons:,} distinct lessons"


def table(found: Sequence[Hypothesis], *, width: int) -> str:
    """Findings as lines of `width` characters: labels are cut to fit, and on a narrow screen intervals are left out.

    Family, verdict, share of carrying pairs and log-odds are columns where they are known and the screen has room.
    """
    lines: list[str] = []
    for intervals, extras in ((True, True), (False, True), (False, False)):
        lines = _table_lines(found, width, intervals=intervals, extras=_extras(found) if extras else [])
        if all(len(line) <= width for line in lines):
            break
    return "\n".join(lines)


def _extras(found: Sequence[Hypothesis]) -> list[tuple[str, list[str]]]:
    """Columns that not every audit knows, each with its cells."""
    families = [one.concept.family for one in found]
    columns = [
        ("verdict", [one.length_verdict.value if one.length_verdict else "" for one in found]),
        ("carried by", ["" if one.carried_by is None else share(one.carried_by) for one in found]),
        ("log-odds (nats)", ["" if one.log_odds is None else f"{one.log_odds:+.2f}" for one in found]),
    ]
    known = [(head, cells) for head, cells in columns if any(cells)]
    return [("family", families), *known] if len(set(families)) > 1 else known


def share(value: float) -> str:
    """A share as a percentage."""
    return "<1%" if 0 < value < 0.005 else f"{100 * value:.0f}%"


def _table_lines(
    found: Sequence[Hypothesis], width: int, *, intervals: bool, extras: Sequence[tuple[str, list[str]]]
) -> list[str]:
    if not found:
        return []
    conditioned = any(one.condition is not None for one in found)
    controlled = any(one.controlled is not None for one in found)
    head = ["rank", "concept"]
    head += ["where", "inside/outside"] if conditioned else []
    unit = " (sd)" if any(one.view is View.PROMPT_CONDITIONED for one in found) else ""
    head += [f"raw effect{unit}"] + ([f"controlled{unit}"] if controlled else [])
    head += ["q", *(name for name, _ in extras), "stable", "id"]
    rows = [head]
    for at, one in enumerate(found):
        cells = [str(one.rank), concept_text(one.concept)]
        if conditioned:
            cells += [condition_text(one.condition), f"{one.inside:,}/{one.outside:,}"]
        cells.append(effect_text(one.raw, interval=intervals))
        if controlled:
            cells.append(effect_text(one.controlled, interval=intervals) if one.controlled else "")
        known = [column[at] for _, column in extras]
        rows.append([*cells, number(one.effect.q), *known, "yes" if one.rank_stable else "no", one.id])
    texts = {1, 2} if conditioned else {1}
    return aligned(rows, left=texts | {len(head) - 1}, shrinking=texts, width=width)


def aligned(rows: Sequence[Sequence[str]], *, left: Set[int], shrinking: Set[int] = frozenset(), width: int = 10**6) -> list[str]:
    """Rows as lines with columns under each other; columns of `shrinking` are cut so that lines keep to the width."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while over > 0 and any(widths[at] > _LEAST_TEXT for at in shrinking):
        widest = max(shrinking, key=lambda at: widths[at])
        widths[widest] -= 1
        over -= 1
    lines: list[str] = []
    for row in rows:
        cells = [
            cut(cell, size).ljust(size) if at in left else cell.rjust(size)
            for at, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(_GAP.join(cells).rstrip())
    return lines


def cut(text: str, size: int) -> str:
    """The text, or its beginning with an ellipsis where it is longer."""
    return text if len(text) <= size else text[: max(0, size - 1)] + "…"


def concept_text(concept: ConceptRef) -> str:
    """Name and label; a cluster says how many features it holds."""
    size = f" ({concept.size} features)" if concept.size > 1 else ""
    return f"{concept.name}{size}" + (f" {one_line(concept.label)}" if concept.label else "")


def condition_text(condition: Condition | None) -> str:
    """Where: metadata as KEY=VALUE, others by name and label."""
    if condition is None:
        return "everywhere"
    name = condition.name.removeprefix("metadata/")
    return one_line(f"{name} {condition.label}" if condition.label and condition.label != name else name)


def one_line(text: str) -> str:
    """Text from data, made harmless for a terminal: no line ends, no control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def effect_text(effect: Effect, *, interval: bool = True) -> str:
    """Estimate and interval, or that it could not be tested."""
    if effect.reason:
        return "not testable"
    return f"{effect.estimate:+.3f}" + (f" [{effect.low:+.3f}, {effect.high:+.3f}]" if interval else "")


def number(value: float) -> str:
    """A p- or q-value."""
    return "0" if value == 0 else f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"


def evidence_lines(title: str, evidence: Sequence[Evidence], *, width: int) -> list[str]:
    """Pairs that speak for or against, each with the beginning of both responses; what fires is between « and »."""
    lines = [f"{title}:"] if evidence else []
    for one in evidence:
        lines.append(f"  row {one.row} {one_line(one.pair.id)} (u = {one.disparity:+.2f})".rstrip())
        for side, text, marks in (("chosen", one.pair.chosen, one.chosen), ("rejected", one.pair.rejected, one.rejected)):
            lines.append(cut(f"    {side:<9} {one_line(marked(text, marks))}", width))
    return lines


def marked(text: str, highlights: Sequence[Highlight]) -> str:
    """A text with what fires between « and »."""
    for one in sorted(highlights, key=lambda one: -one.start):
        text = f"{text[: one.start]}«{text[one.start : one.end]}»{text[one.end :]}"
    return text


def decision_text(decision: Decision) -> str:
    """What was decided, in a few words."""
    mode = decision.mode.value.replace("_", "-") if decision.mode else "unknown"
    return mode if decision.strength is None else f"{mode} {decision.strength:g}"


def plain(value: Any) -> Any:
    """A result as JSON takes it: enums by value, times in ISO 8601, tuples and tensors as lists."""
    match value:
        case Enum():
            plainly: Any = value.value
        case datetime():
            plainly = value.isoformat()
        case Tensor():
            plainly = value.values()
        case dict():
            plainly = {str(key): plain(one) for key, one in value.items()}
        case list() | tuple():
            plainly = [plain(one) for one in value]
        case _ if dataclasses.is_dataclass(value):
            plainly = {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
        case _:
            plainly = value
    return plainly


NUISANCES = {one.value: one for one in Nuisance}
