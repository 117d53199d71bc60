"""Token trees: what is read, shared and spanned, against an oracle built from token bytes (``reference.tokenise``).

The texts that hypothesis draws hold what breaks naive span finding: marker characters, template text, role words, special
tokens spelled out, whitespace at either end, combining and multi-byte characters.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
from assay_server.errors import ContextOverflow, EmptySpan, InvalidItem, SubjectMismatch
from assay_server.subject.tokenize import TreeTokenizer
from assay_server.subject.types import Message, Pair, Prompt, PromptedResponse, SpanName, TokenTree, Truncation
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.subject.conftest import LONG, chat
from tests.support import reference
from tests.support.chat_tokenizers import KINDS, PLAIN_TURNS, build_tokenizer

PROMPT, CHOSEN, REJECTED = SpanName.PROMPT, SpanName.CHOSEN, SpanName.REJECTED
CHAT = tuple(name for name, kind in KINDS.items() if kind.template)

plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tricky = st.sampled_from(
    [
        " ", "\n", "\n\n", "\t ", "\u00a0", "\r\n", "e\u0301", "👩‍👩‍👧", "user", "assistant", "assistant: ", "system", "model\n",
        "\ue0a50\ue0a6", "\ue0a51\ue0a6", "<|im_end|>", "<|im_start|>assistant\n", "<|eot_id|>", "<end_of_turn>", "<bos>",
        "[UNK]", "You are a helpful assistant.", "The baker", "{{ content }}", "▁", "Ġ",
    ]
)  # fmt: skip
contents = st.lists(plain | tricky, max_size=4).map("".join)
turns = st.lists(contents, min_size=1, max_size=3).map(lambda texts: texts if len(texts) % 2 else texts[:-1])


@cache
def hugging_face(kind: str) -> Any:
    return build_tokenizer(kind)


@cache
def trees(kind: str, context: int = 10_000) -> TreeTokenizer:
    return TreeTokenizer(hugging_face(kind), context_tokens=context)


def path(tree: TokenTree, side: int) -> list[int]:
    return np.concatenate([tree.trunk, tree.branches[side]]).tolist()


def on_path(tree: TokenTree, name: SpanName) -> list[int]:
    """A span's flat positions as positions of its own path."""
    shift = len(tree.branches[0]) if name is REJECTED else 0
    return [int(p) - shift if p >= len(tree.trunk) else int(p) for p in tree.spans[name]]


def hold(kind: str, prompt: Prompt, chosen: str, rejected: str) -> None:
    """Hold a pair's tree to the oracle, or its error to what the oracle finds empty."""
    want = [reference.tokenise(KINDS[kind], hugging_face(kind), prompt, response) for response in (chosen, rejected)]
    empty = [field for field, side in zip(("chosen", "rejected"), want, strict=True) if not side.response]
    if empty:
        with pytest.raises(EmptySpan) as raised:
            trees(kind).pair(Pair(prompt, chosen, rejected))
        assert (raised.value.field, raised.value.reason) == (empty[0], "EMPTY_SPAN")
        return
    tree = trees(kind).pair(Pair(prompt, chosen, rejected))
    for side, name in enumerate((CHOSEN, REJECTED)):
        assert path(tree, side) == want[side].ids[: want[side].response[-1] + 1]
        assert on_path(tree, name) == want[side].response
    assert tree.spans[PROMPT].tolist() == want[0].prompt
    heads = [branch[0] for branch in tree.branches if len(branch)]
    assert len(heads) < 2 or heads[0] != heads[1], "what both sides share belongs to the trunk"
    for positions in tree.spans.values():
        assert np.all(np.diff(positions) > 0)
        assert 0 not in positions
    assert tree.truncated == 0


@pytest.mark.parametrize("kind", CHAT)
@settings(max_examples=80, deadline=None)
@given(turns=turns, chosen=contents, rejected=contents, system=st.none() | contents)
def test_spans_of_any_conversation_are_exactly_the_contents_tokens(
    kind: str, turns: list[str], chosen: str, rejected: str, system: str | None
) -> None:
    first = (Message("system", system),) if system is not None and KINDS[kind].system else ()
    hold(kind, (*first, *chat(*turns)), chosen, rejected)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(prompt=contents, chosen=contents, rejected=contents)
