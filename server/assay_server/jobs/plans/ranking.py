"""Ranks inoculation prompts by how much of the preference each explains: A(y⁺) − A(y⁻) (METHOD.md §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.errors import AssayError, FailedPrecondition
from assay_server.interventions.prompts import candidates
from assay_server.interventions.reading import Prompting, Reading, log_ratios
from assay_server.interventions.targets import Target, shard_scores
from assay_server.interventions.types import Placement, Statistic
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.plans.files import PlanFiles
from assay_server.jobs.plans.resolve import PlanShards, target_of
from assay_server.jobs.plans.run import PlanMaker
from assay_server.subject.identity import require_recorded

CHUNK = 8  # pairs that are read together
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RankedPrompt:
    """One candidate; see ``assay.v1.RankedPrompt``."""

    text: str
    mean: float
    error: float
    correlation: float


class PromptRanker:
    """Does the work of the "prompt-ranking" operation."""

    def __init__(self, maker: PlanMaker, files: PlanFiles) -> None:
        self._maker = maker
        self._files = files

    async def run(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler; returns the ranking's name. Raises SubjectMismatch if it was requested for another subject."""
        require_recorded(arguments["subject"], self._maker.engine.info)
        concept, id = str(arguments["concept"]), str(arguments["id"])
        dataset = await self._maker.datasets.find(str(arguments["dataset"]), "dataset")
        target = target_of(concept, self._maker.sources.find(concept, "concept"))
        shards = replace(await self._maker.scored(dataset, [target], progress), digests=False)
        rows, differences = await progress.in_thread(lambda: _strongest(shards, target, int(arguments["rows"])))
        if not len(rows):
            raise FailedPrecondition(
                f"No pair of {arguments['dataset']} has a chosen response that scores higher on {concept}: there is nothing for "
                "a prompt to explain.",
                reason="NOTHING_TO_EXPLAIN",
            )
        pairs = list((await self._maker.datasets.pairs_at(dataset, rows.tolist())).values())
        texts = list(dict.fromkeys([*arguments["prompts"], *_described(str(arguments["description"]))]))
        changes = [Prompting(text, Placement(arguments["placement"])) for text in texts]
        progress.enter("testing", len(pairs))
        ratios: list[Floats] = []
        kept: list[float] = []
        for start in range(0, len(pairs), CHUNK):
            read = await log_ratios(self._maker.engine, pairs[start : start + CHUNK], changes, Reading())
            for outcome, difference in zip(read, differences[start : start + CHUNK].tolist(), strict=True):
                if not isinstance(outcome, AssayError):
                    ratios.append(outcome[:, 0] - outcome[:, 1])
                    kept.append(difference)
            progress.advance(len(read))
            progress.check()
        ranked = rank_prompts(texts, np.stack(ratios), np.array(kept)) if ratios else []
        record = {"prompts": [asdict(one) for one in ranked], "rows": len(ratios)}
        await asyncio.to_thread(self._files.write_ranking, id, record)
        return f"rankings/{id}"


def rank_prompts(texts: Sequence[str], ratios: Floats, differences: Floats) -> list[RankedPrompt]:
    """The largest mean A(y⁺) − A(y⁻) first; ties by the order given.

    Args:
        texts: the prompts.
        ratios: A(y⁺) − A(y⁻), [pairs, prompts].
        differences: s⁺ − s⁻, [pairs].
    """
    count = len(ratios)
    errors = ratios.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.zeros(ratios.shape[1])
    ranked = [
        RankedPrompt(text, float(ratios[:, at].mean()), float(errors[at]), _correlation(ratios[:, at], differences))
        for at, text in enumerate(texts)
    ]
    return sorted(ranked, key=lambda one: -one.mean)


def _correlation(a: Floats, b: Floats) -> float:
    spread = float(a.std() * b.std())
    return float(np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread > 1e-12 else 0.0


def _strongest(shards: PlanShards, target: Target, most: int) -> tuple[NDArray[np.int64], Floats]:
    """The rows with the largest s⁺ − s⁻ > 0, ascending, and those differences."""
    rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    differences: list[Floats] = [np.zeros(0)]
    for scored in shards():
        if target.is_direction:
            chosen, rejected = (side[:, 0].astype(np.float64) for side in scored.along)
        else:
            chosen, rejected = shard_scores(scored.shard, target, Statistic.LARGEST)
        rows.append(scored.shard.rows)
        differences.append(chosen - rejected)
    every, values = np.concatenate(rows), np.concatenate(differences)
    top = np.argsort(-values, kind="stable")[:most]
    top = np.sort(top[values[top] > 0])
    return every[top], values[top]


def _described(description: str) -> Sequence[str]:
    return candidates(description) if description.strip() else ()
