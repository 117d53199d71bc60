"""What a finding or a condition is called: by what this dataset's own responses and prompts hold, not by labels from elsewhere.

A name is a claim that can be checked: so many of the texts where it happens hold this, so many of the others do. What passes
no bar stays without a name. Bars are on sizes that a reader sees, not on p alone, which large datasets pass with anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from assay_server.audit.matrices import Bools, Codes, Csr, Floats, Ints, csr, prompt_ids
from assay_server.audit.ngrams import Hashes
from assay_server.audit.reason import Reason
from assay_server.audit.watch import Check, go_on
from assay_server.audit.words import contrast_words, shown_words

LEAST_TEXTS = 10
DESCRIPTOR_AUROC, DESCRIPTOR_LOW = 0.9, 0.8
# "Holds one of the words" has AUROC ½ + (share − others) / 2: this asks for at least 30 points between the two.
WORDS_AUROC = 0.65
METADATA_SHARE, METADATA_AHEAD = 0.8, 0.25
PROMPT_SHARE, PROMPT_TIMES = 0.5, 2.0
_BLOCK = 32_768
_Z = float(special.ndtri(0.975))


class NameKind(StrEnum):
    """What the terms of a name are."""

    NONE = ""
    DESCRIPTOR = "descriptor"  # the index of one descriptor
    WORDS = "words"  # indices of n-grams
    METADATA = "metadata"  # a key's index and a value's code


@dataclass(frozen=True)
class Name:
    """A name with its evidence; no terms where nothing passed."""

    kind: NameKind = NameKind.NONE
    terms: tuple[int, ...] = ()
    share: float = 0.0  # of the texts (or pairs) that are named, those that hold a term
    others: float = 0.0  # of the others
    auroc: float | None = None  # of the term for a finding; None for conditions


@dataclass(frozen=True, eq=False)
class Auroc:
    """How well amounts tell texts that hold a concept from the others, [findings, descriptors]; ½, 0 and 1 with a reason."""

    value: Floats
    low: Floats
    high: Floats
    share: Floats  # of the texts that hold the concept, those with an amount above 0
    others: Floats
    firing: Ints  # [findings] texts that hold the concept
    reason: Codes  # [findings] Reason: CONSTANT where all texts or none hold the concept


def auroc(presence: Any, amounts: ArrayLike, *, check: Check = go_on) -> Auroc:
    """The probability that a text with the concept has more of a descriptor than one without, ties counted half.

    From rank sums (Mann and Whitney 1947), 95% interval by Hanley and McNeil 1982, cut to [0, 1]. The interval takes texts as
    independent: it is a bar for names, not a test. Rank sums are halves of integers, so the result does not depend on blocks.

    Args:
        presence: which texts hold which concept, CSR or dense [texts, findings], not 0 where they do.
        amounts: how much of each descriptor each text has, [texts, descriptors].
        check: called between blocks; may raise to stop.

    Raises:
        ValueError: an amount is not finite, or the numbers of texts differ.
    """
    values = np.asarray(amounts, np.float64)
    if values.ndim != 2 or presence.shape[0] != len(values) or not np.isfinite(values).all():
        raise ValueError(f"amounts must be finite numbers of {presence.shape[0]} texts, got shape {values.shape}")
    texts, width = values.shape
    ranks = np.empty_like(values)
    for column in range(width):
        check()
        ranks[:, column] = stats.rankdata(values[:, column])
    sums, firing = np.zeros((presence.shape[1], 2 * width)), np.zeros(presence.shape[1], np.int64)
    for first in range(0, texts, _BLOCK):
        check()
        rows = slice(first, first + _BLOCK)
        block = csr(presence[rows], name="presence")
        held = Csr((np.ones(block.nnz), block.indices, block.indptr), shape=block.shape)
        sums += held.T @ np.concatenate([ranks[rows], values[rows] > 0], axis=1)
        firing += np.bincount(block.indices, minlength=block.shape[1])
    ones, zeros = np.maximum(firing, 1)[:, None].astype(np.float64), np.maximum(texts - firing, 1)[:, None].astype(np.float64)
    stands = ((firing > 0) & (firing < texts))[:, None]
    value = np.where(stands, (sums[:, :width] - ones * (ones + 1) / 2) / (ones * zeros), 0.5)
    with_one, with_zero = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (ones - 1) * (with_one - value**2) + (zeros - 1) * (with_zero - value**2)
    error = _Z * np.sqrt(np.maximum(spread, 0.0) / (ones * zeros))
    holding = sums[:, width:]
    return Auroc(
        value=value,
        low=np.where(stands, np.maximum(value - error, 0.0), 0.0),
        high=np.where(stands, np.minimum(value + error, 1.0), 1.0),
        share=holding / ones,
        others=((values > 0).sum(axis=0) - holding) / zeros,
        firing=firing,
        reason=np.where(stands[:, 0], Reason.NONE, Reason.CONSTANT).astype(np.uint8),
    )


def name_findings(
    presence: Any,
    amounts: ArrayLike,
    counts: Csr,
    words: ArrayLike,
    prompts: ArrayLike,
    ngrams: Hashes,
    telling: ArrayLike,
    *,
    check: Check = go_on,
) -> tuple[Name, ...]:
    """A name for each finding's concept, from the responses that hold it.

    The descriptor that predicts presence best names it, at an AUROC over 0.9 whose interval stays over 0.8, from at least ten
    responses that hold the concept. Else words: chosen on every second prompt against silent responses to the same
    prompts, and judged on the others, where "holds one of them" must have an AUROC of at least 0.65. Else nothing.

    Args:
        presence: which responses hold each finding's concept, CSR or dense [responses, findings].
        amounts: descriptors of each response, [responses, descriptors].
        counts: n-grams of each response, [responses, ngrams].
        words: words of each response, [responses].
        prompts: the prompt of each response, [responses].
        ngrams: the words of each n-gram, [ngrams, 3], of a `Vocabulary`.
        telling: True for n-grams that may stand alone, [ngrams].
        check: called between findings; may raise to stop.

    Raises:
        ValueError: see `auroc` and `contrast_words`.
    """
    scores = auroc(presence, amounts, check=check)
    names = [_descriptor(scores, finding) for finding in range(len(scores.firing))]
    unnamed = np.flatnonzero([not name.terms for name in names])
    if not len(unnamed):
        return tuple(names)
    ids = prompt_ids(prompts, counts.shape[0])
    held_back = np.unique(ids, return_inverse=True)[1] % 2 == 1
    fit, judge = np.flatnonzero(~held_back), np.flatnonzero(held_back)
    fit_counts, fit_words, judge_holds = Csr(counts[fit]), np.asarray(words, np.int64)[fit], _by_ngram(Csr(counts[judge]))
    by_finding = csr(presence[:, unnamed], name="presence").T.tocsr()
    for place, finding in enumerate(unnamed.tolist()):
        check()
        member = np.zeros(len(ids), np.bool_)
        member[by_finding.indices[by_finding.indptr[place] : by_finding.indptr[place + 1]]] = True
        if min(member[fit].sum(), member[judge].sum()) >= LEAST_TEXTS:
            contrast = contrast_words(fit_counts, fit_words, member[fit], ids[fit])
            names[finding] = _judged(shown_words(contrast, ngrams, telling), judge_holds, member[judge])
    return tuple(names)


def name_condition(
    inside: ArrayLike,
    metadata: ArrayLike,
    counts: Csr,
    words: ArrayLike,
    prompts: ArrayLike,
    ngrams: Hashes,
    telling: ArrayLike,
) -> Name:
    """A name for the pairs inside a condition, from their metadata or else their prompts' words.

    A metadata value that at least 80% of the inside pairs have, 25 points more than the pairs outside, names it; with n the
    number of prompts on each side, the 95% Wilson intervals (Wilson 1927) of the two shares must not meet. Else words of
    the prompts: at least half of the inside prompts hold one of them, and twice the share of the outside prompts. A prompt
    counts once, as inside where half of its pairs are. Else nothing.

    Args:
        inside: True for the pairs inside, [pairs].
        metadata: the code of each key's value, [pairs, keys]; −1 where a pair has none.
        counts: n-grams of each pair's prompt, [pairs, ngrams].
        words: words of each pair's prompt, [pairs].
        prompts: the prompt of each pair, [pairs].
        ngrams: the words of each n-gram, [ngrams, 3], of a `Vocabulary`.
        telling: True for n-grams that may stand alone, [ngrams].

    Raises:
        ValueError: lengths disagree.
    """
    within, codes = np.asarray(inside, np.bool_), np.asarray(metadata, np.int64)
    ids, size = prompt_ids(prompts, counts.shape[0]), np.asarray(words, np.int64)
    if within.shape != ids.shape or size.shape != ids.shape or codes.shape[:1] != ids.shape or codes.ndim != 2:
        shapes = f"{within.shape}, {size.shape} and {codes.shape}"
        raise ValueError(f"inside, words and metadata must have {len(ids)} rows, got {shapes}")
    if not within.any() or within.all():
        return Name()
    named = _metadata(within, codes, ids)
    if named.terms:
        return named
    _, first, place = np.unique(ids, return_index=True, return_inverse=True)
    member = 2 * np.bincount(place, within) >= np.bincount(place)
    own = Csr(counts[first])
    terms = shown_words(contrast_words(own, size[first], member, ids[first]), ngrams, telling)
    share, others = _shares(_by_ngram(own), terms, member)
    good = bool(terms) and share >= PROMPT_SHARE and share >= PROMPT_TIMES * others
    return Name(NameKind.WORDS, terms, share, others) if good else Name()


def _descriptor(scores: Auroc, finding: int) -> Name:
    firing, value = int(scores.firing[finding]), scores.value[finding]
    if scores.reason[finding] != Reason.NONE or firing < LEAST_TEXTS or not len(value):
        return Name()
    best = int(value.argmax())
    if value[best] <= DESCRIPTOR_AUROC or scores.low[finding, best] <= DESCRIPTOR_LOW:
        return Name()
    share, others = float(scores.share[finding, best]), float(scores.others[finding, best])
    return Name(NameKind.DESCRIPTOR, (best,), share, others, float(value[best]))


def _judged(terms: tuple[int, ...], holds: Csr, member: Bools) -> Name:
    share, others = _shares(holds, terms, member)
    value = 0.5 + (share - others) / 2
    return Name(NameKind.WORDS, terms, share, others, value) if terms and value >= WORDS_AUROC else Name()


def _by_ngram(counts: Csr) -> Csr:
    """[ngrams, texts]"""
    return counts.T.tocsr()


def _shares(holds: Csr, terms: tuple[int, ...], member: Bools) -> tuple[float, float]:
    """Of the member texts, and of the others, those that hold one of the terms."""
    held = np.zeros(len(member), np.bool_)
    for term in terms:
        held[holds.indices[holds.indptr[term] : holds.indptr[term + 1]]] = True
    inside, outside = max(int(member.sum()), 1), max(int((~member).sum()), 1)
    return int(held[member].sum()) / inside, int(held[~member].sum()) / outside


def _metadata(inside: Bools, codes: Ints, prompts: Ints) -> Name:
    sides = inside, ~inside
    pairs, clusters = [int(side.sum()) for side in sides], [len(np.unique(prompts[side])) for side in sides]
    best, ahead = Name(), 0.0
    for key in range(codes.shape[1]):
        known = codes[inside & (codes[:, key] >= 0), key]
        value = int(np.bincount(known).argmax()) if len(known) else -1
        share, others = (int((codes[side, key] == value).sum()) / n for side, n in zip(sides, pairs, strict=True))
        apart = _wilson(share, clusters[0])[0] > _wilson(others, clusters[1])[1]
        enough = value >= 0 and share >= METADATA_SHARE and share - others >= METADATA_AHEAD and apart
        if enough and share - others > ahead:
            best, ahead = Name(NameKind.METADATA, (key, value), share, others), share - others
    return best


def _wilson(share: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share of n."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    width = _Z / (1 + _Z**2 / n) * float(np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)))
    return middle - width, middle + width
