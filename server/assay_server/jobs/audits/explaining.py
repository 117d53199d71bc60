"""What ``audit.explained`` needs of a stored dataset: style, descriptors and features of the pairs that take part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from assay_server.audit.disparity import firing_difference
from assay_server.audit.explained import (
    DENSE,
    LEAST_PROMPTS,
    MOST_COLUMNS,
    MOST_PAIRS,
    RANDOM,
    SAE,
    SAE_OVER_STYLE,
    STYLE,
    Block,
    Explained,
    explained,
    sampled_pairs,
)
from assay_server.audit.findings import AuditOptions
from assay_server.audit.matrices import Bools, Csr, Floats, Ints
from assay_server.audit.passes import Survey, blocks
from assay_server.audit.shards import Shards
from assay_server.audit.watch import UNWATCHED, Watch
from assay_server.store.controls import ControlShard, Firings

_PHASE = "explained"
_FINDINGS, _DESCRIPTORS = "SAE findings", "descriptors"


def explain(
    shards: Shards,
    known: Survey,
    options: AuditOptions,
    style: Floats,
    *,
    descriptors: Callable[[Ints], Floats] | None = None,
    controls: Sequence[ControlShard] = (),
    watch: Watch = UNWATCHED,
) -> Explained:
    """How much of the preference length, style, descriptors and the SAE's features explain, in one more pass over the dataset.

    Args:
        shards: the dataset.
        known: its survey.
        options: tau, interval_level and seed are used; where control_pairs were asked for and there are none, the note says why.
        style: differences of style beside length, chosen minus rejected, [pairs, columns] in the order of the survey.
        descriptors: gives the differences of descriptors of some rows of the dataset, [rows, columns].
        controls: of some of the pairs, rows ascending; where there are any, every block is fitted on these pairs.
        watch: told the pass's progress; may raise to stop.
    """
    wanted = np.concatenate([shard.rows for shard in controls]) if controls else None
    taken = sampled_pairs(known.prompts, MOST_PAIRS, options.seed) if wanted is None else np.isin(known.rows, wanted)
    notes = []
    if not taken.all():
        notes.append(f"{int(taken.sum()):,} of {known.pairs:,} pairs took part, whole prompts drawn by the seed")
    if options.control_pairs and not controls:
        notes.append(
            f"controls were left out: {options.control_pairs:,} pairs hold fewer than {LEAST_PROMPTS} whole prompts of the draw, "
            "too few to hold some out"
        )
    features, left_out = _features(shards, known, options, taken, watch)
    if left_out:
        notes.append(f"{left_out:,} features that fire least were left out")
    logs = np.log(np.maximum(known.tokens[taken, 1:], 1))
    length = (logs[:, 0] - logs[:, 1])[:, None]
    shows = None if descriptors is None else Csr(descriptors(known.rows[taken]))
    found = [Block("length", Csr(length), scaled=True), Block(STYLE, Csr(np.hstack([length, style[taken]])), scaled=True)]
    found += [] if shows is None else [Block(_DESCRIPTORS, shows, scaled=True)]
    found += [Block(_FINDINGS, features, selected=True)]
    found += [] if shows is None else [Block(f"{_FINDINGS} + {_DESCRIPTORS}", shows, scaled=True, beside=_FINDINGS)]
    found += [Block(SAE, features), Block(SAE_OVER_STYLE, features, over=STYLE)]
    if controls:
        rivals = {DENSE: Csr(np.concatenate([shard.dense for shard in controls]).astype(np.float64))}
        rivals[RANDOM] = _random(controls, known.d_sae, options.tau)
        found += [one for name, x in rivals.items() for one in (Block(name, x), Block(f"{name} over {STYLE}", x, over=STYLE))]
    note = "; ".join(notes) + "." if notes else ""
    level, seed = options.interval_level, options.seed
    return explained(found, known.prompts[taken], level=level, seed=seed, note=note, check=watch.check)


def _random(controls: Sequence[ControlShard], d_sae: int, tau: float) -> Csr:
    """b of the random dictionary's features, [pairs, features], as of the SAE's."""
    parts: list[Csr] = []
    for shard in controls:
        chosen, rejected = (_frequencies(side, d_sae) for side in (shard.chosen, shard.rejected))
        parts.append(Csr(firing_difference(chosen, rejected, tau)).astype(np.float64))
    kept = Csr(sparse.vstack(parts, format="csr"))
    fires = np.bincount(kept.indices, minlength=d_sae)
    return kept if d_sae <= MOST_COLUMNS else Csr(kept[:, np.sort(np.argsort(-fires, kind="stable")[:MOST_COLUMNS])])


def _frequencies(side: Firings, d_sae: int) -> Csr:
    share = side.count / np.repeat(side.tokens, np.diff(side.indptr))
    return Csr((share.astype(np.float32), side.features, side.indptr), shape=(len(side.tokens), d_sae))


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
