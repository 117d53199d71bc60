"""Evidence for a hypothesis: the pairs with the largest activation difference for and against it, spread over prompts and topics.

u says which pairs speak for a hypothesis and which against; it ties at ±1, so the activation difference puts them in order, and
a seeded draw decides between equals. One pass, and memory for a few dozen pairs a hypothesis: of each prompt the strongest pair,
of these `CANDIDATES` for each pair that is wanted, from which any order of blocks gives the same pairs. A pair without a
disparity is no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.draws import drawn_bits
from assay_server.audit.findings import Evidence
from assay_server.audit.matrices import Bools, Csr, Floats, Ints, csr

CANDIDATES = 8  # prompts that are kept for each pair that is wanted
_TIE_STREAM = 1 << 24


@dataclass(frozen=True, eq=False)
class EvidenceBlock:
    """One block of pairs, as the view tested them."""

    rows: Ints  # [pairs] row in the dataset
    prompts: Ints  # [pairs] prompt id
    topics: Ints | None  # [pairs] what evidence is spread over, negative where a pair is in none; None: over prompts alone
    values: Csr  # [pairs, concepts] u
    strengths: Csr | None  # [pairs, concepts] activation difference, chosen minus rejected; None where u is one
    inside: Csr | None  # [pairs, conditions] 0/1; None where there are no conditions
    compared: Bools | None = None  # [pairs] that conditions formed by the view compare; None for all


@dataclass(frozen=True, eq=False)
class Asked:
    """The hypotheses that are looked at, [hypotheses]."""

    concept: Ints  # column of `values`
    condition: Ints  # column of `inside`; −1 takes all pairs
    sign: Floats  # 1 or −1: direction of the effect


@dataclass(frozen=True, eq=False)
class Entries:
    """Where a hypothesis has a disparity or an activation difference in a block, ordered by pair, then hypothesis."""

    pair: Ints  # place in the block
    hypothesis: Ints
    u: Floats  # times the hypothesis's direction
    strength: Floats  # times the hypothesis's direction
    compared: Ints  # [hypotheses] pairs of the block inside the condition


@dataclass(frozen=True, eq=False)
class _Best:
    """Kept pairs, by hypothesis, then from the strongest."""

    hypothesis: Ints
    row: Ints
    prompt: Ints
    topic: Ints
    u: Floats
    strength: Floats  # for the side that it stands on
    draw: NDArray[np.uint64]


class EvidenceCollector:
    """The most telling pairs on both sides of every hypothesis, block by block, in any order."""

    def __init__(self, asked: Asked, count: int, seed: int) -> None:
        """Say what is looked for: `count` pairs a side; `seed` decides between equals."""
        self._asked, self._count, self._seed = asked, count, seed
        many = len(asked.concept)
        self._sides = [_Side(many, count), _Side(many, count)]

    def add(self, part: EvidenceBlock, entries: Entries) -> None:
        """Look through one block and what `entries_of` found in it."""
        for side, turn in zip(self._sides, (1.0, -1.0), strict=True):
            u, strength = turn * entries.u, turn * entries.strength
            held = np.flatnonzero((u > 0) & (strength >= side.bar[entries.hypothesis]))
            pair, hypothesis = entries.pair[held], entries.hypothesis[held]
            row, none = part.rows[pair], np.full(len(pair), -1, np.int64)
            # The concept is part of the draw: else one lucky pair would stand first wherever strengths tie.
            draw = drawn_bits((row << 32) + self._asked.concept[hypothesis], _TIE_STREAM, self._seed)
            topic = none if part.topics is None else part.topics[pair]
            side.add(_Best(hypothesis, row, part.prompts[pair], topic, entries.u[held], strength[held], draw))

    def finish(self) -> tuple[Evidence, ...]:
        """The evidence, one per hypothesis; u and strength as chosen minus rejected."""
        found: list[Evidence] = []
        for h, sign in enumerate(self._asked.sign):
            pro, con = (side.spread(h) for side in self._sides)
            found.append(
                Evidence(pro.row, pro.u * sign, con.row, con.u * sign, pro.strength * sign, con.strength * -sign),
            )
        return tuple(found)


class _Side:
    """Of every hypothesis on one side: the strongest pair of each of `CANDIDATES · count` prompts, and `count` of any prompt."""

    def __init__(self, hypotheses: int, count: int) -> None:
        self._count = count
        none = np.zeros(0, np.int64)
        self._best = _Best(none, none, none, none, np.zeros(0), np.zeros(0), np.zeros(0, np.uint64))
        self.bar = np.full(hypotheses, -np.inf)  # what is under it cannot be among them any more

    def add(self, more: _Best) -> None:
        if not len(more.row):
            return
        names = [field.name for field in fields(_Best)]
        merged = _Best(**{name: np.concatenate([getattr(self._best, name), getattr(more, name)]) for name in names})
        merged = _taken(merged, np.lexsort((merged.row, merged.draw, -merged.strength, merged.hypothesis)))
        starts = np.searchsorted(merged.hypothesis, merged.hypothesis)
        first = _first_of_prompt(merged)
        seen = np.concatenate([[0], np.cumsum(first)])
        place = seen[1:] - seen[starts]  # from 1 among the prompts of a hypothesis
        wanted = CANDIDATES * self._count
        last = np.flatnonzero(first & (place == wanted))
        self.bar[merged.hypothesis[last]] = merged.strength[last]
        kept = (first & (place <= wanted)) | (np.arange(len(starts)) - starts < self._count)
        self._best = _taken(merged, np.flatnonzero(kept))

    def spread(self, hypothesis: int) -> _Best:
        """The pairs of one hypothesis, strongest first.

        Of the strongest pair of each prompt, those of different topics; then others, then other pairs, for want of better.
        """
        first, last = np.searchsorted(self._best.hypothesis, [hypothesis, hypothesis + 1])
        best = _taken(self._best, np.arange(first, last))
        leads = np.flatnonzero(_first_of_prompt(best)).tolist()
        topics: set[int] = set()
        chosen: list[int] = []
        for place in leads:
            topic = int(best.topic[place])
            if topic < 0 or topic not in topics:
                chosen.append(place)
                topics.add(topic)
        chosen = list(dict.fromkeys([*chosen[: self._count], *leads, *range(last - first)]))[: self._count]
        return _taken(best, np.array(sorted(chosen), np.int64))


def asked_of(concept: Ints, condition: Ints, direction: Floats) -> Asked:
    """Hypotheses by concept, condition (−1: none) and the sign of their effect, of which 0 counts as positive."""
    return Asked(concept, condition, np.where(direction < 0, -1.0, 1.0))


def entries_of(part: EvidenceBlock, asked: Asked) -> Entries:
    """Every disparity and activation difference of the hypotheses' concepts inside their conditions."""
    allowed = inside_conditions(part, asked.condition)
    keys, u = _keyed(part.values, asked, allowed)
    if part.strengths is None:
        strength = u
    else:
        there, strengths = _keyed(part.strengths, asked, allowed)
        every = np.sort(np.concatenate([keys, there]), kind="stable")  # two runs in order: merged, not sorted
        every = every[np.diff(every, prepend=-1) > 0]
        (u, strength), keys = (_at(every, *told) for told in ((keys, u), (there, strengths))), every
    pair, hypothesis = np.divmod(keys, max(1, len(asked.concept)))
    everything = np.full(len(asked.concept), len(part.rows))
    compared = everything if allowed is None else np.bincount(allowed.indices, minlength=len(everything))
    return Entries(pair, hypothesis, u, strength, compared)


