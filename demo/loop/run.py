"""The loop itself: each step says what it does, and leaves what the page tells."""

from __future__ import annotations

import argparse
import html
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import assay
from assay import DecisionMode, InterventionMode

from demo.loop import steps, telling
from demo.loop.report import ARMS, Story, render
from demo.loop.serving import LoopFailed, serving
from experiments.plans import taken
from experiments.policies import Readings, Sampling, margins, prompt_turns, read_pairs, roll_out
from experiments.training import Change, Recipe, Reference, Trained, load, load_tokenizer, train

UNTRAINED, TRAINED, PLANNED = ARMS
# A finding's whole lesson, stored as a concept, and its features.
_Lesson: TypeAlias = tuple[assay.StoredConcept, list[int]]


class Loop:
    """One run of the loop.

    Args:
        args: as `demo.loop.__main__` reads them.
        model: folder of the model that is audited and trained.
        scratch: for the server's data.
        say: called with a line for people at each step.
    """

    def __init__(self, args: argparse.Namespace, model: Path, scratch: Path, say: Callable[[str], None]) -> None:
        self._args, self._model, self._scratch, self._say = args, model, scratch, say
        self._recipe = Recipe(
            learning_rate=args.learning_rate,
            epochs=args.epochs,
            batch=args.batch,
            dtype=args.dtype,
            max_length=args.longest + 8,
            seed=args.seed,
        )
        self._seconds: dict[str, float] = {}
        self._texts: dict[str, list[str]] = {}

    def run(self) -> None:
        """All steps, and the page."""
        args = self._args
        split = self._timed("choosing pairs", self._split)
        flags = ["--dtype", args.dtype, *(["--labels", str(args.labels)] if args.labels else []), *shlex.split(args.serve)]
        self._say("starting a server that keeps the whole model")
        with serving(self._model, args.sae, self._scratch, flags) as address, assay.Client(address) as client:
            dataset = self._timed("uploading", lambda: client.upload_pairs(split.train, display_name=args.pairs.name))
            options = assay.AuditOptions(views=[assay.View.GLOBAL], seed=args.seed)
            audit = self._timed("auditing", lambda: client.audit(dataset, options).wait())
            shown = steps.candidates(client, audit)
            decision, target = self._decided(client, shown)
            lesson = self._lesson(client, audit, target)
            way = InterventionMode.AMPLIFY if decision.mode is DecisionMode.AMPLIFY else InterventionMode.EXPLAIN_AWAY
            about = assay.Intervene(lesson[0].name, way, self._args.strength) if lesson else assay.Intervene(decision)
            plan = self._timed("planning", lambda: client.create_plan(dataset, [about]).wait())
            self._tell_plan(plan)
            reference = self._timed("rolling out the untrained model, twice", lambda: self._untrained(split))
            known = Reference()
            arms = {
                TRAINED: self._arm(TRAINED, split, Change(), known, reference, 201),
                PLANNED: self._arm(PLANNED, split, taken(client, plan, split.train, self._recipe), known, reference, 201),
            }
            comparisons = self._timed("comparing rollouts", lambda: self._compared(client, dataset, plan, split, arms))
            rates = self._rates(client, split, target, lesson)
        story = self._story(split, telling.findings(shown, decision), plan, rates, arms, comparisons)
        args.out.write_text(render(story), encoding="utf-8")

    def _split(self) -> steps.Split:
        from assay.data import open_pairs

        tokenizer = load_tokenizer(self._model)
        pairs = [row.pair for row in open_pairs(self._args.pairs).rows() if row.pair is not None]
        args = self._args
        split = steps.split(
            pairs, tokenizer, train=args.train, held_out=args.held_out, prompts=args.prompts, longest=args.longest
        )
        self._say(
            f"{len(split.train)} pairs to audit and train on, the shortest; {split.left} are left out; {len(split.held_out)} are "
            f"held out, and {len(split.prompts)} prompts are unseen"
        )
        return split

    def _decided(self, client: assay.Client, shown: Sequence[assay.Hypothesis]) -> tuple[assay.Decision, assay.Hypothesis]:
        self._say("chosen responses show more of:")
        for place, one in enumerate(shown, 1):
            self._say(
                f"  {place:>2}. {one.concept.name:<14} {one.effect.estimate:+.3f}  q {one.effect.q:.1e}  {one.concept.label}"
            )
        target, mode = (shown[0], DecisionMode.EXPLAIN_AWAY) if not self._args.decide else _asked(shown)
        note = "decided by make loop" if not self._args.decide else "decided by a person in make loop"
        decision = client.decide(target, mode, strength=self._args.strength, note=note)
        self._say(f"decided: {mode.value.replace('_', ' ')} {target.concept.name}, strength {self._args.strength:g}")
        return decision, target

    def _lesson(self, client: assay.Client, audit: assay.Audit, target: assay.Hypothesis) -> _Lesson | None:
        """The decided finding's whole lesson, stored: what is taken out of one feature alone, its neighbours teach."""
        features = steps.lesson_features(client, audit, target)
        if len(features) < 2:
            return None
        concept = client.create_concept(f"lesson of {target.concept.name}", dict.fromkeys(features, 1.0)).wait()
        self._say(f"  its lesson is shown by {len(features)} features: the plan is about all of them")
        return concept, features

    def _tell_plan(self, plan: assay.Plan) -> None:
        for name, value in telling.plan_terms(plan):
            self._say(f"  {name}: {value}")
        for one in plan.interventions:
            for warning in one.warnings:
                self._say(f"  warning: {warning.text}")

    def _untrained(self, split: steps.Split) -> Readings:
        base, tokenizer = load(self._model, self._args.dtype)
        for name, seed in ((UNTRAINED, 101), ("again", 102)):
            self._texts[name] = self._written(base, tokenizer, split, seed)
        return read_pairs(base, tokenizer, split.held_out)

    def _arm(
        self, name: str, split: steps.Split, change: Change, known: Reference, reference: Readings, seed: int
    ) -> tuple[Trained, list[float], float]:
        trained = self._timed(name, lambda: train(self._model, split.train, self._recipe, change, known))
        self._say(f"  {trained.pairs} pairs, {trained.tokens:,} tokens, loss {trained.log[0]['loss']:.3f} at first")
        self._texts[name] = self._timed(
            f"rolling out: {name}", lambda: self._written(trained.model, trained.tokenizer, split, seed)
        )
        read = read_pairs(trained.model, trained.tokenizer, split.held_out)
        return trained, margins(read, reference, self._recipe.beta), read.perplexity

    def _written(self, model: Any, tokenizer: Any, split: steps.Split, seed: int) -> list[str]:
        turns = [prompt_turns(prompt) for prompt in split.prompts]
        return roll_out(model, tokenizer, turns, Sampling(tokens=self._args.tokens), self._args.seed + seed)

    def _compared(self, client: Any, dataset: Any, plan: Any, split: steps.Split, arms: Any) -> list[Any]:
        def stored(after: str, before: str) -> Any:
            return client.upload_pairs(steps.as_pairs(split.prompts, self._texts[after], self._texts[before]))

        noise = stored("again", UNTRAINED)
        found = []
        for name, applied in ((TRAINED, None), (PLANNED, plan)):
            rollouts = stored(name, UNTRAINED)
            comparison = client.compare_rollouts(
                dataset, rollouts, noise, plan=applied or "", margins=arms[name][1], margins_of="held-out pairs"
            ).wait()
            found.append(telling.comparison(f"Predicted and observed shifts: {name}", comparison))
        return found

    def _rates(self, client: assay.Client, split: steps.Split, target: assay.Hypothesis, lesson: _Lesson | None) -> Any:
        texts = {UNTRAINED: self._texts[UNTRAINED], TRAINED: self._texts[TRAINED], PLANNED: self._texts[PLANNED]}
        expressed = {
            arm: steps.expressed(client, target.concept.features, split.prompts, written) for arm, written in texts.items()
        }
        traits = {
            name: {arm: [float(shows(text)) for text in written] for arm, written in texts.items()}
            for name, shows in steps.TRAITS.items()
        }
        rates = telling.rates(f"{target.concept.name} {target.concept.label}".strip(), expressed, traits, self._args.seed)
        if lesson:
            features = lesson[1]
            shown = {arm: steps.expressed(client, features, split.prompts, written) for arm, written in texts.items()}
            rates[1:1] = telling.rates(f"its lesson, share of {len(features)} features", shown, {}, self._args.seed)
        for trait, arms in rates:
            self._say(f"  {trait}: " + ", ".join(f"{arm} {one.value:.0%}" for arm, one in arms.items()))
        return rates

    def _story(self, split: steps.Split, findings: Any, plan: Any, rates: Any, arms: Any, comparisons: Any) -> Story:
        _, shown = rates[0]
        lede = (
            f"{rates[0][0]} is in {shown[UNTRAINED].value:.0%} of what the untrained model writes, in {shown[TRAINED].value:.0%} "
            f"after training on these pairs, and in {shown[PLANNED].value:.0%} after training on them with the plan."
        )
        tokens = sum(trained.tokens for trained, _, _ in arms.values())
        cost = [(name, f"{seconds:.0f} s") for name, seconds in self._seconds.items()]
        recipe = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in self._recipe.as_dict().items())
        return Story(
            title=f"What {self._args.pairs.name} teaches, and what came of it",
            about=[
                ("model", self._model.name),
                ("pairs trained on", str(len(split.train))),
                ("held out", str(len(split.held_out))),
                ("unseen prompts", str(len(split.prompts))),
            ],
            lede=[lede, *_lesson_lede(rates)],
            findings=findings,
            plan=telling.plan_terms(plan),
            warnings=[warning.text for one in plan.interventions for warning in one.warnings],
            rates=rates,
            training=telling.training_rows(arms),
            comparisons=comparisons,
            cost=[*cost, ("tokens trained on", f"{tokens:,}"), ("recipe", recipe)],
        )

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        self._say(name)
        began = time.monotonic()
        done = work()
        self._seconds[name] = time.monotonic() - began
        self._say(f"  {self._seconds[name]:.0f} s")
        return done


def _lesson_lede(rates: Any) -> list[str]:
    """What became of the decided finding's whole lesson, where the plan was about it."""
    return [
        f"A response shows {arms[UNTRAINED].value:.0%} of its lesson before training, {arms[TRAINED].value:.0%} after, and "
        f"{arms[PLANNED].value:.0%} after training with the plan."
        for trait, arms in rates
        if trait.startswith("its lesson")
    ]


def _asked(shown: Sequence[assay.Hypothesis]) -> tuple[assay.Hypothesis, DecisionMode]:
    """A person's choice."""
    ways = {"e": DecisionMode.EXPLAIN_AWAY, "a": DecisionMode.AMPLIFY}
    while True:
        print(
            f"which one (1 to {len(shown)}), and e to explain it away or a to amplify it, for example '1 e': ", end="", flush=True
        )
        line = sys.stdin.readline()
        if not line:
            raise LoopFailed("nothing was decided: the input ended")
        words = line.lower().split()
        if len(words) == 2 and words[0].isdigit() and 1 <= int(words[0]) <= len(shown) and words[1] in ways:
            return shown[int(words[0]) - 1], ways[words[1]]
        print(f"{html.escape(line.strip())!r} is no such choice")
