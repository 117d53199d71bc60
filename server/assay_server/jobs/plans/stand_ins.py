"""What a plan acts on where a decision is about something that is read off the data, of which the SAE has no direction.

The findings of one lesson say the same thing (``audit.lessons``), so its members that the SAE has stand in for such a concept:
its single features where it has any, else its strongest cluster, stored concept or direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay_server.audit.findings import ViewKind
from assay_server.audit.shards import BY_MAX
from assay_server.errors import FailedPrecondition
from assay_server.jobs.audits.types import ConceptRow, HypothesisRow

FEATURES = 16  # at most stand in


@dataclass(frozen=True, slots=True)
class StandIn:
    """Members of a lesson, of its direction.

    Attributes:
        members: strongest first by |z|; single features, or one concept of another kind.
        note: a sentence that says so, with the members' names.
    """

    members: tuple[HypothesisRow, ...]
    note: str

    @property
    def features(self) -> tuple[int, ...]:
        """The features of the members, ascending; empty for a direction."""
        return tuple(sorted({feature for one in self.members for feature in one.concept.features}))


def acts_on_nothing(concept: ConceptRow) -> bool:
    """Whether the SAE has nothing of a concept: descriptors, words, and the models that wrote the responses."""
    return not concept.features and not concept.name.startswith("concepts/")


def stand_in(about: HypothesisRow, hypotheses: Sequence[HypothesisRow], field: str) -> StandIn:
    """Members of its lesson that the SAE has.

    Args:
        about: a hypothesis whose concept ``acts_on_nothing``.
        hypotheses: those of its audit.
        field: where the decision was given.

    Raises:
        FailedPrecondition: NO_STAND_IN: there are none.
    """
    name, sign = about.concept.name, about.effect.estimate
    fellows = [
        one
        for one in hypotheses
        if (one.view, one.lesson) == (about.view, about.lesson)
        and about.lesson
        and one.effect.estimate * sign > 0
        and not acts_on_nothing(one.concept)
    ]
    fellows.sort(key=lambda one: (-abs(one.effect.z), one.rank))
    by_feature: dict[str, HypothesisRow] = {}  # one that was tested in two ways counts once, as its stronger test
    for one in fellows:
        if one.concept.name.startswith("feature/"):
            by_feature.setdefault(one.concept.name.removesuffix(BY_MAX), one)
    singly = list(by_feature.values())
    members = tuple(singly[:FEATURES] or fellows[:1])
    if not members:
        raise FailedPrecondition(
            f"{about.name} is about {name}, which is read off the data and has no direction in the SAE, and {_why(about)}. "
            "Decide about a feature, a cluster or a stored concept instead; or make a concept from examples of it "
            "(`assay concepts`), and plan with that.",
            reason="NO_STAND_IN",
            field=field,
            details={"hypothesis": about.name, "concept": name, "lesson": about.lesson},
        )
    told = ", ".join(f"{one.concept.name} (z = {one.effect.z:+.1f})" for one in members)
    what = f"the {len(members)} strongest single features" if len(members) > 1 else "the strongest SAE concept"
    left = len(singly) - len(members)
    more = f" {left} weaker ones are left out." if left > 0 else ""
    return StandIn(
        members,
        f"{name} is read off the data and has no direction in the SAE. The plan acts on {what} of its lesson in the same "
        f"direction instead: {told}.{more}",
    )


def _why(about: HypothesisRow) -> str:
    if about.view is ViewKind.STATED:
        return "it was stated alone, so no lesson holds features that could stand in for it"
    if not about.lesson:
        return "it belongs to no lesson, whose features could stand in for it"
    return f"its lesson (number {about.lesson} of its view) holds no feature, cluster or direction that could stand in for it"
