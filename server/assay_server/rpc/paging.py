"""Pages: sizes, and tokens that belong to one question and cannot be made up by accident.

A token is opaque: where the next page begins, sealed with the question that it answers (method, parent, filter, order). The seal
is a checksum, not a secret: it keeps a token from being used with another question or after an edit, holds over a restart and on
every replica, and whoever forges one only reads another page of what may be read anyway.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence

from assay_server.errors import InvalidItem

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_TOKEN_BYTES = 512
_SEAL = 16


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
    raise InvalidItem(
        "page_token is not one that this server gave for this question; start again without it.",
        reason="INVALID_PAGE_TOKEN",
        field=path,
    )


def _seal(data: bytes, question: Sequence[str]) -> bytes:
    digest = hashlib.sha256()
    for part in (*(text.encode("utf-8", "surrogatepass") for text in question), data):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()[:_SEAL]
