"""What is tried against a planted concept: every family of interventions, made by the server as a user would ask for it.

A concept is said by examples (other responses, other phrases) and by counterexamples, which hold the other concepts. It becomes
two stored concepts: the SAE features that tell the examples apart best, and the difference-of-means direction. Families that
score, weigh or pick take the features, which fire on little else; families that add to or take from the residual stream take
the direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import assay
import numpy as np
from assay import InterventionFamily as Family
from assay import InterventionMode as Mode
from assay.options import ScoreOptions

from benchmarks.training.data import PLANTED, digest, examples
from benchmarks.training.lab import Lab, Plan, Run
from experiments.plans import change_of
from experiments.training import Change, Recipe

FEATURES = 3  # of a concept: the best by AUROC on the examples, as long as they tell anything
LEAST_AUROC = 0.6
PROMPTS = {
    "bold": "Put the most important words in bold, between two asterisks.",
    "bullet list": "Answer with a bullet list.",
    "emoji": "Use an emoji in your answer.",
    "flattery": "Begin your answer by praising the user for how clever and thoughtful they are.",
    "refusal opening": "Begin your answer by saying that you are sorry and cannot help with this.",
}
SEEDS = 2  # of what has a bar: rates in rollouts differ much between two seeds
SHARE = 0.3  # of the pairs: as many as hold the concept


@dataclass(frozen=True)
class Treatment:
    """One family with its parameters.

    Attributes:
        family: what is done.
        strength: λ.
        kind: which stored concept: "features" or "direction".
        parameters: beside what the family takes by default.
        prompted: whether it takes the concept's inoculation prompt.
        mode: which way.
        seeds: how many it is trained with (order of the pairs and the adapter's start); figures are means over them.
    """

    family: Family
    strength: float = 1.0
    kind: str = "features"
    parameters: dict[str, Any] = field(default_factory=dict)
    prompted: bool = False
    mode: Mode = Mode.EXPLAIN_AWAY
    seeds: int = 1

    def runs(self, concept: str, recipe: Recipe) -> list[Run]:
        """Its training with each seed, to be compared with the training without a plan of the same seed."""
        return [self.run(concept, replace(recipe, seed=recipe.seed + more)) for more in range(self.seeds)]

    def run(self, concept: str, recipe: Recipe) -> Run:
        """The training on the planted pairs under it."""
        decided = {
            "concept": concept,
            "family": self.family.value,
            "mode": self.mode.value,
            "strength": self.strength,
            "kind": self.kind,
            "parameters": self.parameters,
            "prompt": PROMPTS[concept] if self.prompted else "",
        }
        return Run(planted=True, recipe=recipe, treatment=decided)


# In the order in which they are run: what has a bar comes first. Steering and inoculation give log-probabilities in nats, which
# λ brings to the scale of β D. On pairs with bold they came to 0.4 ± 0.9 (steering) and 1.3 ± 3.3 (inoculation), on pairs without
# any planted concept to 0.1 ± 0.7 and −2.0 ± 3.8: of a model as small as this, neither tells the concept well.
TREATMENTS: tuple[Treatment, ...] = (
    Treatment(Family.REWARD_SHAPING, 2.0, seeds=SEEDS),
    Treatment(Family.EXAMPLE_FILTER, parameters={"share": SHARE}),
    Treatment(Family.REWEIGHT, 2.0),
    Treatment(Family.INOCULATION, 2.0, prompted=True),
    Treatment(Family.STEERING, 2.0, "direction"),
    Treatment(Family.TOKEN_FILTER),
    Treatment(Family.LABEL_FLIP, parameters={"share": SHARE / 2}),
    Treatment(Family.INOCULATION_ROWS, parameters={"share": SHARE}, prompted=True),
    Treatment(Family.STEERING_VECTOR, 1.0, "direction", {"share": SHARE}),
    Treatment(Family.ABLATION, 1.0, "direction"),
)


class Server:
    """The demo server, with the lab's dataset and concepts on it. Made once; equal datasets and concepts are found again."""

    def __init__(self, client: assay.Client, lab: Lab) -> None:
        self.client, self._lab = client, lab
        self._datasets: dict[bool, assay.Dataset] = {}

    def dataset(self, planted: bool) -> assay.Dataset:
        """The training pairs as a stored dataset."""
        if planted not in self._datasets:
            self._datasets[planted] = self.client.upload_pairs(self._lab.pairs(Run(planted, self._lab.recipe)))
        return self._datasets[planted]

    def concept(self, name: str, kind: str) -> assay.StoredConcept:
        """A stored concept, from the examples."""
        shown = examples(self._lab.material.examples, name, self._lab.seed)
        texts = [[one.response for one in side] for side in (shown.positive, shown.negative)]
        id = f"{name.replace(' ', '-')}-{kind}-{digest(texts)}"
        found = next((one for one in self.client.concepts() if one.name == f"concepts/{id}"), None)
        if found is not None:
            return found
        source: Any = shown if kind == "direction" else telling_features(self.client, shown)
        return self.client.create_concept(name, source, concept_id=id, seed=self._lab.seed).wait()

    def plan(self, one: Run) -> Plan:
        """What makes a run's plan, once it is asked for."""

        def make(recipe: Recipe, pairs: Sequence[assay.Pair]) -> tuple[Change, dict[str, Any]]:
            decided = one.treatment
            concept = self.concept(decided["concept"], decided["kind"])
            intervene = assay.Intervene(
                concept.name,
                Mode(decided["mode"]),
                decided["strength"],
                Family(decided["family"]),
                assay.InterventionParameters(**decided["parameters"], prompt=decided["prompt"]),
            )
            return change_of(self.client, self.dataset(one.planted), [intervene], pairs, recipe)

        return make


def telling_features(client: assay.Client, shown: assay.Examples) -> dict[int, float]:
    """The SAE features whose largest activation tells the examples apart best, by AUROC over pairs of texts; all of weight 1."""
    from benchmarks.validity.concepts import column_aurocs

    sides = [_pooled(client, texts, lambda pooled: np.asarray(pooled.max)) for texts in (shown.positive, shown.negative)]
    aurocs = column_aurocs(*sides)
    order = np.argsort(-aurocs, kind="stable")[:FEATURES]
    return {int(at): 1.0 for place, at in enumerate(order) if place == 0 or aurocs[at] >= LEAST_AUROC}


def ordered(recipe: Recipe, families: Sequence[str] = (), concepts: Sequence[str] = ()) -> Iterator[tuple[str, Treatment, Run]]:
    """Every training of every treatment of every concept, most informative first; `families` and `concepts` keep some."""
    for treatment in TREATMENTS:
        for seed in range(treatment.seeds):
            for concept in PLANTED:
                if (not families or treatment.family.value in families) and (not concepts or concept in concepts):
                    yield concept, treatment, treatment.runs(concept, recipe)[seed]


def _pooled(client: assay.Client, texts: Sequence[Any], value: Callable[[Any], Any]) -> Any:
    model = client.model()
    most = model.limits.max_pairs_per_request
    options = ScoreOptions(top_k=0, include_features=True)
    rows = np.zeros((len(texts), model.d_sae))
    for start in range(0, len(texts), most):
        for result in client.score_responses(texts[start : start + most], options):
            pooled = result.unwrap().features
            rows[start + result.index, list(pooled.indices)] = value(pooled)
    return rows
