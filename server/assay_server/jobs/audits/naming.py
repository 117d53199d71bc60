"""What concepts and conditions are called: one name for each, on the page, in the terminal and in a file.

What can be seen of a concept names it first (``NamedText``), then its label, if that predicts where the concept fires; a weak
label's words are never shown as a name. Names from tokens say so. Control characters are left to whoever shows a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from assay_server.descriptors import INDEX, by_id
from assay_server.jobs.audits.types import ConceptRow, ConditionRow, LabelText, NamedText
from assay_server.labelling.evidence import listed_tokens
from assay_server.labelling.labels import LABEL_BAR

NAME_LIMIT = 160  # code points of a name

# Families of text descriptors that can be the title of a group; the others are too mixed to be one thing.
_FAMILIES = frozenset({"formatting"})
_HEAD = re.compile(r" (?:of|in|with|that|about|for|to|from|on|at|like|which|who|and|or)\b|[:,;(]")
# Amounts of what every text has: "longer texts", not "more long texts".
_COMPARED = {
    "a long text": ("longer texts", "shorter texts"),
    "long sentences": ("longer sentences", "shorter sentences"),
    "demanding prose": ("harder prose", "easier prose"),
}
_SINGULAR = ("ss", "us", "is", "ics", "news", "thanks")


@dataclass(frozen=True, slots=True)
class Name:
    """A name to show.

    Attributes:
        text: as it stands in a sentence behind "more" or "less".
        kind: as ``NamedText.kind``; "" where there is no name.
    """

    text: str
    kind: str

    @property
    def known(self) -> bool:
        """Whether it says what the concept is."""
        return bool(self.kind)


def concept_name(concept: ConceptRow) -> Name:
    """What a concept is called; "unnamed (feature 17)" where nothing good enough is known."""
    return _name(concept.named, concept.label, concept.name)


def condition_name(condition: ConditionRow) -> Name:
    """What a condition is called: "topic = cooking", "“poem”, “story”", "unnamed (data cluster 7)"."""
    if condition.name.startswith("metadata/"):
        key, _, value = condition.name.removeprefix("metadata/").partition("=")
        return Name(_clipped(f"{key} = {value}"), "metadata")
    return _name(condition.named, condition.label, condition.name)


def where_words(condition: ConditionRow) -> tuple[str, str]:
    """The words before a condition's name, and the name: ("where", "topic = cooking"), ("where prompts are about", "“poem”")."""
    name = condition_name(condition)
    if name.kind == "metadata":
        return "where", name.text
    thing = name.text if name.known else f"something {name.text}"
    if condition.name.startswith("data-cluster/"):
        return "in pairs with", thing
    if condition.name.startswith("prompt-cluster/"):
        return "where prompts are about", thing
    return "where the prompt has", thing


def quantified(name: Name, *, less: bool) -> str:
    """The name behind its direction: "more praise", "fewer bullet lists", "longer texts", "more of something unnamed (…)"."""
    word = "less" if less else "more"
    if is_compared(name):
        return _COMPARED[name.text][less]
    if not name.known:
        return f"{word} of something {name.text}"
    text = several(name.text) if name.kind == "descriptor" else name.text
    if text.startswith("the "):
        return f"{word} of {text}"
    if less and (name.kind == "tokens" or (name.kind in ("descriptor", "label") and _plural(text))):
        return f"fewer {text}"
    return f"{word} {text}"


def plain_name(name: str) -> str:
    """A resource's own name as words: "feature/17" as "feature 17", "concepts/praise" as "praise"."""
    kind, _, rest = name.partition("/")
    return _clipped((rest if kind == "concepts" else f"{kind.replace('-', ' ')} {rest}").strip()) or "nameless"


def family(concept: ConceptRow) -> str:
    """The family of a descriptor of texts, "formatting"; "" for any other concept."""
    kind, _, id = concept.name.partition("/")
    id = id if id in INDEX else id.removeprefix("more-")
    found = by_id(id).family if kind == "text" and id in INDEX else ""
    return found if found in _FAMILIES else ""


def counts_more(concept: ConceptRow) -> bool:
    """Whether what is counted is which response has more of the concept: of several features, or of a descriptor's amount."""
    return concept.size > 1 or (concept.name.startswith("text/more-") and concept.name != "text/more-help")


def is_compared(name: Name) -> bool:
    """Whether there is no more of it but one has it more: texts are longer."""
    return name.kind == "descriptor" and name.text in _COMPARED


def quoted_tokens(text: str) -> frozenset[str]:
    """The tokens that a name of tokens lists, in small letters."""
    listed = text.removeprefix("tokens").removeprefix(":").strip()
    return frozenset(one.casefold().strip("“” ") or one for one in listed_tokens(listed))


def listed(texts: list[str], *, limit: int = 4) -> str:
    """ "a", "a and b", "a, b and c", "a, b, c, d and 3 more"; with semicolons where a text has a comma of its own."""
    shown, left = texts[:limit], len(texts) - limit
    between, last = ("; ", "; and ") if any("," in text for text in shown) else (", ", " and ")
    if left > 0:
        return f"{between.join(shown)}{last}{left} more"
    return shown[0] if len(shown) == 1 else f"{between.join(shown[:-1])}{last}{shown[-1]}" if shown else ""


def _name(named: NamedText | None, label: LabelText, own: str) -> Name:
    if named is not None and named.text.strip():
        return Name(_told(named.text.strip(), named.kind), named.kind)
    text, score = label.text.strip(), label.detection_score
    if text and (score is None or score >= LABEL_BAR):
        # A group is labelled by the tokens of its members, quoted, or by their labels.
        tokens = "tokens" in label.method or (label.method.startswith("members") and bool(listed_tokens(text)))
        kind = "tokens" if tokens else "label"
        return Name(_told(text, kind), kind)
    if own.startswith("concepts/"):  # somebody named it
        return Name(plain_name(own), "label")
    if own.startswith("text/"):
        return Name(own.removeprefix("text/").removeprefix("more-").replace("-", " "), "descriptor")
    if own.startswith("word/"):
        return Name(_told(own.removeprefix("word/"), "words"), "words")
    return Name(f"unnamed ({plain_name(own)})", "")


def _told(text: str, kind: str) -> str:
    if kind == "descriptor":
        text = text.removeprefix("more ")
    if kind == "words" and "“" not in text:
        text = ", ".join(f"“{one.strip()}”" for one in text.split(",") if one.strip())
    if kind == "tokens" and not text.startswith("tokens "):
        text = f"tokens {text}" if text.startswith("“") else f"tokens: {text}"
    return _clipped(text)


def several(text: str) -> str:
    """A noun phrase as something that there can be more of: "an offer of more help" as "offers of more help"."""
    if text.startswith("another "):
        return f"use of {text}"
    article, _, rest = text.partition(" ")
    if article not in ("a", "an") or not rest:
        return text
    found = _HEAD.search(rest)
    head, tail = (rest[: found.start()], rest[found.start() :]) if found else (rest, "")
    ending = "ies" if re.search("[^aeiou]y$", head) else "es" if re.search("(?:s|x|z|ch|sh)$", head) else "s"
    return f"{head[:-1] if ending == 'ies' else head}{ending}{tail}"


def _plural(text: str) -> bool:
    head = _HEAD.split(text, maxsplit=1)[0].split()
    last = head[-1].casefold() if head else ""
    return last.endswith("s") and not last.endswith(_SINGULAR)


def _clipped(text: str) -> str:
    return text if len(text) <= NAME_LIMIT else text[: NAME_LIMIT - 1].rstrip() + "…"
