"""One making of labels, item by item: each feature or cluster gets a label, or counts as failed.

Invariants:
- What was made is kept every few items, with the list of what is done: a run that begins again does not ask an endpoint twice.
- One item that an endpoint cannot label is a failed item; one that refuses, or fails several items in a row, ends the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from assay_server.errors import NotFound
from assay_server.jobs.concepts.label_reading import LabelTexts
from assay_server.jobs.operations.progress import Progress
from assay_server.labelling.endpoint import Endpoint, EndpointFailed
from assay_server.labelling.evidence import METHOD, EvidenceLabel, label_from_evidence
from assay_server.labelling.explaining import explain, method_name
from assay_server.labelling.firings import Firing, TokenFirings
from assay_server.labelling.labels import FeatureLabel, GroupLabel, Labels
from assay_server.store.concepts import ConceptFiles

KEPT_AT_ONCE = 32
FAILURES_IN_A_ROW = 8


@dataclass(frozen=True, slots=True)
class LabelItem:
    """What is labelled: "feature/17", or "cluster/3" with its members."""

    name: str
    members: tuple[int, ...]

    @property
    def id(self) -> int:
        """The feature's or cluster's id."""
        return int(self.name.partition("/")[2])

    @property
    def is_feature(self) -> bool:
        """Whether it is a feature."""
        return self.name.startswith("feature/")

    def firing(self, firings: TokenFirings) -> Firing:
        """Where it fires."""
        return firings.firing(self.id) if self.is_feature else firings.together(self.members)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label that was made, with its evidence."""

    item: LabelItem
    label: GroupLabel
    evidence: EvidenceLabel


@dataclass(slots=True)
class RunState:
    """How far a run is.

    Attributes:
        scores: detection score of each item that has a label by now; None where it was not measured.
        failed: items that have none.
        requests: sent to an endpoint; prompt_tokens and completion_tokens as it counted them.
    """

    scores: dict[str, float | None] = field(default_factory=dict[str, float | None])
    failed: list[str] = field(default_factory=list[str])
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def median(self) -> float:
        """Of the scores that were measured; 0 where none was."""
        measured = [score for score in self.scores.values() if score is not None]
        return float(np.median(measured)) if measured else 0.0


Keep = Callable[[Sequence[Labelled]], Awaitable[None]]
"""Shows and keeps labels."""


async def run_labels(
    run: str,
    items: Sequence[LabelItem],
    texts: LabelTexts,
    files: ConceptFiles,
    keep: Keep,
    progress: Progress,
    endpoint: Endpoint | None,
) -> RunState:
    """Label items from evidence, or through an endpoint; raises what ends the run.

    Args:
        run: under what its state is kept.
        items: features and clusters.
        texts: with the firings of all of them.
        files: keep the state.
        keep: shows and keeps labels.
        progress: counts items through "evidence".
        endpoint: None for labels from evidence.
    """
    state = await asyncio.to_thread(read_state, files, run)
    spent = state.requests, state.prompt_tokens, state.completion_tokens
    todo = [item for item in items if item.name not in state.scores and item.name not in state.failed]
    progress.enter("evidence", total=len(items), done=len(items) - len(todo))
    failures = 0
    for start in range(0, len(todo), KEPT_AT_ONCE):
        progress.check()
        batch = todo[start : start + KEPT_AT_ONCE]
        evidence = await progress.in_thread(lambda batch=batch: [_evidence(item, texts) for item in batch])
        outcomes: list[Labelled | BaseException | None] = [_from_evidence(*pair) for pair in zip(batch, evidence, strict=True)]
        if endpoint is not None:
            asking = [_asked(item, found, texts, endpoint) for item, found in zip(batch, evidence, strict=True)]
            outcomes = list(await asyncio.gather(*asking, return_exceptions=True))
            usage = endpoint.usage
            state.requests, state.prompt_tokens, state.completion_tokens = (
                before + now
                for before, now in zip(spent, (usage.requests, usage.prompt_tokens, usage.completion_tokens), strict=True)
            )
        await keep([outcome for outcome in outcomes if isinstance(outcome, Labelled)])
        failures = _count(state, batch, outcomes, failures)
        await asyncio.to_thread(files.write_run, run, _record(state))
        progress.advance(len(batch))
    return state


def read_state(files: ConceptFiles, run: str) -> RunState:
    """How far a run is; a fresh state for one that is not known."""
    try:
        return RunState(**files.read_run(run))
    except NotFound:
        return RunState()


def _count(
    state: RunState, batch: Sequence[LabelItem], outcomes: Sequence[Labelled | BaseException | None], failures: int
) -> int:
    """Note what came of a batch; returns how many items in a row the endpoint has failed by now. Raises what ends the run."""
    for item, outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, Labelled):
            state.scores[item.name] = outcome.label.detection_score
            failures = 0
        elif outcome is None:
            state.failed.append(item.name)
        elif isinstance(outcome, EndpointFailed) and failures + 1 < FAILURES_IN_A_ROW:
            state.failed.append(item.name)
            failures += 1
        else:
            raise outcome
    return failures


def _evidence(item: LabelItem, texts: LabelTexts) -> EvidenceLabel:
    return label_from_evidence(texts.made, texts.unseen, item.firing)


def _from_evidence(item: LabelItem, found: EvidenceLabel) -> Labelled | None:
    if not found.label:
        return None
    return Labelled(item, GroupLabel(found.label, METHOD, found.detection_score), found)


async def _asked(item: LabelItem, found: EvidenceLabel, texts: LabelTexts, endpoint: Endpoint) -> Labelled | None:
    told = await explain(endpoint, texts.made, texts.unseen, item.firing, seed=item.id)
    if told is None:
        return None
    return Labelled(item, GroupLabel(told.label, method_name(endpoint), told.detection_score), found)


def _record(state: RunState) -> Mapping[str, Any]:
    return {name: getattr(state, name) for name in RunState.__dataclass_fields__}


def feature_entry(made: Labelled, labels: Labels) -> FeatureLabel:
    """A feature's entry with a new label and new evidence; what no text can say (promoted tokens) stays."""
    return replace(
        labels.get(made.item.id),
        label=made.label.label,
        label_method=made.label.label_method,
        detection_score=made.label.detection_score,
        top_tokens=made.evidence.top_tokens,
        firing_rate=made.evidence.firing_rate,
        contexts=made.evidence.contexts,
    )
