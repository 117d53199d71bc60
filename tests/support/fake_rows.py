"""Rows, comparisons and texts whose values tell where they came from, for the library in memory."""

from assay_server.audit.comparison.agreement import Agreement, Estimate
from assay_server.audit.comparison.control import positive_control
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.types import (
    ConceptRow,
    ConditionRow,
    EffectRow,
    HypothesisRow,
    LabelText,
)
from assay_server.jobs.comparisons.types import ComparisonHead, ComparisonRequest, ComparisonResult, ShiftRow
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import Message

from tests.support.fake_scorer import INFO

LABELS = ("", "bullet lists", "flattery")
SUBJECT = SubjectRef(
    INFO.model_id,
    INFO.model_fingerprint,
    INFO.sae_id,
    INFO.sae_fingerprint,
    INFO.tokenizer_fingerprint,
    INFO.template_fingerprint,
    INFO.hook,
    INFO.dtype,
)


def effect(number: int, *, shift: float = 0.0) -> EffectRow:
    """An effect whose numbers tell where it came from."""
    estimate = (number - 50) / 100 + shift
    p = min(1.0, number / 1000)
    return EffectRow(estimate, estimate - 0.1, estimate + 0.1, estimate * 10, p, min(1.0, 2 * p), 1.0, None, "")


def hypothesis_row(audit: str, view: ViewKind, rank: int) -> HypothesisRow:
    """One hypothesis, different for each view and rank."""
    conditioned = view is not ViewKind.GLOBAL
    return HypothesisRow(
        name=f"{audit}/hypotheses/{view.replace('_', '-')}-{rank}",
        view=view,
        concept=ConceptRow(f"feature/{rank % 7}", (rank % 7, 3), 2, LabelText(LABELS[rank % 3], "tokens", 0.5)),
        condition=ConditionRow(f"data-cluster/{rank % 5}", (1, 2), LabelText("physics")) if conditioned else None,
        raw=effect(rank, shift=0.5),
        controlled=effect(rank),
        finding=rank <= 25,
        cohen_d=0.25,
        consistent=True,
        delta_min=0.01,
        inside=100 - rank % 50,
        outside=900,
        prompts=80,
        rank=rank,
        rank_first_half=rank,
        rank_second_half=rank + 1,
        rank_stable=True,
    )


def comparison(name: str, request: ComparisonRequest, created: float, shifts: int = 30) -> ComparisonResult:
    """A comparison whose numbers tell where they came from: some figures are not defined, and one shift in three clears."""
    some = Agreement(shifts, Estimate(0.5, 0.4, 0.6), Estimate(-0.25, -0.5, 0.1), spearman=Estimate(0.7, 0.6, 0.8))
    rows = [
        ShiftRow(
            concept=ConceptRow(f"feature/{number}", (number,), 1, LabelText(LABELS[number % 3], "tokens", 0.5)),
            predicted=number / 100,
            predicted_error=0.01,
            observed=Estimate(number / 200, number / 200 - 0.02, number / 200 + 0.02),
            noise=-number / 1000,
            noise_error=0.004,
            difference_error=0.01,
            retained=number % 2 == 0,
            clears_noise=number % 3 == 0,
        )
        for number in range(shifts, 0, -1)
    ]
    head = ComparisonHead(
        name=name,
        dataset=request.dataset,
        rollouts=request.rollouts,
        noise=request.noise,
        plan=request.plan,
        subject=SUBJECT,
        created=created,
        dataset_pairs=1000,
        rollout_pairs=200,
        prompts=90,
        noise_pairs=190,
        retained=some,
        above_noise=Agreement(2, slope=Estimate(0.3, 0.2, 0.4)),
        noise_floor=Agreement(shifts, Estimate(0.02, 0.0, 0.05)),
        control=None if request.margins is None else positive_control(request.margins, request.margins_of),
        conclusions=("first what speaks against it", "then the figures"),
        total_shifts=shifts,
        options=request.options,
    )
    retained = tuple(row for row in rows if row.retained)
    return ComparisonResult(head, tuple(rows[: request.options.keep]), retained, 0.01)


def chat(*texts: str) -> tuple[Message, ...]:
    """A conversation of user and assistant turns."""
    return tuple(Message(("user", "assistant")[place % 2], text) for place, text in enumerate(texts))
