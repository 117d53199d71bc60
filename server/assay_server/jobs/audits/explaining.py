"""What ``audit.explained`` needs of a stored dataset: length, style and the features' differences of the pairs that take part."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from assay_server.audit.disparity import firing_difference
from assay_server.audit.explained import MOST_COLUMNS, MOST_PAIRS, Block, Explained, explained, sampled_pairs
from assay_server.audit.findings import AuditOptions
from assay_server.audit.matrices import Bools, Csr, Floats
from assay_server.audit.passes import Survey, blocks
from assay_server.audit.shards import Shards
from assay_server.audit.watch import UNWATCHED, Watch

_PHASE = "explained"


def explain(
    shards: Shards,
    known: Survey,
    options: AuditOptions,
    style: Floats,
    *,
    others: Mapping[str, Floats] | None = None,
    watch: Watch = UNWATCHED,
) -> Explained:
    """How much of the preference length, style and the SAE's features explain, in one more pass over the dataset.

    Args:
        shards: the dataset.
        known: its survey.
        options: tau, interval_level and seed are used.
        style: differences of style beside length, chosen minus rejected, [pairs, columns] in the order of the survey.
        others: further blocks by name, such as dense differences or a random dictionary's, [pairs, columns] in that order; each
            is fitted alone and, as the SAE, over style.
        watch: told the pass's progress; may raise to stop.
    """
    taken = sampled_pairs(known.prompts, MOST_PAIRS, options.seed)
    notes = []
    if not taken.all():
        notes.append(f"{int(taken.sum()):,} of {known.pairs:,} pairs took part, whole prompts drawn by the seed")
    features, left_out = _features(shards, known, options, taken, watch)
    if left_out:
        notes.append(f"{left_out:,} features that fire least were left out")
    logs = np.log(np.maximum(known.tokens[taken, 1:], 1))
    length = (logs[:, 0] - logs[:, 1])[:, None]
    found = [
        Block("length", Csr(length), scaled=True),
        Block("style", Csr(np.hstack([length, style[taken]])), scaled=True),
        Block("SAE findings", features, selected=True),
        Block("SAE", features),
        Block("SAE over style", features, over="style"),
    ]
    for name, values in (others or {}).items():
        found += [Block(name, Csr(values[taken])), Block(f"{name} over style", Csr(values[taken]), over="style")]
    note = "; ".join(notes) + "." if notes else ""
    level, seed = options.interval_level, options.seed
    return explained(found, known.prompts[taken], level=level, seed=seed, note=note, check=watch.check)


def _features(shards: Shards, known: Survey, options: AuditOptions, taken: Bools, watch: Watch) -> tuple[Csr, int]:
    """b of every feature for the pairs that take part, [taken pairs, features], and how many features were left out."""
    kept = np.arange(known.d_sae)
    if known.d_sae > MOST_COLUMNS:
        kept = np.sort(np.argsort(-known.response_spans, kind="stable")[:MOST_COLUMNS])
    parts, first = [Csr((0, len(kept)))], 0
    for block in blocks(shards, _PHASE, watch.progress):
        rows = np.flatnonzero(taken[first : first + len(block.rows)])
        first += len(block.rows)
        fired = firing_difference(Csr(block.freq_chosen[rows]), Csr(block.freq_rejected[rows]), options.tau)
        parts.append(Csr(fired[:, kept]).astype(np.float64))
    return Csr(sparse.vstack(parts, format="csr")), known.d_sae - len(kept)
