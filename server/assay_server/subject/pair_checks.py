"""What a pair must be before a subject reads it: the checks that need no model, the same for a live call, an upload and a file.

Invariants:
- What passes can be given to a chat template: an optional system turn, then user and assistant in alternation, the last turn
  the user's.
- Every refusal is an ``InvalidItem`` with the field's path in the pair, both numbers and the fix; none quotes a text.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from assay_server.errors import EmptySpan, InvalidItem
from assay_server.subject.types import Pair

MAX_ID_BYTES = 256
MAX_METADATA_ENTRIES = 64
MAX_METADATA_BYTES = 16 * 1024

_MAY_FOLLOW = {
    "system": frozenset({"start"}),
    "user": frozenset({"start", "system", "assistant"}),
    "assistant": frozenset({"user", "tool"}),
    "tool": frozenset({"assistant", "tool"}),
}


class Turn(Protocol):
    """One turn, as the contract or the engine spells it."""

    @property
    def role(self) -> str:
        """Who speaks."""
        ...


def check_pair(pair: Pair, *, max_text_bytes: int) -> None:
    """Refuses what no subject can score.

    Args:
        pair: as it was stored.
        max_text_bytes: UTF-8 bytes of its texts together.

    Raises:
        InvalidItem: the pair cannot be scored; EmptySpan where a response is empty.
    """
    check_id(pair.id)
    check_metadata(pair.metadata)
    prompts = [pair.prompt] if isinstance(pair.prompt, str) else [turn.content for turn in pair.prompt]
    check_text_bytes([*prompts, pair.chosen, pair.rejected], max_text_bytes, "")
    if not isinstance(pair.prompt, str):
        check_turns(pair.prompt, "conversation.messages", last_may_answer=False)
    check_responses(pair.chosen, pair.rejected)


def check_turns(turns: Sequence[Turn], path: str, *, last_may_answer: bool) -> None:
    """An optional system turn, then user and assistant in alternation; a tool turn may follow an assistant's or a tool's.

    Raises:
        InvalidItem: UNKNOWN_ROLE, ROLE_ORDER or EMPTY_CONVERSATION.
    """
    before = "start"
    for position, turn in enumerate(turns):
        role = turn.role
        if role not in _MAY_FOLLOW:
            raise InvalidItem(
                f"Turn {position} has an unknown role; the roles are system, user, assistant and tool.",
                reason="UNKNOWN_ROLE",
                field=f"{path}[{position}].role",
            )
        if before not in _MAY_FOLLOW[role]:
            after = "opens the conversation" if before == "start" else f"follows a {before} turn"
            raise InvalidItem(
                f"Turn {position} is the {role}'s and {after}; write an optional system turn first, "
                "then user and assistant in turn.",
                reason="ROLE_ORDER",
                field=f"{path}[{position}].role",
                details={"turn": position, "role": role},
            )
        before = role
    if before == "start":
        raise InvalidItem("The conversation has no turn; send at least one.", reason="EMPTY_CONVERSATION", field=path)
    if before != "user" and not (last_may_answer and before in ("assistant", "tool")):
        raise InvalidItem(
            f"The last turn is the {before}'s; a prompt ends with a user turn, and the response answers it.",
            reason="ROLE_ORDER",
            field=f"{path}[{len(turns) - 1}].role",
            details={"turn": len(turns) - 1, "role": before},
        )


def check_responses(chosen: str, rejected: str) -> None:
    """Refuses an empty response (EmptySpan)."""
    for side, response in (("chosen", chosen), ("rejected", rejected)):
        if not response:
            raise EmptySpan(f"The {side} response is empty; a pair needs two responses.", field=side)


def check_text_bytes(texts: Sequence[str], most: int, path: str) -> None:
    """Refuses texts of more than ``most`` UTF-8 bytes together (TEXT_TOO_LONG)."""
    total = sum(_size(text) for text in texts)
    if total > most:
        raise InvalidItem(
            f"The texts take {total} bytes; max_text_bytes is {most}. Shorten them.",
            reason="TEXT_TOO_LONG",
            field=path,
            details={"text_bytes": total, "max_text_bytes": most},
        )


def check_id(id: str) -> None:
    """Refuses an id of more than ``MAX_ID_BYTES`` bytes (ID_TOO_LONG)."""
    if len(id) > MAX_ID_BYTES // 4 and (size := _size(id)) > MAX_ID_BYTES:
        raise InvalidItem(
            f"The id takes {size} bytes; at most {MAX_ID_BYTES} are allowed.",
            reason="ID_TOO_LONG",
            field="id",
            details={"id_bytes": size, "max_id_bytes": MAX_ID_BYTES},
        )


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuses metadata of too many entries or bytes (METADATA_TOO_LARGE)."""
    if not metadata:
        return
    entries = len(metadata)
    size = sum(_size(key) + _size(value) for key, value in metadata.items())
    if entries > MAX_METADATA_ENTRIES or size > MAX_METADATA_BYTES:
        raise InvalidItem(
            f"The metadata has {entries} entries of {size} bytes; at most {MAX_METADATA_ENTRIES} entries "
            f"and {MAX_METADATA_BYTES} bytes are allowed.",
            reason="METADATA_TOO_LARGE",
            field="metadata",
            details={"entries": entries, "bytes": size},
        )


def _size(text: str) -> int:
    """UTF-8 bytes; a lone surrogate, which a JSON file can spell, counts as three."""
    return len(text.encode("utf-8", "surrogatepass"))
