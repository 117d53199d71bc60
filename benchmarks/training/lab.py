"""One place where policies are trained, rolled out and read, each at most once: what was run is kept on disk by what decided it.

A run's folder is named by a digest of its pairs, recipe and treatment; it is written whole or not at all, so that any slice of
an experiment can be run, stopped and gone on with. Texts of rollouts stay there, outside of the repository.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import assay

from benchmarks.common import MODEL, ROOT
from benchmarks.training.data import PLANTED, Material, Sizes, digest, material, pairs_digest, plant
from benchmarks.training.detectors import rates
from benchmarks.validity.edits import Half, edited
from experiments.policies import Readings, Sampling, margins, prompt_turns, read_pairs, roll_out
from experiments.training import Change, Recipe, Reference, load, train

FOLDER = ROOT / "out" / "training"
PAUSE = "ASSAY_BENCH_PAUSE"  # names a file: while it is there, somebody measures times, and no run begins
Plan = Callable[[Any, Sequence[assay.Pair]], tuple[Change, dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """A training: on which pairs, how, and with what plan.

    Attributes:
        planted: whether the pairs hold the planted concepts.
        recipe: how.
        treatment: everything that decides the plan, as JSON; none without a plan.
        unplanted: a concept that is not planted, where the others are: what a perfect plan against it would come to.
    """

    planted: bool
    recipe: Recipe
    treatment: dict[str, Any] = field(default_factory=dict)
    unplanted: str = ""

    @property
    def name(self) -> str:
        """For people: what the folder's name begins with."""
        parts = [self.treatment.get(key, "") for key in ("concept", "family")]
        parts.append(f"without-{self.unplanted}" if self.unplanted else "")
        return "-".join(filter(None, ["planted" if self.planted else "plain", *parts])).replace(" ", "_")


