"""HTML that cannot be injected into: strings are text and are cleaned and escaped; only `Html` is markup.

`clean` replaces one code point by one code point, so that offsets into a text stay right. Replaced are control characters
(by their pictures), characters that reorder or end a line of the page (bidirectional overrides, embeddings and isolates, line
and paragraph separators) and what UTF-8 cannot carry (lone surrogates, noncharacters).

Escaping is markupsafe's. Its `Markup` is not used: `text + markup` would escape the text of a script without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import markupsafe

_REPLACEMENT = 0xFFFD
_CLEAN: dict[int, int] = {
    **{code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)},
    0x0D: 0x0A,
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], _REPLACEMENT),
    0x2028: 0x0A,
    0x2029: 0x0A,
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),
    **dict.fromkeys([0xFFFE, 0xFFFF], _REPLACEMENT),
}
_VOID = frozenset({"meta", "link", "input", "br"})
_NAME = re.compile(r"[a-z][a-zA-Z0-9-]*")


class Html(str):
    """Markup that is safe as it stands."""

    __slots__ = ()


def clean(text: str) -> str:
    """`text` with what must not reach a page replaced, code point by code point: `len` stays the same."""
    return text.replace("\r\n", " \n").translate(_CLEAN)


def clip(text: str, limit: int) -> str:
    """At most `limit` code points of `text`, the last an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def escape(text: str) -> Html:
    """`text` as HTML shows it, cleaned; `Html` stays as it is."""
    return text if isinstance(text, Html) else Html(markupsafe.escape(clean(text)))


def join(parts: Iterable[str], separator: str = "") -> Html:
    """Parts one behind the other, each escaped."""
    return Html(escape(separator).join(escape(part) for part in parts))


def el(tag: str, *children: str, **attributes: str | int | float | bool | None) -> Html:
    """An element. A trailing underscore of an attribute's name is dropped, others become hyphens.

    None and False leave an attribute out, True gives it no value. Children that are no `Html` are text.
    """
    opening = [tag]
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no attribute's name")
        if value is True:
            opening.append(name)
        elif value is not None and value is not False:
            opening.append(f'{name}="{escape(str(value))}"')
    inside = "" if tag in _VOID else f"{join(children)}</{tag}>"
    return Html(f"<{' '.join(opening)}>{inside}")