def test_spans_of_any_raw_text_are_exactly_its_two_parts(kind: str, prompt: str, chosen: str, rejected: str) -> None:
    hold(kind, prompt, chosen, rejected)


@settings(max_examples=80, deadline=None)
@given(turns=turns, response=contents, rejected=contents)
def test_a_single_response_reads_the_path_that_it_has_in_a_pair(turns: list[str], response: str, rejected: str) -> None:
    prompt = chat(*turns)
    try:
        pair = trees("chatml").pair(Pair(prompt, response, rejected))
    except EmptySpan:
        return
    alone = trees("chatml").response(PromptedResponse(prompt, response))
    assert alone.branches == ()
    assert alone.trunk.tolist() == path(pair, 0)
    assert alone.spans[CHOSEN].tolist() == on_path(pair, CHOSEN)
    assert alone.spans[PROMPT].tolist() == pair.spans[PROMPT].tolist()
    assert (alone.shared, alone.size) == (0, len(alone.trunk))


@pytest.mark.parametrize("kind", ["chatml", "llama3"])
@settings(max_examples=80, deadline=None)
@given(words=st.lists(st.text("aZé日🙂-", min_size=1, max_size=5), min_size=2, max_size=6))
def test_a_spans_tokens_decode_to_the_content_and_nothing_else(kind: str, words: list[str]) -> None:
    response = " ".join(words)
    tree = trees(kind).response(PromptedResponse(chat("assistant user?"), response))
    assert hugging_face(kind).decode(tree.trunk[tree.spans[CHOSEN]].tolist()) == response
    assert hugging_face(kind).decode(tree.trunk[tree.spans[PROMPT]].tolist()) == "assistant user?"


@pytest.mark.parametrize("kind", ["chatml", "llama3", "turns"])
@settings(max_examples=80, deadline=None)
@given(turns=turns)
def test_every_character_of_every_turn_is_covered_by_a_token_that_says_so(kind: str, turns: list[str]) -> None:
    messages = chat(*turns)
    text = trees(kind).text(messages)
    assert len(text.ids) == len(text.tokens)
    assert [token.id for token in text.tokens] == text.ids.tolist()
    for index, message in enumerate(messages):
        covered = {i for token in text.tokens if token.message == index for i in range(token.start, token.end)}
        stripped = message.content.strip() if kind == "llama3" else message.content
        lead = message.content.index(stripped) if stripped else 0
        mine = set(range(lead, lead + len(stripped)))
        assert covered == mine
    for token in text.tokens:
        if token.message < 0:
            assert (token.start, token.end) == (0, 0)
        else:
            assert messages[token.message].content[token.start : token.end] in token.text


def test_raw_text_is_covered_whole() -> None:
    text = trees("raw").text("A list  can\nbe 🙂 changed.")
    assert {i for token in text.tokens for i in range(token.start, token.end)} == set(range(len("A list  can\nbe 🙂 changed.")))
    assert {token.message for token in text.tokens} == {0}


def test_special_tokens_spelled_out_in_a_content_are_read_as_the_trainer_reads_them_and_stay_content() -> None:
    """Tokenisers parse special tokens in any text: the engine reads what a trainer would, and the span keeps its characters."""
    response = "No.<|im_end|>\n<|im_start|>user\nAnd more"
    tree = trees("chatml").response(PromptedResponse(chat("Well?"), response))
    span = tree.trunk[tree.spans[CHOSEN]].tolist()
    assert hugging_face("chatml").decode(span) == response
    assert {"<|im_start|>", "<|im_end|>"} <= set(hugging_face("chatml").convert_ids_to_tokens(span))


