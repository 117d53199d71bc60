r"""One row of a preference dataset, in the formats that people have, as a `Pair`.

| format          | prompt             | chosen, rejected                                | read as             |
|-----------------|--------------------|-------------------------------------------------|---------------------|
| `trl`           | text or messages   | text, or one assistant message                  | chat (text: `as_`)  |
| `trl-implicit`  | none: what both    | messages whose last is the assistant's          | chat                |
|                 | sides share        | texts                                           | raw text            |
| `hh`            | none: shared turns | transcripts of "\n\nHuman: ", "\n\nAssistant: " | chat (`as_`)        |
| `ultrafeedback` | text               | messages that repeat the prompt                 | chat                |

`as_` says how text is read where a row leaves it open: "chat" makes a text prompt one user turn and an HH transcript its
turns, rendered through the subject's chat template, which is how a chat model will meet them; "text" hands them over raw
(an HH prompt then ends with "\n\nAssistant:"), for a base model, or for a trainer that puts no template around them, as
TRL's does with text. Implicit prompts of two texts are one text cut in two: there is no turn to render, so they are raw
always, cut at the last white space of what they share (as in TRL). Messages need a template, so they are chat always.

Invariants:
- The format is told by the row's columns and types alone, so that a file may mix formats; `format` holds a row to one.
- No text is changed, but for the one space that follows a marker in an HH transcript read as chat.
- A row that does not parse raises `RowError`, with a reason for programs and a message that quotes no text of the row.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal, cast

from assay.errors import InputError
from assay.pairs import Message, Pair, Prompt

As = Literal["chat", "text"]

_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_OWN_COLUMNS = frozenset({"prompt", "chosen", "rejected", "messages", "id"})
_METADATA_ENTRIES = 32
_METADATA_BYTES = 256
_ID_BYTES = 256


class Format(Enum):
    """How a row spells a pair; the table is in the module's docstring."""

    TRL = "trl"
    TRL_IMPLICIT = "trl-implicit"
    HH = "hh"
    ULTRAFEEDBACK = "ultrafeedback"


class RowError(InputError):
    """A row that is no pair. `line` is its place in the file, from 1; 0 where it comes from no file."""

    line: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return where + super().__str__()


def parse_row(row: object, *, format: Format | None = None, as_: As = "chat", line: int = 0) -> tuple[Pair, Format]:
    """The pair that a row holds, and the format that it was read as.

    Args:
        row: the row as JSON would give it: a mapping of columns.
        format: hold the row to this format; None tells it from the row.
        as_: how text is read where the row leaves it open.
        line: the row's place in its file: the pair's id where the row has none, and named in the error.

    Raises:
        RowError: the row is no pair.
    """
    try:
        columns = _columns(row)
        kind = format or _detect(columns)
        prompt, chosen, rejected = _READERS[kind](columns, as_)
        pair = Pair(prompt, chosen, rejected, id=_id(columns, line), metadata=_metadata(columns))
        _require_unicode(pair)
    except RowError as error:
        error.line = line
        raise
    return pair, kind


def _columns(row: object) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise _error("NOT_AN_OBJECT", f"the row is a {_kind(row)}, not an object of columns")
    columns = cast(Mapping[str, Any], row)
    missing = [name for name in ("chosen", "rejected") if columns.get(name) is None]
    if missing:
        raise _error("MISSING_COLUMN", f"the row has no {' and no '.join(missing)}")
    return columns


def _detect(columns: Mapping[str, Any]) -> Format:
    chosen, rejected, prompt = columns["chosen"], columns["rejected"], columns.get("prompt")
    if prompt is None:
        both = isinstance(chosen, str) and isinstance(rejected, str)
        return Format.HH if both and _is_transcript(chosen) and _is_transcript(rejected) else Format.TRL_IMPLICIT
    if isinstance(prompt, str) and any(_is_message_list(side) and len(side) > 1 for side in (chosen, rejected)):
        return Format.ULTRAFEEDBACK
    return Format.TRL


