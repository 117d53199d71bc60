"""Local concepts: features that show on a few tokens of a long response, tested by their maximum (METHOD.md §3.5).

freq > tau does not see what fires on one token of more than 1/tau. Where it hides much of a feature, presence by max against a
learned threshold stands beside it, as a concept of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from assay_server.audit.disparity import membership
from assay_server.audit.findings import AuditOptions
from assay_server.audit.matrices import csr
from assay_server.audit.passes import Survey
from assay_server.audit.shards import BY_MAX, ConceptSet

HIDDEN = 0.2  # share of the responses that show a feature by max in which the frequency rule does not see it


def with_local(concepts: ConceptSet, options: AuditOptions, known: Survey) -> ConceptSet:
    """The concepts, and behind those made of features "feature/17@max" for every feature that the frequency rule hides.

    Those are features tested singly that at least `min_firings` responses show by max and as many do not, where in at least
    `HIDDEN` of the responses that show them they fire on a share of tokens of at most tau. No label plays a part.

    Args:
        concepts: none of them by max.
        options: resolved.
        known: the dataset's survey, made with the same tau.
    """
    made, presence = concepts.members.shape[1], known.presence
    named = {name: column for column, name in enumerate(concepts.names[:made])}
    enough = (presence.responses >= options.min_firings) & (2 * known.pairs - presence.responses >= options.min_firings)
    hidden = np.flatnonzero(enough & (presence.hidden >= HIDDEN * presence.responses)).tolist()
    local = [feature for feature in hidden if f"feature/{feature}" in named]
    if not local:
        return concepts
    members = csr(sparse.hstack([concepts.members, membership([[feature] for feature in local], known.d_sae)], format="csr"))
    names = (*concepts.names[:made], *(f"feature/{feature}{BY_MAX}" for feature in local), *concepts.names[made:])
    second = concepts.second_p
    if second is not None:
        second = np.concatenate([second[:made], np.zeros(len(local)), second[made:]])
    return replace(concepts, names=names, members=members, thresholds=presence.threshold[local], second_p=second)


def by_max(concepts: ConceptSet, known: Survey) -> ConceptSet:
    """The one concept that is stated, present by max where its name says so: `ANY` or what was learned, hidden by tau or not.

    Args:
        concepts: one concept.
        known: the dataset's survey.
    """
    if len(concepts.names) != 1 or not (concepts.members.shape[1] and concepts.names[0].endswith(BY_MAX)):
        return concepts
    return replace(concepts, thresholds=known.presence.threshold[concepts.members.T.tocsr().indices])
