"""Groups of findings that say the same thing, from their z and the correlations of their scores alone.

Findings of one direction are joined by average linkage (Sokal and Michener 1958): the scores of a core correlate by `CORE` on
average, which does not depend on how many pairs there are. A core's component is the mean of its members' standardised scores
(Vigneau and Qannari 2003, local groups): many findings that measure one cause with error measure it together almost without.
Cores open lessons in order of what is left of their component beside those of the lessons before, by the one-step score test

    z_j|c = (z_j − ρ_jc z_c) / √(1 − ρ_jc²),

forward selection as in conditional analysis (Yang et al. 2012, Nature Genetics 44:369). A core of which less than half is left
says what those before it said: it opens none. Its findings, one by one, go to the lesson that explains most of their evidence z².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import cluster, special

from assay_server.audit.matrices import Bools, Floats, Ints

LESSONS = 20  # a direction
CORE = 0.15  # mean correlation at which cores are joined
ENTRY_P = 1e-3  # what is left of a core must pass this for it to open a lesson
NEW = 0.5  # share of a core's z² that the lessons before it must leave
MEMBER = 1 / 3  # share of a finding's z² that a lesson must explain for it to belong there
ALIKE = 0.1  # or its correlation with the lesson's component
LEAD = 0.5  # |z| of a lead, as a share of the strongest in its lesson

_LAST = 4
_KINDS = {"text": 0, "word": 3, "cluster": _LAST, "response-cluster": _LAST}
_FEATURE = 2
# What goes along with almost any lesson, and so says least of one: how long, how hard, and whom it addresses.
_FORM = frozenset(
    [
        *("length", "sentence-length", "paragraphs", "reading-grade", "truncation", "repetition", "echo"),
        *("first-person", "second-person", "question", "exclamation"),
    ]
)


@dataclass(frozen=True, eq=False)
class Groups:
    """Lessons among findings, most important first."""

    lesson: Ints  # [findings] from 1; 0: the rest
    leads: Ints  # [lessons] the finding that leads each
    z: Floats  # [lessons] of that finding beside the components of the lessons of its direction before it

    def members(self) -> Bools:
        """Which findings each lesson holds, [lessons, findings]."""
        return self.lesson[None, :] == np.arange(1, len(self.leads) + 1)[:, None]


def kind_of(concept: str) -> int:
    """How much a concept tells a reader by its name, 0 most: what a text does; its form; features, stored concepts and
    directions; words; clusters."""
    kind, _, name = concept.partition("/")
    form = kind == "text" and name.removeprefix("more-") in _FORM
    return _KINDS.get(kind, _FEATURE) + form


def grouped(z: Floats, correlation: Floats, kinds: Ints) -> Groups:
    """Lessons of each direction, in one order.

    Args:
        z: of each finding, [findings].
        correlation: of their scores, [findings, findings].
        kinds: `kind_of` each, [findings].
    """
    lesson, leads = np.zeros(len(z), np.int64), list[int]()
    entry, left = list[float](), list[float]()
    for sign in (1.0, -1.0):
        some = np.flatnonzero(np.sign(z) == sign)
        if len(some):
            own, weight, opened = _one_direction(np.abs(z[some]), correlation[np.ix_(some, some)])
            lesson[some[own > 0]] = own[own > 0] + len(leads)
            for place, strength in enumerate(opened):
                members = np.flatnonzero(own == place + 1)
                lead = members[_lead(np.abs(z[some[members]]), kinds[some[members]])]
                rest = _beside(np.abs(z[some]), correlation[np.ix_(some, some)], weight[:, :place])[lead]
                leads.append(int(some[lead]))
                entry.append(strength)
                left.append(sign * float(rest if rest > 0 else abs(z[some[lead]])))
    order = np.argsort(-np.array(entry, np.float64), kind="stable")
    place = np.zeros(len(order) + 1, np.int64)
    place[order + 1] = np.arange(1, len(order) + 1)
    return Groups(place[lesson], np.array(leads, np.int64)[order], np.array(left, np.float64)[order])


def _one_direction(z: Floats, correlation: Floats) -> tuple[Ints, Floats, list[float]]:
    """The lesson of each finding, the weights of the components [findings, lessons], and z at which each lesson opened."""
    core = _cores(correlation)
    weight = np.equal.outer(core, np.arange(core.max() + 1)).astype(np.float64)
    spread = weight.T @ correlation @ weight
    weight /= np.sqrt(spread.diagonal())
    alone = weight.T @ z
    left, covariance = alone.copy(), weight.T @ correlation @ weight
    bound = -float(special.ndtri(ENTRY_P / 2))
    opened, entry = list[int](), list[float]()
    while len(opened) < LESSONS:
        variance = covariance.diagonal()
        free = variance > 1e-9
        strength = np.divide(left, np.sqrt(np.where(free, variance, 1.0)), out=np.zeros_like(left), where=free)
        strength[(strength < bound) | (strength**2 < NEW * alone**2)] = 0.0
        best = int(strength.argmax())
        if strength[best] <= 0:
            break
        opened.append(best)
        entry.append(float(strength[best]))
        slope = covariance[best] / covariance[best, best]
        left = left - slope * left[best]
        covariance = covariance - np.outer(slope, covariance[best])
    lesson = np.zeros(len(z), np.int64)
    if not opened:
        return lesson, weight[:, :0], entry
    weight = weight[:, opened]
    alike = correlation @ weight
    remains = np.stack([np.maximum(_beside(z, correlation, weight[:, [k]]), 0.0) for k in range(len(opened))], axis=1)
    share = 1 - np.square(remains / z[:, None])
    lesson = np.where(share.max(axis=1) >= MEMBER, share.argmax(axis=1) + 1, 0)
    lesson = np.where((lesson == 0) & (alike.max(axis=1) >= ALIKE), alike.argmax(axis=1) + 1, lesson)
    for place, one in enumerate(opened):
        lesson[core == one] = place + 1
    return lesson, weight, entry


def _cores(correlation: Floats) -> Ints:
    """The core of each finding, [findings], from 0."""
    if len(correlation) == 1:
        return np.zeros(1, np.int64)
    distance = 1.0 - correlation[np.triu_indices(len(correlation), 1)]
    tree = cluster.hierarchy.linkage(distance, "average")
    return cluster.hierarchy.fcluster(tree, 1.0 - CORE, "distance").astype(np.int64) - 1


def _beside(z: Floats, correlation: Floats, weight: Floats) -> Floats:
    """z of every finding beside some components, [findings]; 0 of what they explain wholly."""
    if not weight.shape[1]:
        return z
    cross = correlation @ weight
    slope = cross @ np.linalg.pinv(weight.T @ cross, hermitian=True)
    left, variance = z - slope @ (weight.T @ z), 1.0 - (slope * cross).sum(axis=1)
    free = variance > 1e-9
    return np.divide(left, np.sqrt(np.where(free, variance, 1.0)), out=np.zeros_like(z), where=free)


def _lead(strength: Floats, kinds: Ints) -> int:
    """The most readable kind that holds a finding of at least `LEAD` of the strongest; never a cluster beside anything else."""
    readable = kinds < _LAST
    able = readable & (strength >= LEAD * strength.max())
    if not able.any():
        able = readable if readable.any() else np.ones(len(kinds), np.bool_)
        return int(np.where(able, strength, -1.0).argmax())
    return int(np.where(able & (kinds == kinds[able].min()), strength, -1.0).argmax())
