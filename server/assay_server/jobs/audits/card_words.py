"""The sentences of cards, from a hypothesis and its members: plain English, the same on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from assay_server import figures
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.naming import (
    concept_name,
    counts_more,
    family,
    is_compared,
    listed,
    quantified,
    quoted_tokens,
    several,
    where_words,
)
from assay_server.jobs.audits.types import AuditSettings, HypothesisRow, LengthSummary, Nuisance

EFFECT_UNITS = {
    ViewKind.GLOBAL: "mean signed disparity, from −1 to +1",
    ViewKind.FEATURE_CONDITIONED: "mean inside minus mean outside",
    ViewKind.PROMPT_CONDITIONED: "mean inside minus mean outside, in standard deviations",
    ViewKind.STATED: "mean signed disparity",
}
NEARLY_ALL, MANY = 0.5, 0.1  # shares of pairs that show it and are "almost everywhere" and "many pairs"
FEW_CARRY = 0.1  # share of pairs that carry half of it, and are few
MEMBERS = 4
_READ = {"descriptor": 0, "tokens": 2, "": 2}  # the order in which kinds of names are listed


def is_less(row: HypothesisRow) -> bool:
    """Whether chosen responses have less of it."""
    return row.effect.estimate < 0


def member_names(lead: HypothesisRow, others: Sequence[HypothesisRow]) -> list[str]:
    """What goes along with a lead, the lead first, descriptors next, names from tokens last; what goes the other way says so.

    Of names from tokens that share half of them, one is told.
    """
    first = concept_name(lead.concept)
    told, said = {first.text: None}, {first.text.casefold()}
    tokens = [one for one in [quoted_tokens(first.text)] if one and first.kind == "tokens"]
    for other in sorted(others, key=lambda other: _READ.get(concept_name(other.concept).kind, 1)):
        name = concept_name(other.concept)
        if not name.known or name.text.casefold() in said:
            continue
        if name.kind == "tokens":
            own = quoted_tokens(name.text)
            if own and any(2 * len(own & one) >= min(len(own), len(one)) for one in tokens):
                continue  # the same tokens in another order say nothing new
            tokens += [own] if own else []
        turned = is_less(other) != is_less(lead)
        told.setdefault(quantified(name, less=is_less(other)) if turned else name.text)
        said.add(name.text.casefold())
    return list(told)


def title(lead: HypothesisRow, others: Sequence[HypothesisRow]) -> str:
    """ "More formatting, almost everywhere", "Less “sorry” where topic = cooking".

    What differs from elsewhere only in being weaker says so: "More lists, though less so than elsewhere, where topic = cooking".
    """
    weaker = still_more(lead)
    so = ", though less so than elsewhere," if weaker else ""
    return f"{_subject(lead, others, turned=weaker)}{so}{_scope(lead)}"


def sentence(lead: HypothesisRow, others: Sequence[HypothesisRow], names: Sequence[str]) -> str:
    """The title, what it is made of, and how often."""
    head = title(lead, others)
    compared = lead.condition is not None and lead.view is not ViewKind.STATED and not still_more(lead)
    than = " than elsewhere" if compared else ""
    often = how_often(lead)
    if group_of(lead, others):
        return f"{head}{than}: {listed(list(names), limit=MEMBERS)}; {often}."
    turned = any(name.startswith(("more ", "less ", "fewer ")) for name in names[1:])
    with_it = "Along with it" if turned else f"{'Less' if is_less(lead) else 'More'} of these too"
    along = f" {with_it}: {listed([several(name) for name in names[1:]], limit=MEMBERS)}." if len(names) > 1 else ""
    return f"{head}{than}: {often}.{along}"


def how_often(row: HypothesisRow) -> str:
    """In which share of pairs one response has it and the other does not; the effect with its unit where that was not counted."""
    chosen, rejected = row.only_chosen, row.only_rejected
    if chosen is None or rejected is None or not row.inside or chosen == rejected:
        return f"the effect is {figures.signed(row.effect.estimate)} ({EFFECT_UNITS[row.view]})"
    less, whole = is_less(row) != still_more(row), row.inside
    ahead, behind = (rejected, chosen) if less else (chosen, rejected)
    winner, loser = ("rejected", "chosen") if less else ("chosen", "rejected")
    pairs = "pairs" if row.condition is None else f"the {figures.plural(whole, 'pair')} there"
    if is_compared(concept_name(row.concept)):
        verb = "true of chosen against rejected"
    elif counts_more(row.concept):
        verb = f"{winner} has more of it than {loser}"
    else:
        verb = f"{winner} has it and {loser} does not"
    told = f"{verb} in {figures.share(ahead, whole)} of {pairs}, the reverse in {figures.share(behind, whole)}"
    if still_more(row):
        return f"{told}; elsewhere the difference is larger"
    return told + _turned(row) if ahead < behind else told


def sureness(row: HypothesisRow, settings: AuditSettings) -> str:
    """How sure it is, in a line."""
    effect = row.effect
    if effect.reason:
        return f"It could not be tested: {effect.reason.rstrip('.')}."
    q = f"{'p' if row.view is ViewKind.STATED else 'q'} {'= ' if effect.q > 0 else ''}{figures.probability(effect.q)}"
    words = controlled_words(settings)
    control = f"controlled for {words}" if row.controlled is not None and words else "nothing was controlled for"
    if row.lesson_stability is None:
        return _sentence(f"{control}; {q}")
    return _sentence(f"returned in {figures.share(row.lesson_stability, 1.0)} of resamples; {q}; {control}")


def carried(row: HypothesisRow) -> str:
    """By how many pairs it is carried, and so whether filtering would take it out; "" where that was not measured."""
    if row.carried_by is None:
        return ""
    told = f"Half of it is carried by {figures.share(row.carried_by, 1.0)} of the pairs"
    left = row.left_without_top
    if left is not None:
        told += f"; without the strongest 5%, {figures.share(left, 1.0)} of it is left"
    few = row.carried_by <= FEW_CARRY and (left is None or left <= NEARLY_ALL)
    return f"{told}: filtering {'them would take most of it out' if few else 'single pairs would not take it out'}."


def exception(row: HypothesisRow) -> str:
    """What a conditioned finding of the same concept, the other way round, says of a global one: where it does not hold."""
    words, name = where_words(row.condition) if row.condition is not None else ("", "everywhere")
    chosen, rejected = row.only_chosen, row.only_rejected
    if chosen is not None and rejected is not None and row.inside and (chosen < rejected) == is_less(row) and chosen != rejected:
        return f"the reverse {words} {name}"
    return f"weaker {words} {name}"


def length_words(length: LengthSummary) -> tuple[str, str, str]:
    """Title, sentence and sureness of what length alone says."""
    longer = length.direction == "longer"
    ahead, behind = (length.longer, length.shorter) if longer else (length.shorter, length.longer)
    names = ("longer", "shorter") if longer else ("shorter", "longer")
    head = f"{names[0].capitalize()} responses"
    told = (
        f"{head}: the chosen one has {length.ratio:.2f} times the tokens of the rejected one (median); it is {names[0]} in "
        f"{figures.share(ahead, 1.0)} of pairs, {names[1]} in {figures.share(behind, 1.0)}."
    )
    right = length.accuracy if longer else 1 - length.accuracy
    sure = f"“The {names[0]} one wins” is right for {figures.share(right, 1.0)} of pairs; p "
    sure += f"{'= ' if length.p > 0 else ''}{figures.probability(length.p)}"
    if length.information_left is not None:
        sure += f"; controlling for it leaves {figures.share(length.information_left, 1.0)} of the pairs' information"
    return head, told, sure + "."


def controlled_words(settings: AuditSettings) -> str:
    """What is controlled for: "length", "length and formatting", "" for nothing."""
    return " and ".join("formatting" if one is Nuisance.FORMAT else one.value for one in settings.nuisances)


def still_more(row: HypothesisRow) -> bool:
    """Whether a row under a condition differs from elsewhere only in being weaker: counted there, it goes the other way."""
    if row.condition is None or row.only_chosen is None or row.only_rejected is None or row.view is ViewKind.STATED:
        return False
    said, other = (row.only_rejected, row.only_chosen) if is_less(row) else (row.only_chosen, row.only_rejected)
    return said < other


def _subject(lead: HypothesisRow, others: Sequence[HypothesisRow], *, turned: bool = False) -> str:
    group, less = group_of(lead, others), is_less(lead) != turned
    text = f"{'less' if less else 'more'} {group}" if group else quantified(concept_name(lead.concept), less=less)
    return text[0].upper() + text[1:]


def group_of(lead: HypothesisRow, others: Sequence[HypothesisRow]) -> str:
    """The family of a lead that has another member of it along, in the same direction; "" otherwise."""
    group, own = family(lead.concept), concept_name(lead.concept).text
    along = any(
        family(other.concept) == group and is_less(other) == is_less(lead) and concept_name(other.concept).text != own
        for other in others
    )
    return group if group and along else ""


def _scope(row: HypothesisRow) -> str:
    if row.condition is not None:
        return " {} {}".format(*where_words(row.condition))
    chosen, rejected = row.only_chosen, row.only_rejected
    if chosen is None or rejected is None or not row.inside:
        return ", over all pairs"
    share = (rejected if is_less(row) else chosen) / row.inside
    return ", almost everywhere" if share >= NEARLY_ALL else ", in many pairs" if share >= MANY else ", in few pairs"


def _turned(row: HypothesisRow) -> str:
    return "" if row.controlled is None else "; what is controlled for turns it round"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