def inside_conditions(part: EvidenceBlock, condition: Ints) -> Csr | None:
    """Which pairs count for which hypothesis, 0/1 float64 [pairs, hypotheses]; None where all do."""
    held = np.flatnonzero(condition >= 0)
    if part.inside is None or not len(held):
        return None
    everywhere = np.flatnonzero(condition < 0)
    choose = Csr((np.ones(len(held)), (condition[held], held)), shape=(part.inside.shape[1], len(condition)))
    allowed = csr(part.inside.astype(np.float64) @ choose)
    if not len(everywhere):
        return allowed
    rows = np.repeat(np.arange(len(part.rows)), len(everywhere))
    anywhere = Csr((np.ones(len(rows)), (rows, np.tile(everywhere, len(part.rows)))), shape=allowed.shape)
    return Csr(allowed + anywhere)


def _keyed(values: Csr, asked: Asked, allowed: Csr | None) -> tuple[Ints, Floats]:
    """Non-zero values of each hypothesis, times its sign, with ascending keys pair · hypotheses + hypothesis."""
    many = len(asked.concept)
    pick = Csr((asked.sign, (asked.concept, np.arange(many))), shape=(values.shape[1], many))
    turned = Csr(values @ pick)
    turned = csr(turned if allowed is None else turned.multiply(allowed))
    pair = np.repeat(np.arange(turned.shape[0], dtype=np.int64), np.diff(turned.indptr))
    return pair * many + turned.indices, turned.data


def _at(every: Ints, keys: Ints, values: Floats) -> Floats:
    found = np.zeros(len(every))
    found[np.searchsorted(every, keys)] = values
    return found


def _first_of_prompt(ordered: _Best) -> Bools:
    """Whether an entry is the first of its hypothesis and prompt."""
    by_prompt = np.lexsort((ordered.prompt, ordered.hypothesis))
    hypothesis, prompt = ordered.hypothesis[by_prompt], ordered.prompt[by_prompt]
    new = np.ones(len(by_prompt), np.bool_)
    new[1:] = (hypothesis[1:] != hypothesis[:-1]) | (prompt[1:] != prompt[:-1])
    first = np.zeros(len(by_prompt), np.bool_)
    first[by_prompt] = new
    return first


def _taken(best: _Best, order: NDArray[Any]) -> _Best:
    return _Best(**{field.name: getattr(best, field.name)[order] for field in fields(_Best)})
