"""Labels and detection scores through an endpoint.

Method ``endpoint:{model}``. The label is made from the strongest contexts of one set of texts; the score is the balanced accuracy
with which the same endpoint, shown the label alone, tells contexts of *other* texts in which the feature fires (from strongest to
weakest) from as many random ones in which it does not: EleutherAI's detection scoring (arXiv 2410.13928, §4).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assay_server.labelling.contexts import Context, firing_contexts, silent_contexts
from assay_server.labelling.endpoint import Endpoint, EndpointFailed
from assay_server.labelling.firings import Firing, TokenFirings
from assay_server.labelling.prompts import detect_messages, explain_messages, read_label, read_verdicts

MADE_FROM = 12
HELD_OUT = 10
ENOUGH = 4
_ASKED_AT_ONCE = 10
_TRIES = 2


@dataclass(frozen=True, slots=True)
class EndpointLabel:
    """A label through an endpoint; ``detection_score`` None where too few unseen contexts exist or no verdict could be read."""

    label: str
    detection_score: float | None


def method_name(endpoint: Endpoint) -> str:
    """The method that such labels carry."""
    return f"endpoint:{endpoint.options.model}"


async def explain(
    endpoint: Endpoint, made: TokenFirings, unseen: TokenFirings, firing_of: Callable[[TokenFirings], Firing], *, seed: int
) -> EndpointLabel | None:
    """Label what ``firing_of`` picks out; None where it never fires or the answer holds no label.

    Args:
        endpoint: makes the label and judges it.
        made: texts that the label is made from.
        unseen: texts that it is measured on.
        firing_of: for example ``lambda firings: firings.firing(17)``.
        seed: of the silent contexts and of the order in which contexts are judged.

    Raises:
        EndpointRefused: it refuses every request as it is configured.
        EndpointFailed: it does not answer.
    """
    contexts = firing_contexts(made, firing_of(made), limit=MADE_FROM, spread=False)
    if not contexts:
        return None
    label = ""
    for _ in range(_TRIES):
        label = read_label(await endpoint.complete(explain_messages(contexts)))
        if label:
            break
    if not label:
        return None
    return EndpointLabel(label, await detect(endpoint, label, unseen, firing_of(unseen), seed=seed))


async def detect(endpoint: Endpoint, label: str, unseen: TokenFirings, firing: Firing, *, seed: int) -> float | None:
    """Balanced accuracy of the endpoint's verdicts on unseen contexts, as many firing as silent; None where not measured."""
    judged = judged_contexts(unseen, firing, seed=seed)
    fires, said = list[bool](), list[bool]()
    for start in range(0, len(judged), _ASKED_AT_ONCE):
        asked = judged[start : start + _ASKED_AT_ONCE]
        verdicts = await _verdicts(endpoint, label, asked)
        if verdicts is not None:
            fires += [context.fires for context in asked]
            said += verdicts
    return balanced_accuracy(fires, said)


def judged_contexts(unseen: TokenFirings, firing: Firing, *, seed: int) -> list[Context]:
    """What a judge is shown, in a shuffled order: up to `HELD_OUT` firing contexts and as many silent; none where under `ENOUGH`.

    Args:
        unseen: texts that the label was not made from.
        firing: of what is labelled, in them.
        seed: of the silent contexts and of the order.
    """
    generator = np.random.default_rng(seed)
    firing_ones = firing_contexts(unseen, firing, limit=HELD_OUT, spread=True)
    silent_ones = silent_contexts(unseen, firing, limit=len(firing_ones), generator=generator)
    each = min(len(firing_ones), len(silent_ones))
    if each < ENOUGH:
        return []
    judged = [*_spread(firing_ones, each), *silent_ones[:each]]
    return [judged[i] for i in generator.permutation(len(judged))]


def balanced_accuracy(fires: Sequence[bool], said: Sequence[bool]) -> float | None:
    """Mean of the share of right verdicts where it fires and where it does not; None with under `ENOUGH` verdicts of a kind."""
    right: dict[bool, list[bool]] = {True: [], False: []}
    for truth, verdict in zip(fires, said, strict=True):
        right[truth].append(verdict == truth)
    if min(len(answers) for answers in right.values()) < ENOUGH:
        return None
    return float(np.mean([np.mean(answers) for answers in right.values()]))


async def _verdicts(endpoint: Endpoint, label: str, contexts: list[Context]) -> list[bool] | None:
    try:
        for _ in range(_TRIES):
            verdicts = read_verdicts(await endpoint.complete(detect_messages(label, contexts)), len(contexts))
            if verdicts is not None:
                return verdicts
    except EndpointFailed:
        return None  # the label stands, unmeasured
    return None


def _spread(contexts: list[Context], count: int) -> list[Context]:
    return [contexts[i] for i in np.linspace(0, len(contexts) - 1, count).round().astype(int)]
