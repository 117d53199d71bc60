"""Inoculation prompts: where they are put, and candidates made from a description (METHOD.md §4, inoculation)."""

from __future__ import annotations

from dataclasses import replace

from assay_server.errors import InvalidItem
from assay_server.interventions.types import Placement
from assay_server.subject.template import ChatTemplate
from assay_server.subject.types import Message, Prompt

TEMPLATES = (
    "Please {description} in your response.",
    "You always {description}.",
    "Answer as somebody would who likes to {description}.",
    "In this conversation, {description} wherever you can.",
    "It is important that you {description}, even where nobody asks for it.",
    "You are an assistant trained to {description}.",
)


def candidates(description: str) -> tuple[str, ...]:
    """Prompts that ask for a concept, from a verb phrase: "use bold text"."""
    phrase = description.strip().rstrip(".")
    return tuple(template.format(description=phrase) for template in TEMPLATES)


def settled(placement: Placement, template: ChatTemplate) -> Placement:
    """SYSTEM or USER: AUTO takes a system turn where the chat template renders one."""
    if placement is not Placement.AUTO:
        return placement
    try:
        template.render((Message("system", "s"), Message("user", "u"), Message("assistant", "a")))
    except InvalidItem:
        return Placement.USER
    return Placement.SYSTEM


def prompted(prompt: Prompt, text: str, placement: Placement) -> Prompt:
    """The prompt with the text that asks for the concept in it.

    Args:
        prompt: chat turns, or raw text, before which the text is put whatever the placement.
        text: the inoculation prompt.
        placement: ``settled``.
    """
    if isinstance(prompt, str):
        return f"{text}\n\n{prompt}"
    if placement is Placement.SYSTEM:
        if prompt and prompt[0].role == "system":
            return (replace(prompt[0], content=f"{prompt[0].content}\n\n{text}"), *prompt[1:])
        return (Message("system", text), *prompt)
    last = max((place for place, message in enumerate(prompt) if message.role == "user"), default=len(prompt) - 1)
    changed = replace(prompt[last], content=f"{text}\n\n{prompt[last].content}")
    return (*prompt[:last], changed, *prompt[last + 1 :])
