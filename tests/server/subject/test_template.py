"""Templates: where every content lies in the rendered text, for templates that copy, strip, refuse or rewrite."""

from typing import Any

import pytest
from assay_server.errors import InvalidItem
from assay_server.subject.template import MARKER, ChatTemplate
from assay_server.subject.types import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.subject.conftest import chat
from tests.support import reference
from tests.support.chat_tokenizers import KINDS, build_tokenizer

# Llama 2 strips the user's turn together with the system's, which stands inside it: neither is copied, neither is stripped alone.
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set messages, system = messages[1:], messages[0]['content'] %}{% endif %}"
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if loop.first and system is defined %}{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + content %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '<s>[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' </s>' }}{% endif %}{% endfor %}"
)


class Templated:
    """The least that a tokenizer must offer to render: a template, through transformers' own jinja."""

    def __init__(self, template: str) -> None:
        self._tokenizer = build_tokenizer("turns")
        self._tokenizer.chat_template = self.chat_template = template

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        return self._tokenizer.apply_chat_template(messages, **options)


def found(template: ChatTemplate, messages: tuple[Message, ...]) -> list[str]:
    rendered = template.render(messages)
    return [rendered.text[a:b] for a, b in rendered.contents]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    [
        MARKER.format(index=0),
        MARKER.format(index=1),
        "user",
        " user\n",
        "<|im_end|>\n",
        "assistant",
        "{{ messages }}",
        "{% if %}",
        "",
    ]
)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.template])
@settings(max_examples=60, deadline=None)
@given(contents=st.lists(texts, min_size=1, max_size=4))
def test_contents_lie_where_the_template_puts_them_whatever_they_hold(kind: str, contents: list[str]) -> None:
    messages = chat(*contents)
    tokenizer = build_tokenizer(kind)
    text, ranges = reference.render(KINDS[kind], tokenizer, messages)
    rendered = ChatTemplate(tokenizer).render(messages)
    assert rendered.text == text
    assert list(rendered.contents) == ranges
    for message, (a, b), lead in zip(messages, rendered.contents, rendered.lead, strict=True):
        assert message.content[lead : lead + b - a] == text[a:b]


def test_the_default_system_prompt_that_a_template_adds_is_no_content() -> None:
    rendered = ChatTemplate(build_tokenizer("chatml")).render(chat("You are a helpful assistant."))
    assert rendered.text.count("You are a helpful assistant.") == 2
    assert rendered.contents[0][0] == rendered.text.rindex("You are a helpful assistant.")


@pytest.mark.parametrize("content", ["INST", "/INST]", "s", "SYS", "]", "[/INST] [/INST]", "user"])
def test_a_template_that_strips_unevenly_is_searched_outside_its_own_text(content: str) -> None:
    template = ChatTemplate(Templated(LLAMA2))
    pieces = [
        "<s>[INST] <<SYS>>\n ",
        "Be plain.",
        " \n<</SYS>>\n\n",
        content,
        " [/INST] ",
        content,
        " </s><s>[INST] ",
        content,
        " [/INST]",
    ]
    starts = [len("".join(pieces[:i])) for i in (1, 3, 5, 7)]
    messages = (Message("system", " Be plain. "), *chat(f"{content} \n", f" {content}", f" {content}\n"))
    rendered = template.render(messages)
    assert rendered.text == "".join(pieces)
    assert [start for start, _ in rendered.contents] == starts
    assert found(template, messages) == ["Be plain.", content, content, content]
    assert rendered.lead == (1, 0, 1, 1)


def test_a_content_that_the_template_rewrites_is_refused_by_its_number() -> None:
    template = ChatTemplate(Templated("{% for m in messages %}{{ m['role'] + ': ' + m['content'] | upper + '\n' }}{% endfor %}"))
    with pytest.raises(InvalidItem) as raised:
        template.render(chat("IT IS LOUD", "it is not"))
    assert (raised.value.reason, raised.value.details) == ("TEMPLATE_REWRITES", {"message": "1"})


@pytest.mark.parametrize(
    "messages",
    [
        (Message("system", "Be plain."), *chat("Hi")),  # no system turn in Gemma's
        (Message("user", "a"), Message("user", "b")),
        (Message("assistant", "a"),),
    ],
)
def test_roles_that_a_template_refuses_are_named_with_its_own_words(messages: tuple[Message, ...]) -> None:
    with pytest.raises(InvalidItem) as raised:
        ChatTemplate(build_tokenizer("gemma")).render(messages)
    assert raised.value.reason == "TEMPLATE_REFUSED"
    assert raised.value.details == {"roles": ", ".join(m.role for m in messages)}
    assert "not supported" in raised.value.message or "alternate" in raised.value.message


def test_chat_for_a_tokenizer_without_a_template_is_refused_with_the_way_out() -> None:
    template = ChatTemplate(build_tokenizer("raw"))
    assert not template.available
    with pytest.raises(InvalidItem, match="raw text") as raised:
        template.render(chat("Hi"))
    assert raised.value.reason == "NO_CHAT_TEMPLATE"


@settings(max_examples=60, deadline=None)
@given(
    role=st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from([MARKER.format(index=0), "<|im_end|>"])
)
def test_a_role_of_any_text_never_moves_a_content_out_of_its_place(role: str) -> None:
    messages = (Message(role, "first"), Message("assistant", "second"))
    assert found(ChatTemplate(build_tokenizer("chatml")), messages) == ["first", "second"]


def test_what_is_remembered_of_templates_is_bounded_however_many_role_sequences_come() -> None:
    template = ChatTemplate(Templated("{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}\n{% endfor %}"))
    for i in range(4200):
        template.render((Message(f"role {i}", "x"),))
    assert len(template._frames) <= 4098