@pytest.mark.parametrize("kind", CHAT)
def test_the_first_token_belongs_to_no_span_and_neither_do_template_tokens(kind: str) -> None:
    tree = trees(kind).pair(Pair(chat("Why?"), "Because.", "I do not know."))
    inside = {p for positions in tree.spans.values() for p in positions.tolist()}
    assert 0 not in inside
    special = set(hugging_face(kind).all_special_ids) | {
        hugging_face(kind).convert_tokens_to_ids(t)
        for t in ("<start_of_turn>", "<end_of_turn>", "<|start_header_id|>", "<|end_header_id|>")
    }
    flat = np.concatenate([tree.trunk, *tree.branches])
    unknown = hugging_face(kind).unk_token_id
    assert not (special - {unknown, None}) & {int(flat[p]) for p in inside}


def test_nothing_after_the_last_token_of_a_response_is_read() -> None:
    tree = trees("chatml").pair(Pair(chat("Why?"), "Because it is.", "No"))
    assert path(tree, 0)[-1] == tree.branches[0][-1]
    assert on_path(tree, CHOSEN)[-1] == len(path(tree, 0)) - 1
    assert on_path(tree, REJECTED)[-1] == len(path(tree, 1)) - 1


@pytest.mark.parametrize(
    ("kind", "prompt", "chosen", "rejected", "field"),
    [
        ("chatml", chat("Hi"), "", "b", "chosen"),
        ("chatml", chat("Hi"), "a", "", "rejected"),
        ("llama3", chat("Hi"), "a", " \n\t", "rejected"),  # the template trims it away
        ("gemma", chat("Hi"), "\n\n", "b", "chosen"),
        ("wordpiece", chat("Hi"), "a", "  ", "rejected"),  # the tokenizer drops it
        ("raw", "", "a", "a longer one", "chosen"),  # its only token is the sequence's first
        ("raw", "text", "", "b", "chosen"),
    ],
)
def test_a_response_without_a_token_of_its_own_is_an_error_that_names_the_side(
    kind: str, prompt: Prompt, chosen: str, rejected: str, field: str
) -> None:
    with pytest.raises(EmptySpan) as raised:
        trees(kind).pair(Pair(prompt, chosen, rejected))
    assert (raised.value.reason, raised.value.field) == ("EMPTY_SPAN", field)


def test_an_empty_content_takes_no_template_token_that_reaches_over_it() -> None:
    """Without special tokens, the space of "assistant: " and the final newline are one token around an empty content."""
    tokenizer = build_tokenizer("turns")
    tokenizer.chat_template = PLAIN_TURNS.replace("message['content']", "message['content'] | trim")
    over = tokenizer.tokenize("assistant: \n")[-1]
    assert tokenizer.convert_tokens_to_string([over]) == " \n"
    trimmed = TreeTokenizer(tokenizer, context_tokens=99)
    with pytest.raises(EmptySpan) as raised:
        trimmed.pair(Pair(chat("Why?"), "Because.", "  "))
    assert raised.value.field == "rejected"
    text = trimmed.text(chat("Why?", " "))
    assert {token.message for token in text.tokens} == {-1, 0}
    tree = trees("turns").pair(Pair((Message("system", ""), *chat("")), "a b", "c d"))
    assert tree.spans[PROMPT].tolist() == []


def test_overflow_names_both_lengths_and_the_longer_side() -> None:
    exact = len(path(trees("chatml").pair(Pair(chat("Hi"), "Yes", LONG)), 1))
    assert trees("chatml", exact).pair(Pair(chat("Hi"), "Yes", LONG)).truncated == 0
    with pytest.raises(ContextOverflow) as raised:
        trees("chatml", exact - 1).pair(Pair(chat("Hi"), "Yes", LONG))
    error = raised.value
    assert (error.reason, error.field) == ("CONTEXT_OVERFLOW", "rejected")
    assert error.details == {"sequence_tokens": str(exact), "context_tokens": str(exact - 1)}
    assert str(exact) in error.message
    assert str(exact - 1) in error.message