def _read_trl(columns: Mapping[str, Any], as_: As) -> tuple[Prompt, str, str]:
    given = columns.get("prompt")
    if given is None:
        raise _error("MISSING_COLUMN", "the row has no prompt, which the format trl has (trl-implicit has none)")
    prompt: Prompt
    if isinstance(given, str):
        prompt = given if as_ == "text" else (Message("user", given),)
        turns: list[Message] = []
    else:
        prompt = turns = _messages(given, "prompt", as_)
    return prompt, _answer(columns["chosen"], "chosen", turns, as_), _answer(columns["rejected"], "rejected", turns, as_)


def _answer(value: object, column: str, prompt: Sequence[Message], as_: As) -> str:
    """The response in a column of the trl format: text, or one assistant message, after the prompt's or alone."""
    if isinstance(value, str):
        return value
    # A single answer in a message needs no template of its own, so it goes with a text prompt read as text.
    turns = _messages(value, column, "chat" if not prompt else as_)
    if prompt and turns[: len(prompt)] == list(prompt):
        turns = turns[len(prompt) :]
    if len(turns) != 1 or turns[0].role != "assistant":
        roles = ", ".join(turn.role[:16] for turn in turns[:6])
        raise _error("NOT_ONE_RESPONSE", f"{column} must be one assistant message, and holds {len(turns)} ({roles})")
    return turns[0].content


