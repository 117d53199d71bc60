"""Reports to look at and to test with: harmless texts that were written for this, and hostile ones."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from assay_server.audit.auc import Estimate
from assay_server.audit.explained import Explained, ExplainedBlock
from assay_server.audit.findings import Evidence, ViewKind
from assay_server.audit.length import Direction
from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditSettings,
    AuditState,
    ConceptRow,
    ConditionRow,
    Cost,
    DecisionInfo,
    DecisionMode,
    EffectRow,
    HypothesisRow,
    LabelText,
    LengthSummary,
    NuisanceSummary,
    ViewSummary,
)
from assay_server.jobs.datasets.types import DatasetInfo
from assay_server.report.model import Highlight, Report, Sides, View
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import Message, Pair

from tests.server.report.example_texts import CONCEPTS, TEXTS, TOPICS, WORDS

AUDIT = "audits/5f2c0d1e9ab34c77"
EXPLAINED = Explained(
    blocks=(
        ExplainedBlock("length", 1, 0.577, 0.553, 0.601),
        ExplainedBlock("style", 5, 0.596, 0.572, 0.62),
        ExplainedBlock("SAE", 3962, 0.697, 0.676, 0.719),
        ExplainedBlock("SAE over style", 3962, 0.702, 0.68, 0.724),
    ),
    over_style=Estimate(0.106, 0.081, 0.132),
    pairs=2309,
    note="2 features that fire least were left out.",
)
LENGTH = LengthSummary(
    pairs=2309,
    direction=Direction.LONGER,
    ratio=1.21,
    ratio_low=1.17,
    ratio_high=1.26,
    longer=0.587,
    shorter=0.402,
    accuracy=0.5925,
    auc=0.601,
    auc_low=0.578,
    auc_high=0.624,
    p=3e-11,
    information_left=0.957,
)


def lively(rows: int = 60, seed: int = 0) -> Report:
    """A report with every part filled: three views, findings and others, decisions, evidence with highlights."""
    rng = random.Random(seed)
    views = (_global(rng, rows), _clusters(rng, rows), _topics(rng, rows))
    items = [item for view in views for item in view.hypotheses]
    return Report(
        info=AuditInfo(
            name=AUDIT,
            dataset="datasets/0b6f27c1d1a94f0e8c55aa01",
            display_name="demo pairs",
            state=AuditState.DONE,
            settings=AuditSettings(),
            subject=SubjectRef(
                "SmolLM2-135M-Instruct",
                "9c1e" * 16,
                "demo TopK 4096",
                "77aa" * 16,
                "",
                "",
                "blocks.14.hook_resid_post",
                "float32",
            ),
            created=1.7955e9,
            nuisance=NuisanceSummary(("delta log length",), (0.412,), 0.596),
            cost=Cost(401_882, 188_204, 412, 2309, 204.1, 9.7, "cpu (float32, 2 threads)"),
            result_fingerprint="ab12" * 16,
            length=LENGTH,
            explained=EXPLAINED,
        ),
        dataset=DatasetInfo("datasets/0b6f27c1d1a94f0e8c55aa01", "demo pairs", "0b6f27c1" * 8, 2312, 3, 2208, (), 0.0, True),
        views=views,
        evidence={item.name: _evidence(item) for item in items},
        highlights={(item.name, row): _sides(row, _words(item)) for item in items for row in range(len(TEXTS))},
        decisions=(
            DecisionInfo(
                f"{AUDIT}/decisions/1",
                f"{AUDIT}/hypotheses/global-1",
                DecisionMode.EXPLAIN_AWAY,
                1.0,
                "Nobody asked for bold text.",
                "Rosa",
                1.79e9,
            ),
            DecisionInfo(
                f"{AUDIT}/decisions/2", f"{AUDIT}/hypotheses/prompt_conditioned-1", DecisionMode.KEEP, None, "", "", 0.0
            ),
        ),
        pairs={
            row: Pair((Message("user", prompt),), chosen, rejected, f"written-{row}")
            for row, (prompt, chosen, rejected) in enumerate(TEXTS)
        },
    )


def _global(rng: random.Random, rows: int) -> View:
    named = [(concept, words, raw, controlled) for concept, words, raw, controlled in CONCEPTS]
    noise = [
        (
            ConceptRow(
                f"feature/{3500 + n}", (3500 + n,), 1, LabelText(f"“w{n}”, “x{n}”", "evidence-tokens/1", 0.6 + n % 4 / 10)
            ),
            "list",
            rng.gauss(0.03, 0.06),
            rng.gauss(0, 0.05),
        )
        for n in range(rows - len(named))
    ]
    named = sorted(named + noise, key=lambda entry: -abs(entry[3]))
    items = tuple(_hypothesis(ViewKind.GLOBAL, rank, *entry, None, 2309, 0.02, rng) for rank, entry in enumerate(named, 1))
    counts = ViewSummary(ViewKind.GLOBAL, 4_102, 1_485, 397, rows, 0, explained=210, weakened=920, unchanged=355)
    return View(counts, items)


def _clusters(rng: random.Random, rows: int) -> View:
    items: list[HypothesisRow] = []
    for place in range(rows):
        concept, words, _, controlled = CONCEPTS[place % len(CONCEPTS)]
        cluster = ConditionRow(f"data-cluster/{place % 7}", (5, 6), LabelText(TOPICS[place % 7], "evidence-tokens/1", 0.8))
        effect = controlled * rng.uniform(-1, 1) * (1 if place < 20 else 0.3)
        items.append(
            _hypothesis(
                ViewKind.FEATURE_CONDITIONED,
                place + 1,
                concept,
                words,
                effect * 1.2,
                effect,
                cluster,
                40 + 11 * (place % 7),
                0.06,
                rng,
            )
        )
    findings = sum(item.finding for item in items)
    return View(ViewSummary(ViewKind.FEATURE_CONDITIONED, 840, findings + 9, findings, rows, 7), tuple(items))


def _topics(rng: random.Random, rows: int) -> View:
    items: list[HypothesisRow] = []
    for place in range(rows):
        concept, words, _, _ = CONCEPTS[(4 + place) % len(CONCEPTS)]
        topic = ConditionRow(f"prompt-cluster/{place % 7}", (11, 12), LabelText(TOPICS[place % 7]))
        effect = 1.35 if place == 0 else rng.gauss(0, 0.2)
        items.append(
            _hypothesis(ViewKind.PROMPT_CONDITIONED, place + 1, concept, words, effect * 1.05, effect, topic, 231, 0.1, rng)
        )
    findings = sum(item.finding for item in items)
    return View(ViewSummary(ViewKind.PROMPT_CONDITIONED, 600, findings + 2, findings, rows, 7), tuple(items))


def _hypothesis(
    view: ViewKind,
    rank: int,
    concept: ConceptRow,
    words: str,
    raw: float,
    controlled: float,
    condition: ConditionRow | None,
    inside: int,
    error: float,
    rng: random.Random,
) -> HypothesisRow:
    effect = effect_of(controlled, error)
    return HypothesisRow(
        name=f"{AUDIT}/hypotheses/{view.value}-{rank}",
        view=view,
        rank=rank,
        concept=concept,
        condition=condition,
        raw=effect_of(raw, error),
        controlled=effect,
        finding=effect.q <= 0.05,
        cohen_d=controlled * 1.4,
        consistent=True,
        delta_min=abs(controlled) * 0.8,
        inside=inside,
        outside=2309 - inside,
        prompts=max(3, inside - 11),
        rank_first_half=rank + rng.randrange(2),
        rank_second_half=rank,
        rank_stable=True,
    )


def evidence_of(supporting: Sequence[int], contradicting: Sequence[int] = (), *, against: float = -1.0) -> Evidence:
    """Evidence of these rows, with disparity 1 for and `against` against."""
    pro, con = np.array(supporting, np.int64), np.array(contradicting, np.int64)
    return Evidence(pro, np.ones(len(pro)), con, np.full(len(con), against))


def _words(item: HypothesisRow) -> str:
    return next((words for concept, words, _, _ in CONCEPTS if concept.name == item.concept.name), "list")


def _evidence(item: HypothesisRow) -> Evidence:
    sides = [_sides(row, _words(item)) for row in range(len(TEXTS))]
    chosen = [row for row, (left, right) in enumerate(sides) if left and not right]
    rejected = [row for row, (left, right) in enumerate(sides) if right and not left]
    pro, con = (chosen, rejected) if item.effect.estimate > 0 else (rejected, chosen)
    return evidence_of(pro[:5], con[:5])


def _sides(row: int, words: str) -> Sides:
    _, chosen, rejected = TEXTS[row]
    return _marks(chosen, words), _marks(rejected, words)


@lru_cache
def _marks(text: str, words: str) -> tuple[Highlight, ...]:
    found = [(at, word) for word in WORDS[words] for at in range(len(text)) if text.startswith(word, at)]
    return tuple(Highlight(at, at + len(word), 1.0 + at % 7) for at, word in sorted(found))


def effect_of(estimate: float, error: float) -> EffectRow:
    """An effect with a normal interval and p-value; its q-value a hundred times that."""
    z = estimate / error
    p = max(math.erfc(abs(z) / math.sqrt(2)), 1e-300)
    return EffectRow(
        estimate,
        estimate - 1.96 * error,
        estimate + 1.96 * error,
        z,
        p,
        min(1.0, 100 * p),
        min(1.0, 700 * p),
        min(1.0, 4000 * p),
        "",
    )


ATTACK = (
    '</script><script>window.hacked=1</script>"\'><img src=x onerror="window.hacked=2"><svg onload=window.hacked=3>'
    "<!-- ]]> --> {{7*7}} ${window.hacked=4} javascript:window.hacked=5 "
    "\u2028\u2029\u202eevil\u202c\u2066\x00\x07\x1b[31m\x7f\x9b \ud800 \udfff \ufffe"
    " 👩‍👩‍👧 é\u0301\u0301\u0301 </title></style></textarea></bdi></details> &lt;b&gt; %3Cscript%3E http://127.0.0.1:9/x"
)


def hostile() -> Report:
    """`lively` with every text replaced by an attack, and texts of a megabyte."""
    report = lively(rows=20)
    concept = ConceptRow(ATTACK, (1,), 1, LabelText(ATTACK, ATTACK, 0.9))

    def attacked(item: HypothesisRow, place: int) -> HypothesisRow:
        condition = ConditionRow(ATTACK + str(place % 3), (), LabelText(ATTACK + str(place % 3))) if item.condition else None
        # Concepts differ in name, so that each is a row of the heat map.
        named = replace(concept, name=ATTACK + str(place), label=LabelText(f"{place}{ATTACK}", ATTACK, 0.9))
        return replace(
            item,
            name=ATTACK,
            concept=named,
            condition=condition,
            raw=replace(item.raw, reason=ATTACK if place == 5 else ""),
        )

    views = tuple(
        replace(view, hypotheses=tuple(attacked(item, place) for place, item in enumerate(view.hypotheses)))
        for view in report.views
    )
    mark = (
        Highlight(3, 40, 1.0),
        Highlight(20, 60, 9.0),
        Highlight(90, 10**9, 2.0),
        Highlight(-5, 4, 1.0),
        Highlight(8, 8, 1.0),
    )
    long = Pair(tuple(Message(ATTACK, ATTACK) for _ in range(30)), ATTACK + "x" * 1_000_000, "\u202e" + "word " * 200_000, ATTACK)
    return replace(
        report,
        info=replace(
            report.info,
            name=ATTACK,
            display_name=ATTACK,
            settings=AuditSettings(concepts=(ATTACK,), metadata_keys=(ATTACK,)),
            subject=SubjectRef(*[ATTACK] * 8),
            nuisance=NuisanceSummary((ATTACK,), (1.0,), 0.5),
            cost=Cost(device=ATTACK),
            result_fingerprint=ATTACK,
        ),
        dataset=DatasetInfo(ATTACK, ATTACK, ATTACK, 10, 0, 10, (), 0.0, True),
        views=views,
        evidence={ATTACK: evidence_of([0, 1, 404], [0, 1, 404], against=1.0)},
        highlights=dict.fromkeys([(ATTACK, 0), (ATTACK, 1)], (mark, mark)),
        pairs={0: Pair(ATTACK, ATTACK, ATTACK, ATTACK), 1: long},
        decisions=(
            DecisionInfo(ATTACK, ATTACK, DecisionMode.AMPLIFY, 1.0, ATTACK, ATTACK, 1.0),
            DecisionInfo(ATTACK, ATTACK, DecisionMode.KEEP, None, ATTACK, ATTACK, 0.0),
        ),
    )


def nothing(reason: str = "", *, pairs: int = 10, hypotheses: tuple[HypothesisRow, ...] = ()) -> Report:
    """A report in which no view has a finding, for `reason` where nothing was tested."""
    report = lively(rows=20)
    tests = 0 if reason else len(hypotheses) or 40
    views = tuple(
        View(ViewSummary(view.kind, tests, 0, 0, 0, 0, reason), hypotheses if view.kind is ViewKind.GLOBAL else ())
        for view in report.views
    )
    return replace(
        report, views=views, decisions=(), dataset=replace(report.dataset, pairs=pairs, unusable_pairs=0, prompts=min(pairs, 1))
    )


def closest() -> Report:
    """Tests were made, and none passes."""
    items = tuple(
        replace(item, finding=False, controlled=effect_of(0.01 * place, 0.02))
        for place, item in enumerate(lively(20).views[0].hypotheses)
    )
    return nothing(pairs=319, hypotheses=items)


def stated() -> Report:
    """One stated hypothesis, with nothing controlled for."""
    report = lively(rows=20)
    item = replace(report.views[2].hypotheses[0], view=ViewKind.STATED, controlled=None, rank=1, finding=True)
    return replace(
        report,
        info=replace(report.info, settings=AuditSettings(nuisances=()), nuisance=NuisanceSummary()),
        views=(View(ViewSummary(ViewKind.STATED, 1, 1, 1, 1, 1), (item,)),),
    )


def huge(hypotheses: int = 1000, characters: int = 20_000) -> Report:
    """Three views of that many hypotheses, each with ten pairs of its own of that many characters."""
    report = lively(rows=hypotheses)
    rng = random.Random(1)
    evidence: dict[str, Evidence] = {}
    highlights: dict[tuple[str, int], Sides] = {}
    for item in (item for view in report.views for item in view.hypotheses):
        rows = [rng.randrange(9000) for _ in range(5)]
        evidence[item.name] = evidence_of(rows, rows, against=1.0)
        highlights |= {(item.name, row): ((Highlight(0, 5, 1.0),) * 200, ()) for row in rows}
    text = Pair((Message("user", "ß" * characters),), "漢" * characters, '"\\<' * (characters // 3))
    return replace(report, evidence=evidence, highlights=highlights, pairs=dict.fromkeys(range(9000), text))
