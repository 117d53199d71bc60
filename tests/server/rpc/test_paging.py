"""Pages: their sizes, and tokens that belong to one question."""

import pytest
from assay_server.errors import InvalidItem
from assay_server.rpc.paging import MAX_PAGE, Place, open_offset, open_token, page_after, read_page_size, seal_token
from hypothesis import example, given
from hypothesis import strategies as st

QUESTION = ("ListHypotheses", "audits/a", "q < 1", "rank")
cursors = st.text(min_size=1, max_size=40)


def refused(token: str, question: tuple[str, ...] = QUESTION) -> bool:
    """Whether it is refused, and in the right words."""
    try:
        open_token(token, question)
    except InvalidItem as error:
        return (error.reason, error.field) == ("INVALID_PAGE_TOKEN", "page_token")
    return False


@given(cursors)
def test_a_token_leads_back_to_its_place(cursor: str) -> None:
    assert open_token(seal_token(cursor, QUESTION), QUESTION) == cursor


def test_the_first_page_has_no_token() -> None:
    assert open_token("", QUESTION) == ""


@given(cursors, st.sampled_from(range(4)), st.text(max_size=5))
def test_a_token_of_another_question_is_refused(cursor: str, part: int, other: str) -> None:
    question = list(QUESTION)
    question[part] += other + "x"
    assert refused(seal_token(cursor, tuple(question)))


def test_parts_of_a_question_do_not_run_into_each_other() -> None:
    assert refused(seal_token("3", ("a", "bc")), ("ab", "c"))


@given(cursors, st.integers(min_value=0), st.characters())
def test_a_tampered_token_is_refused(cursor: str, place: int, letter: str) -> None:
    token = seal_token(cursor, QUESTION)
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]
    assert changed == token or refused(changed)
    assert refused(token + letter)
    assert refused(token[:-1])


@given(st.text(min_size=1))
@example("MTAw")
@example("=")
@example("A" * 100_000)
@example("\ud800")
def test_made_up_tokens_are_refused(token: str) -> None:
    assert refused(token)


@pytest.mark.parametrize("cursor", ["-5", "1e3", "٣", "9" * 16, "x", "nan", "zz name", "0x1p99999 name", " "])
def test_a_token_that_is_sealed_and_says_nonsense_is_refused(cursor: str) -> None:
    token = seal_token(cursor, QUESTION)
    with pytest.raises(InvalidItem, match="page_token"):
        open_offset(token, QUESTION)
    if cursor not in ("-5", "1e3", "9" * 16, "nan"):
        with pytest.raises(InvalidItem, match="page_token"):
            page_after([Place("a", 1.0)], lambda place: place, size=1, token=token, question=QUESTION)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 5), st.booleans())
def test_pages_make_the_whole_list_once_each(times: list[int], size: int, newest_first: bool) -> None:
    items = [Place(str(n), float(created)) for n, created in enumerate(sorted(times, reverse=newest_first))]
    seen: list[Place] = []
    token = ""
    while True:
        page, token = page_after(items, lambda place: place, size=size, token=token, question=QUESTION, newest_first=newest_first)
        seen += page
        if not token:
            break
        assert len(page) == size
    assert seen == items


def test_page_sizes_have_a_default_and_a_most() -> None:
    assert [read_page_size(size) for size in (0, 1, 1000, 1001, 2**31 - 1)] == [100, 1, 1000, MAX_PAGE, MAX_PAGE]
    with pytest.raises(InvalidItem, match="page_size is -1"):
        read_page_size(-1)