@pytest.mark.parametrize("how", [Truncation.PROMPT_START, Truncation.RESPONSE_END])
@settings(max_examples=60, deadline=None)
@given(limit=st.integers(20, 320), turns=turns, chosen=contents, rejected=contents)
def test_truncation_keeps_what_it_promises_or_says_that_it_cannot(
    how: Truncation, limit: int, turns: list[str], chosen: str, rejected: str
) -> None:
    pair = Pair(chat(*(LONG[:300] + turn for turn in turns)), "A" + LONG[:200] + chosen, "B" + rejected)
    whole = trees("chatml").pair(pair)
    sides = [path(whole, side) for side in (0, 1)]
    starts = [on_path(whole, name)[0] for name in (CHOSEN, REJECTED)]
    excess = max(0, max(map(len, sides)) - limit)
    from_start = how is Truncation.PROMPT_START
    if excess and (excess >= min(starts) if from_start else limit <= max(starts)):
        with pytest.raises(ContextOverflow) as raised:
            trees("chatml", limit).pair(pair, how)
        assert raised.value.details["context_tokens"] == str(limit)
        return
    cut = trees("chatml", limit).pair(pair, how)
    if from_start:
        want, moved = [side[:1] + side[1 + excess :] for side in sides], excess
        assert cut.truncated == excess
    else:
        want, moved = [side[:limit] for side in sides], 0
        assert cut.truncated == whole.size - cut.size
    assert [path(cut, side) for side in (0, 1)] == want
    assert max(map(len, want)) <= limit
    for name in (CHOSEN, REJECTED):
        assert on_path(cut, name) == [p - moved for p in on_path(whole, name) if p - moved < limit]
    assert cut.spans[PROMPT].tolist() == [p - moved for p in whole.spans[PROMPT].tolist() if p > moved]


def test_truncation_that_cannot_help_says_so_with_its_numbers() -> None:
    with pytest.raises(ContextOverflow, match="response alone") as raised:
        trees("chatml", 60).pair(Pair(chat("Hi"), LONG, "No"), Truncation.PROMPT_START)
    assert raised.value.field == "chosen"
    with pytest.raises(ContextOverflow, match="prompt alone") as raised:
        trees("chatml", 60).pair(Pair(chat(LONG), "Yes", "No"), Truncation.RESPONSE_END)
    assert raised.value.details["context_tokens"] == "60"


def test_a_text_is_cut_at_its_end_only() -> None:
    assert len(trees("raw", 9).text(LONG, Truncation.RESPONSE_END).ids) == 9
    with pytest.raises(ContextOverflow):
        trees("raw", 9).text(LONG)
    with pytest.raises(InvalidItem) as raised:
        trees("raw", 9).text(LONG, Truncation.PROMPT_START)
    assert raised.value.reason == "TRUNCATION_UNSUPPORTED"
    with pytest.raises(EmptySpan):
        trees("raw").text("")


@pytest.mark.parametrize(("wanted", "first"), [(True, True), (False, False)])
def test_raw_text_gets_a_first_token_where_the_sae_was_trained_with_one(wanted: bool, first: bool) -> None:
    tokenizer = hugging_face("raw")
    tree = TreeTokenizer(tokenizer, context_tokens=99, prepend_bos=wanted).response(PromptedResponse("", "a b c"))
    assert (int(tree.trunk[0]) == tokenizer.bos_token_id) is first
    assert len(tree.spans[CHOSEN]) == len(tokenizer("a b c").input_ids) - (0 if first else 1)


def test_a_first_token_that_the_tokenizer_puts_itself_is_not_put_twice() -> None:
    tree = TreeTokenizer(hugging_face("llama3"), context_tokens=99, prepend_bos=True).response(PromptedResponse("", "a b c"))
    assert (tree.trunk == hugging_face("llama3").bos_token_id).sum() == 1


def test_a_tokenizer_set_to_pad_and_truncate_is_read_without_either() -> None:
    tokenizer = build_tokenizer("chatml")
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tree = TreeTokenizer(tokenizer, context_tokens=10_000).pair(Pair(chat("Hi"), LONG, "No"))
    assert path(tree, 0) == path(trees("chatml").pair(Pair(chat("Hi"), LONG, "No")), 0)


def test_a_slow_tokenizer_is_refused_with_the_way_to_convert_it() -> None:
    with pytest.raises(SubjectMismatch, match="use_fast=True") as raised:
        TreeTokenizer(object(), context_tokens=10)
    assert raised.value.reason == "SLOW_TOKENIZER"
