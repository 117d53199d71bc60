"""Chat messages to the text that the model reads, with the character range of every message's content.

One function renders for live requests, stored datasets and rollouts alike (METHOD.md §1), so a span never depends on where a
pair came from. Ranges are not guessed by searching for the content, which a header such as "user" can fool: the template is
rendered once with marker contents, which gives the text between contents, and every later rendering must equal that text with
the contents put in (as they are, or stripped, as Llama's and Gemma's templates do). A template that rewrites contents in
another way falls back to searching, within the bounds that the known text leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assay_server.errors import InvalidItem
from assay_server.subject.types import Message

MARKER = "\ue0a5{index}\ue0a6"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered conversation.

    Attributes:
        text: what the tokenizer reads.
        contents: for each message, start and end of its content in ``text``, in code points.
        lead: for each message, code points that the template stripped from the start of its content.
    """

    text: str
    contents: tuple[tuple[int, int], ...]
    lead: tuple[int, ...]


class ChatTemplate:
    """Renders conversations through a tokenizer's chat template. Safe to share between threads."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._frames: dict[tuple[str, ...], tuple[str, ...] | None] = {}

    @property
    def available(self) -> bool:
        """Whether the tokenizer has a chat template at all."""
        return bool(getattr(self._tokenizer, "chat_template", None))

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Render messages, the last of which may be the assistant's.

        Raises:
            InvalidItem: there is no template (NO_CHAT_TEMPLATE), it refuses these roles (TEMPLATE_REFUSED), or it rewrites
                contents so that they cannot be found again (TEMPLATE_REWRITES).
        """
        text = self._apply([{"role": m.role, "content": m.content} for m in messages])
        frame = self._frame(tuple(m.role for m in messages))
        if frame is not None:
            for strip in (False, True):
                rendered = _fill(frame, messages, strip)
                if rendered.text == text:
                    return rendered
        return _search(text, messages, frame)

    def _apply(self, messages: list[dict[str, str]]) -> str:
        if not self.available:
            raise InvalidItem(
                "The subject's tokenizer has no chat template, so it reads raw text only: send the prompt as text.",
                reason="NO_CHAT_TEMPLATE",
            )
        try:
            return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        except Exception as error:  # jinja raises what the template's author chose
            roles = ", ".join(message["role"] for message in messages)
            raise InvalidItem(
                f"The subject's chat template refuses the roles [{roles}]: {type(error).__name__}: {error}.",
                reason="TEMPLATE_REFUSED",
                details={"roles": roles},
            ) from error

    def _frame(self, roles: tuple[str, ...]) -> tuple[str, ...] | None:
        """The text around the contents, one piece more than there are messages; None where the template is not that simple."""
        if roles not in self._frames:
            if len(self._frames) > 4096:  # bounded: callers choose the roles
                self._frames.clear()
            markers = [MARKER.format(index=index) for index in range(len(roles))]
            text = self._apply([{"role": r, "content": m} for r, m in zip(roles, markers, strict=True)])
            pieces: list[str] | None = []
            for marker in markers:
                before, found, text = text.partition(marker)
                if not found or marker in text:
                    pieces = None
                    break
                pieces.append(before)
            self._frames[roles] = None if pieces is None else (*pieces, text)
        return self._frames[roles]


def _fill(frame: tuple[str, ...], messages: Sequence[Message], strip: bool) -> Rendered:
    parts: list[str] = []
    contents: list[tuple[int, int]] = []
    lead: list[int] = []
    cursor = 0
    for before, message in zip(frame, messages, strict=False):
        content = message.content.strip() if strip else message.content
        lead.append(len(message.content) - len(message.content.lstrip()) if strip else 0)
        cursor += len(before)
        contents.append((cursor, cursor + len(content)))
        cursor += len(content)
        parts += (before, content)
    parts.append(frame[-1])
    return Rendered("".join(parts), tuple(contents), tuple(lead))


def _search(text: str, messages: Sequence[Message], frame: tuple[str, ...] | None) -> Rendered:
    """Find contents one after another, from the last, whose text ends the conversation, to the first.

    Where the text after a content is the template's known text, the search starts before it: a content such as "user" is
    not found in a header.
    """
    contents: list[tuple[int, int]] = []
    lead: list[int] = []
    end = len(text)
    for index in range(len(messages) - 1, -1, -1):
        if frame is not None and text.endswith(frame[index + 1], 0, end):
            end -= len(frame[index + 1])
        content = messages[index].content.strip()
        start = text.rfind(content, 0, end)
        if start < 0:
            raise InvalidItem(
                f"The subject's chat template rewrites the content of message {index}, so its tokens cannot be told from the "
                "template's. Send the conversation as raw text instead.",
                reason="TEMPLATE_REWRITES",
                details={"message": index},
            )
        contents.append((start, start + len(content)))
        lead.append(len(messages[index].content) - len(messages[index].content.lstrip()))
        end = start
    return Rendered(text, tuple(reversed(contents)), tuple(reversed(lead)))