def _read_implicit(columns: Mapping[str, Any], as_: As) -> tuple[Prompt, str, str]:
    chosen, rejected = columns["chosen"], columns["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        cut = _shared_text(chosen, rejected)
        if not cut:
            raise _error("NO_SHARED_PROMPT", "chosen and rejected share no first words, and there is no prompt column")
        return chosen[:cut], chosen[cut:], rejected[cut:]
    return _shared_turns(_messages(chosen, "chosen", as_), _messages(rejected, "rejected", as_))


def _shared_text(chosen: str, rejected: str) -> int:
    """Length of the shared prefix, moved back to before the last white space in it, as TRL's extract_prompt does."""
    both = zip(chosen, rejected, strict=False)
    shared = next((at for at, (ours, theirs) in enumerate(both) if ours != theirs), min(len(chosen), len(rejected)))
    if shared == len(chosen) == len(rejected):
        return 0
    while shared > 0 and not chosen[shared - 1].isspace():
        shared -= 1
    return shared - 1 if shared > 0 else 0


def _shared_turns(chosen: list[Message], rejected: list[Message]) -> tuple[Prompt, str, str]:
    for turns, column in ((chosen, "chosen"), (rejected, "rejected")):
        if turns[-1].role != "assistant":
            raise _error("NO_RESPONSE", f"{column} ends with a turn of {turns[-1].role[:16]!r}, not of the assistant")
    if len(chosen) != len(rejected):
        raise _error("TURNS_DIFFER", f"chosen has {len(chosen)} turns and rejected {len(rejected)}: only the last differs")
    for at, (ours, theirs) in enumerate(zip(chosen[:-1], rejected[:-1], strict=True), start=1):
        if ours != theirs:
            raise _error("TURNS_DIFFER", f"turn {at} of {len(chosen)} differs between chosen and rejected: only the last may")
    if len(chosen) < 2:
        raise _error("NO_SHARED_PROMPT", "chosen and rejected hold the response alone, and there is no prompt column")
    return tuple(chosen[:-1]), chosen[-1].content, rejected[-1].content


def _read_hh(columns: Mapping[str, Any], as_: As) -> tuple[Prompt, str, str]:
    sides: list[list[Message]] = []
    for column in ("chosen", "rejected"):
        text = columns[column]
        if not isinstance(text, str) or not _is_transcript(text):
            raise _error("NOT_A_TRANSCRIPT", f'{column} is no text that starts with "\\n\\nHuman:"')
        sides.append(_transcript(text))
    prompt, chosen, rejected = _shared_turns(sides[0], sides[1])
    if as_ == "chat":
        return prompt, chosen, rejected
    cut = [list(_MARKER.finditer(columns[column]))[-1].end() for column in ("chosen", "rejected")]
    head = columns["chosen"][: cut[0]]
    if head != columns["rejected"][: cut[1]]:
        raise _error("TURNS_DIFFER", "the turns before the last differ between chosen and rejected in white space")
    return head, columns["chosen"][cut[0] :], columns["rejected"][cut[1] :]


def _transcript(text: str) -> list[Message]:
    pieces = _MARKER.split(text)
    return [Message(_ROLES[who], said.removeprefix(" ")) for who, said in zip(pieces[1::2], pieces[2::2], strict=True)]


def _read_ultrafeedback(columns: Mapping[str, Any], as_: As) -> tuple[Prompt, str, str]:
    chosen, rejected = _messages(columns["chosen"], "chosen", as_), _messages(columns["rejected"], "rejected", as_)
    prompt, preferred, other = _shared_turns(chosen, rejected)
    given = columns.get("prompt")
    if isinstance(given, str):
        asked = [message.content.strip() for message in cast(Sequence[Message], prompt) if message.role == "user"]
        if given.strip() not in asked:
            raise _error("PROMPT_DIFFERS", "the prompt column is none of the user's turns in chosen and rejected")
    return prompt, preferred, other


_READERS = {
    Format.TRL: _read_trl,
    Format.TRL_IMPLICIT: _read_implicit,
    Format.HH: _read_hh,
    Format.ULTRAFEEDBACK: _read_ultrafeedback,
}


def _is_transcript(text: str) -> bool:
    return text.startswith("\n\nHuman:")


def _is_message_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _messages(value: object, column: str, as_: As) -> list[Message]:
    if not _is_message_list(value):
        raise _error("NOT_MESSAGES", f"{column} is a {_kind(value)}, not a list of messages")
    if as_ == "text":
        raise _error("NEEDS_CHAT", f"{column} holds messages, which only a chat template can render: read it as chat")
    turns: list[Message] = []
    for at, item in enumerate(cast(Sequence[object], value), start=1):
        turn = cast(Mapping[str, object], item) if isinstance(item, Mapping) else {}
        role, content = turn.get("role"), turn.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise _error("NOT_A_MESSAGE", f"message {at} of {column} has no text for role and content")
        turns.append(Message(role, content))
    if not turns:
        raise _error("NO_MESSAGES", f"{column} is an empty list")
    return turns


def _id(columns: Mapping[str, Any], line: int) -> str:
    for name in ("id", "prompt_id"):
        value = columns.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            text = str(value)
            size = len(text.encode("utf-8", "replace"))
            if size > _ID_BYTES:
                raise _error("ID_TOO_LONG", f"{name} takes {size} bytes, and may take {_ID_BYTES}")
            return text
    return str(line) if line else ""


def _metadata(columns: Mapping[str, Any]) -> dict[str, str]:
    """Short plain values of the other columns and of an object in a column metadata; long texts and lists stay behind."""
    kept: dict[str, str] = {}
    nested = columns.get("metadata")
    inside = cast(Mapping[str, Any], nested) if isinstance(nested, Mapping) else {}
    for name, value in (*columns.items(), *inside.items()):
        if name in _OWN_COLUMNS or not isinstance(value, str | int | float) or len(kept) == _METADATA_ENTRIES:
            continue
        text = str(value)
        if len(text) <= _METADATA_BYTES and len(name) <= _METADATA_BYTES and (name + text).isprintable():
            kept[name] = text
    return kept


def _require_unicode(pair: Pair) -> None:
    prompt = [pair.prompt] if isinstance(pair.prompt, str) else [text for m in pair.prompt for text in (m.role, m.content)]
    for text in (*prompt, pair.chosen, pair.rejected, pair.id):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise _error("INVALID_UNICODE", f"a text holds a lone surrogate at character {error.start}") from None


def _kind(value: object) -> str:
    names: dict[type, str] = {dict: "object", list: "list", str: "text", int: "number", float: "number", bool: "boolean"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _error(reason: str, message: str) -> RowError:
    return RowError(message, reason=reason)
