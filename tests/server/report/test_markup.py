from html.parser import HTMLParser

import pytest
from assay_server.report.markup import Html, clean, clip, el, escape, join
from hypothesis import given
from hypothesis import strategies as st

from tests.server.report.examples import ATTACK


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


ANY_TEXT = st.text(st.characters(), max_size=200)


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_comes_back_as_text_and_attribute_and_makes_no_element(text: str, title: str) -> None:
    reader = read(el("p", text, title=title))
    assert [tag for tag, _ in reader.tags] == ["p"]
    assert reader.text == clean(text)
    assert reader.tags[0][1] == {"title": clean(title)}


@given(ANY_TEXT)
def test_cleaning_keeps_every_offset_and_can_be_written_as_utf8(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    cleaned.encode()
    assert not any(ord(char) < 0x20 and char not in "\t\n" for char in cleaned)
    assert clean(cleaned) == cleaned


def test_cleaning_shows_control_characters_and_defuses_those_that_reorder_text() -> None:
    assert clean("a\x00\x1b\x7f\x85b\u202e\u2066c\ud800\ufffe") == "a␀␛␡\ufffdb\ufffd\ufffdc\ufffd\ufffd"
    assert clean("one\r\ntwo\rthree\u2028four\tfive") == "one \ntwo\nthree\nfour\tfive"


def test_cleaning_leaves_marks_joiners_and_other_scripts_alone() -> None:
    text = "é́ 👩‍👩‍👧 שלום\u200f ‎ ދިވެހި 漢字 🏴󠁧󠁢󠁥󠁮󠁧󠁿"
    assert clean(text) == text


def test_markup_is_taken_as_it_is_and_text_beside_it_is_not() -> None:
    assert el("p", el("b", "x"), "<i>") == "<p><b>x</b>&lt;i&gt;</p>"
    assert join([Html("<br>"), "<br>"], ", ") == "<br>, &lt;br&gt;"
    assert escape(Html("<br>")) == "<br>"


def test_attributes_are_left_out_bare_or_quoted() -> None:
    markup = el("input", type="checkbox", checked=True, disabled=False, id=None, aria_label='a"b', class_="x")
    assert markup == '<input type="checkbox" checked aria-label="a&#34;b" class="x">'


def test_a_name_of_an_attribute_cannot_be_made_from_data() -> None:
    with pytest.raises(ValueError, match="no attribute's name"):
        el("p", **{"onload=x ": "y"})


def test_clipping_says_that_something_is_missing() -> None:
    assert clip("short", 5) == "short"
    assert clip("too long", 5) == "too…"
    assert len(clip("x" * 10**6, 90)) == 90


def test_the_attack_of_the_examples_holds_what_it_says() -> None:
    assert "</script>" in ATTACK
    assert "\u202e" in ATTACK
    assert "\ud800" in ATTACK
