"""What is sent: messages, pairs and single responses.

A prompt is either chat turns (a sequence of `Message`), which the server renders through the subject's chat template, or
raw text (a `str`), which it reads as it is. The two give different tokens: say which one you mean. `chat("...")` makes
the one-turn conversation of a plain question.

Invariant: an object here holds what the caller gave. Nothing is trimmed, joined or normalised on the way to the wire.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assay.v1 import pair_pb2


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: `role` as the chat template spells it ("system", "user", "assistant", "tool"), and its text."""

    role: str
    content: str


Prompt = Sequence[Message] | str  # chat turns, or raw text


def chat(question: str, *, system: str | None = None) -> tuple[Message, ...]:
    """The prompt that asks one question: a user turn, after a system turn where one is given."""
    user = Message("user", question)
    return (user,) if system is None else (Message("system", system), user)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt, of which the first was preferred.

    Attributes:
        prompt: chat turns that end with the user's, or raw text.
        chosen: the preferred response.
        rejected: the response that lost.
        id: the caller's name for it, echoed in its result; at most 256 bytes.
        metadata: anything to carry along; at most 64 entries and 16 KiB in all.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_proto(self) -> pair_pb2.Pair:
        """The wire form.

        Raises:
            ValueError: a text is no Unicode (a lone surrogate), which UTF-8 cannot carry.
            TypeError: a field holds something else than text.
        """
        pair = pair_pb2.Pair(id=self.id, chosen=self.chosen, rejected=self.rejected, metadata=self.metadata)
        _set_prompt(pair, self.prompt)
        return pair


@dataclass(frozen=True, slots=True)
class PromptedResponse:
    """One response to one prompt: what a labelling tool or an online trainer holds. Fields as in `Pair`."""

    prompt: Prompt
    response: str
    id: str = ""

    def to_proto(self) -> pair_pb2.PromptedResponse:
        """The wire form; raises as `Pair.to_proto` does."""
        item = pair_pb2.PromptedResponse(id=self.id, response=self.response)
        _set_prompt(item, self.prompt)
        return item


def conversation(messages: Sequence[Message]) -> pair_pb2.Conversation:
    """The wire form of chat turns."""
    return pair_pb2.Conversation(messages=[pair_pb2.Message(role=message.role, content=message.content) for message in messages])


def _set_prompt(target: pair_pb2.Pair | pair_pb2.PromptedResponse, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        target.text = prompt
    else:
        target.conversation.CopyFrom(conversation(prompt))