class Lab:
    """The shared material, and what was run on it.

    Args:
        pairs: path of the file of pairs.
        seed: of everything.
        folder: where runs are kept.
        sampling: how rollouts are drawn.
        model: folder of the model that is trained.
        recipe: of every training.
    """

    def __init__(
        self,
        pairs: str,
        *,
        seed: int = 0,
        sizes: Sizes | None = None,
        folder: Path = FOLDER,
        sampling: Sampling | None = None,
        model: Path = MODEL,
        recipe: Recipe | None = None,
    ) -> None:
        self.seed, self.folder, self.model, self.recipe = seed, folder, model, recipe or Recipe()
        self.sizes, self.sampling = sizes or Sizes(), sampling or Sampling()
        self._path = pairs

    @cached_property
    def material(self) -> Material:
        """Pairs by use."""
        return material(self._path, self.sizes, self.seed, self.model)

    @cached_property
    def planted(self) -> tuple[list[assay.Pair], dict[str, list[int]]]:
        """The training pairs with the three concepts planted, and where."""
        return plant(self.material.train, self.sizes.share, self.seed)

    def pairs(self, one: Run) -> list[assay.Pair]:
        """What a run is trained on."""
        if not one.planted:
            return self.material.train
        planted, where = self.planted
        left_out = set(where[one.unplanted]) if one.unplanted else set[int]()
        return [self.material.train[at] if at in left_out else pair for at, pair in enumerate(planted)]

    @cached_property
    def control(self) -> list[assay.Pair]:
        """Held-out pairs, planted like the training pairs: whether the policy learned what it was taught."""
        return plant(self.material.held_out[: self.sizes.control], self.sizes.share, self.seed)[0]

    @cached_property
    def probes(self) -> dict[str, list[assay.Pair]]:
        """Held-out pairs whose chosen response has the trait and whose rejected one is the same text without it, by concept."""
        return {
            name: [
                replace(pair, chosen=edited(name, pair.chosen, Half.PLANTED, self.seed), rejected=pair.chosen)
                for pair in self.material.held_out[: self.sizes.probes]
            ]
            for name in PLANTED
        }

    @cached_property
    def baseline(self) -> dict[str, Any]:
        """The untrained model: two independent sets of rollouts, readings of held-out pairs and probes."""
        key = digest([self._prompts, asdict(self.sampling), asdict(self.sizes), pairs_digest(self.material.held_out), self.seed])
        path = self.folder / f"untrained-{key}.json"
        return self._kept(path, self._untrained)

    def run(self, one: Run, plan: Plan | None = None) -> dict[str, Any]:
        """The run's record, from disk where it was run before.

        Args:
            plan: makes the plan, given a recipe and the pairs; called only where the run is not there yet.
        """
        return self._kept(self.path(one), lambda: self._train(one, plan))

    def done(self, one: Run) -> dict[str, Any] | None:
        """The run's record, or None where it was not run."""
        path = self.path(one)
        return json.loads(path.read_text()) if path.exists() else None

    def path(self, one: Run) -> Path:
        """Where the run is kept."""
        decided = [pairs_digest(self.pairs(one)), one.recipe.as_dict(), one.treatment, self._prompts]
        return self.folder / f"{one.name}-{digest([*decided, asdict(self.sampling), asdict(self.sizes), self.seed])}.json"

    def beside(self, one: Run, what: str) -> Path:
        """Where something that was made of a run is kept."""
        return self.path(one).with_suffix(f".{what}.json")

    def keep_beside(self, one: Run, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was made of a run, from disk where it was made before."""
        return self._kept(self.beside(one, what), make)

    def read_beside(self, one: Run, what: str) -> dict[str, Any] | None:
        """The same, or None where it was not made."""
        path = self.beside(one, what)
        return json.loads(path.read_text()) if path.exists() else None

    def rollouts(self, after: Sequence[str], before: Sequence[str]) -> list[assay.Pair]:
        """Rollouts as pairs: after training chosen, before rejected. Prompts that either answered with nothing are left out."""
        sides = zip(self.material.prompts, after, before, strict=True)
        return [
            assay.Pair(prompt, new, old, id=f"rollout-{at}")
            for at, (prompt, new, old) in enumerate(sides)
            if new.strip() and old.strip()
        ]

    def _untrained(self) -> dict[str, Any]:
        model, tokenizer = load(self.model, self.recipe.dtype)
        began = time.process_time()
        sets = [roll_out(model, tokenizer, self._turns, self.sampling, self.seed + 101 + at) for at in range(2)]
        spent = time.process_time() - began
        return {
            "rollouts": sets,
            "rates": [rates(texts, PLANTED) for texts in sets],
            "held_out": asdict(read_pairs(model, tokenizer, self.material.held_out)),
            "control": asdict(read_pairs(model, tokenizer, self.control)),
            "probes": {name: asdict(read_pairs(model, tokenizer, pairs)) for name, pairs in self.probes.items()},
            "rollout_cpu_seconds": spent,
        }

    def _train(self, one: Run, plan: Plan | None) -> dict[str, Any]:
        base, pairs = self.baseline, self.pairs(one)
        change, about = plan(one.recipe, pairs) if plan else (Change(), {})
        trained = train(self.model, pairs, one.recipe, change, Reference(self.folder / "reference.json"))
        began = time.process_time()
        texts = roll_out(trained.model, trained.tokenizer, self._turns, self.sampling, self.seed + 201)
        wrote = time.process_time() - began
        held = read_pairs(trained.model, trained.tokenizer, self.material.held_out)
        controlled = one.planted and not one.treatment and not one.unplanted
        control = read_pairs(trained.model, trained.tokenizer, self.control) if controlled else held
        untrained, beta = Readings(**base["held_out"]), one.recipe.beta
        return {
            "treatment": one.treatment,
            "recipe": one.recipe.as_dict(),
            "planted": one.planted,
            "plan": about,
            "rates": rates(texts, PLANTED),
            "margins": margins(held, untrained, beta),
            "control": margins(control, Readings(**base["control"]) if controlled else untrained, beta),
            "perplexity": held.perplexity,
            "probes": {
                name: margins(read_pairs(trained.model, trained.tokenizer, pairs), Readings(**base["probes"][name]), beta)
                for name, pairs in self.probes.items()
            },
            "log": trained.log,
            "pairs": trained.pairs,
            "tokens": trained.tokens,
            "train_seconds": trained.seconds,
            "prepare_seconds": trained.prepare_seconds,
            "cpu_seconds": trained.cpu_seconds,
            "rollout_cpu_seconds": wrote,
            "rollouts": texts,
        }

    def _kept(self, path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if not path.exists():
            while os.environ.get(PAUSE) and Path(os.environ[PAUSE]).exists():
                time.sleep(2)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.partial")  # another process may make the same
            partial.write_text(json.dumps(make()))
            partial.rename(path)
        return json.loads(path.read_text())

    @property
    def _turns(self) -> list[list[dict[str, str]]]:
        return [prompt_turns(prompt) for prompt in self.material.prompts]

    @property
    def _prompts(self) -> str:
        return digest(self._turns)
