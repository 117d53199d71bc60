"""A stated hypothesis under a condition: one concept, one place, one test (METHOD.md §3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assay_server.audit.conditioned import Contrasting, conditioned_table
from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind
from assay_server.audit.matrices import Bools, Csr, Ints, csr
from assay_server.audit.passes import Survey, blocks, disparities, places
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet, Shards
from assay_server.audit.tables import named, untested
from assay_server.audit.watch import UNWATCHED, Watch


def stated_view(
    shards: Shards,
    concepts: ConceptSet,
    options: AuditOptions,
    known: Survey,
    inside: int | Sequence[int],
    condition: Condition | None = None,
    watch: Watch = UNWATCHED,
) -> tuple[TestTable, Csr]:
    """Inside against outside for one concept, and which pairs were inside, 0/1 [pairs of the survey, 1].

    A finding needs q (that is, p) at most the level, not the agreement of both halves: nothing was searched for.

    Raises:
        ValueError: there is no such group or feature.
    """
    held = _held(shards, options, known, inside, watch)
    column = csr(Csr(held[:, None].astype(np.int64)))
    if not known.pairs:
        return untested(ViewKind.STATED, Reason.NO_PAIRS.text, controlled=known.fit is not None), column
    place = condition or _named(inside)
    sums: Contrasting | None = None
    for block in blocks(shards, ViewKind.STATED, watch.progress):
        u = disparities(block, concepts, options.tau)
        sums = sums or Contrasting(u.sizes, known.open_prompts, known.fit, check=watch.check)
        groups = Csr(column[places(block, known)])
        sums.add(u.numerators, groups, block.prompts, block.rows, block.nuisance)
    tested = sums.finish(options.interval_level) if sums else None
    assert tested is not None, "a dataset without pairs was turned away before"
    everything = np.ones((1, 1), np.bool_)
    kept = replace(options, keep=max(options.keep, 1))
    table = conditioned_table(ViewKind.STATED, tested, named(concepts, 1), (place,), everything, kept, both_halves=False)
    return replace(table, members=(np.sort(known.rows[held]),)), column


def prompt_inside(activity: Ints, top_share: float) -> Bools:
    """The pairs whose prompt expresses a concept, from how many of its features fire in each prompt, [pairs].

    Those with any of one feature. Of several features, where more than `top_share` of the pairs fire some: the pairs that fire
    the most, as many as that share holds without telling equals apart, and at least those with the largest count.
    """
    counts = np.asarray(activity, np.int64)
    bar, limit = 1, top_share * len(counts)
    for least in np.unique(counts[counts > 0]):
        bar = int(least)
        if (counts >= least).sum() <= limit:
            break
    return counts >= bar


def _held(shards: Shards, options: AuditOptions, known: Survey, inside: int | Sequence[int], watch: Watch) -> Bools:
    features = None if isinstance(inside, int) else np.unique(np.asarray(inside, np.int64))
    if features is not None and (not len(features) or features[0] < 0 or features[-1] >= known.d_sae):
        raise ValueError(f"a concept of the prompt needs features in 0..{known.d_sae - 1}, got {features.tolist()}")
    counts = np.zeros(known.pairs, np.int64)
    for block in blocks(shards, "condition", watch.progress):
        if isinstance(inside, int):
            if not 0 <= inside < block.groups.shape[1]:
                raise ValueError(f"the pairs are in {block.groups.shape[1]} groups, so there is no group {inside}")
            found = block.groups[:, [inside]].toarray()
        else:
            found = block.freq_prompt[:, features].toarray() > np.float32(options.tau)
        counts[places(block, known)] = found.sum(axis=1)
    return counts > 0 if isinstance(inside, int) else prompt_inside(counts, options.top_share)


def _named(inside: int | Sequence[int]) -> Condition:
    if isinstance(inside, int):
        return Condition(f"group/{inside}")
    features = tuple(int(feature) for feature in inside)
    return Condition(f"feature/{features[0]}" if len(features) == 1 else "prompt-concept", features)
