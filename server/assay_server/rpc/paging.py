"""Pages: sizes, and tokens that are valid for one question only.

A token is opaque: where the next page begins, sealed with the question that it answers (method, parent, filter, order). The seal
is a checksum, not a secret: it keeps a token from being used with another question or after an edit, holds over a restart and on
every replica, and a forged one only gives another page of what the caller may read anyway.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from assay_server.errors import InvalidItem

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_TOKEN_BYTES = 512
_SEAL = 16

T = TypeVar("T")


def read_page_size(size: int, path: str = "page_size") -> int:
    """How many to send: 0 means 100, and more than 1000 gives 1000.

    Raises:
        InvalidItem: the size is negative.
    """
    if size < 0:
        raise InvalidItem(
            f"page_size is {size}; give 0 (for {DEFAULT_PAGE}) to {MAX_PAGE}.",
            reason="INVALID_PAGE_SIZE",
            field=path,
            details={"page_size": size, "max_page_size": MAX_PAGE},
        )
    return min(size or DEFAULT_PAGE, MAX_PAGE)


def seal_token(cursor: str, question: Sequence[str]) -> str:
    """The token of the page that begins at ``cursor``, for this question only."""
    data = cursor.encode()
    return base64.urlsafe_b64encode(_seal(data, question) + data).rstrip(b"=").decode()


def open_token(token: str, question: Sequence[str], path: str = "page_token") -> str:
    """Where the page begins; "" for the first one, which has no token.

    Raises:
        InvalidItem: it is not a token that this server gave for this question.
    """
    if not token:
        return ""
    try:
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        seal, data = raw[:_SEAL], raw[_SEAL:]
        if data and seal == _seal(data, question) and seal_token(data.decode(), question) == token:
            return data.decode()
    except (ValueError, binascii.Error):
        pass
    raise not_a_token(path)


def open_offset(token: str, question: Sequence[str]) -> int:
    """As ``open_token``, where the cursor is a number of items before the page; 0 for the first page."""
    cursor = open_token(token, question)
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 16):
        raise not_a_token("page_token")
    return int(cursor or 0)


def not_a_token(path: str) -> InvalidItem:
    """The refusal of a token."""
    return InvalidItem(
        "page_token is not one that this server gave for this question; start again without it.",
        reason="INVALID_PAGE_TOKEN",
        field=path,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """An item's place in a list that changes between pages: its name, and when it was made."""

    name: str
    created: float


def page_after(
    items: Sequence[T], place: Callable[[T], Place], *, size: int, token: str, question: Sequence[str], newest_first: bool = True
) -> tuple[Sequence[T], str]:
    """The next items after the one that the token names, and the token of the page after them ("" on the last).

    Items made or deleted since the previous page neither repeat nor hide others.

    Args:
        items: all of them, in order of creation.
        place: an item's place.
        size: ``page_size`` as received.
        token: ``page_token`` as received.
        question: the question that the token belongs to.
        newest_first: the order of the pages.

    Raises:
        InvalidItem: INVALID_PAGE_SIZE or INVALID_PAGE_TOKEN.
    """
    most = read_page_size(size)
    start = 0
    if cursor := open_token(token, question):
        start = _start_after([place(item) for item in items], _read_place(cursor), newest_first)
    page = items[start : start + most]
    if start + most >= len(items):
        return page, ""
    last = place(page[-1])
    return page, seal_token(f"{last.created.hex()} {last.name}", question)


def _read_place(cursor: str) -> Place:
    created, _, name = cursor.partition(" ")
    try:
        return Place(name, float.fromhex(created))
    except (ValueError, OverflowError):
        raise not_a_token("page_token") from None


def _start_after(places: Sequence[Place], last: Place, newest_first: bool) -> int:
    for index, place in enumerate(places):
        if place.name == last.name:
            return index + 1
    later = [place.created < last.created if newest_first else place.created > last.created for place in places]
    return later.index(True) if True in later else len(places)


def _seal(data: bytes, question: Sequence[str]) -> bytes:
    digest = hashlib.sha256()
    for part in (*(text.encode("utf-8", "surrogatepass") for text in question), data):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()[:_SEAL]
