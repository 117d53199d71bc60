from __future__ import annotations

import pytest
from assay_server.jobs.audits.snippets import WINDOW, differing_words, snippet, word_marks
from assay_server.report.model import Highlight


def texts(text: str, spans: tuple[tuple[int, int], ...] | list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in spans]


def test_words_that_the_other_response_lacks_are_found() -> None:
    chosen, rejected = "Boil the **fresh** pasta for ten minutes.", "Boil the pasta for nine minutes."
    assert texts(chosen, differing_words(chosen, rejected)) == ["**fresh**", "ten"]
    assert differing_words(chosen, chosen.upper()) == []
    assert texts("a b", differing_words("a b", "")) == ["a b"]
    assert differing_words("", "a b") == []


def test_a_window_lies_around_the_strongest_mark_between_words_and_offsets_are_its_own() -> None:
    words = [f"word{place:03}" for place in range(200)]
    text = " ".join(words)
    at = text.index("word120")
    found = snippet(7, "chosen", text, text, [Highlight(0, 7, 1.0), Highlight(at, at + 7, 5.0), Highlight(at + 8, at + 15, 2.0)])
    assert texts(found.text, found.marks) == ["word120", "word121"]
    assert (found.row, found.side, found.differs) == (7, "chosen", ())
    assert found.text[0] == found.text[-1] == "…"
    assert set(found.text[1:-1].split()) <= set(words), "no word is cut"
    assert len(found.text) <= WINDOW + 2


@pytest.mark.parametrize("length", [0, 1, WINDOW, WINDOW + 1, 5000])
@pytest.mark.parametrize("space", ["", " "])
def test_any_length_with_marks_at_its_ends_and_beyond_stays_within_bounds(length: int, space: str) -> None:
    text = (("x" * 9 + space) * 600)[:length]
    marks = [
        Highlight(0, 3, 1.0),
        Highlight(length - 3, length, 9.0),
        Highlight(length - 1, length + 50, 99.0),
        Highlight(-4, 2, 99.0),
    ]
    found = snippet(0, "rejected", text, "other", marks)
    assert len(found.text) <= WINDOW + 2
    assert all(0 <= start < end <= len(found.text) for start, end in (*found.marks, *found.differs))
    assert not any("…" in piece for piece in texts(found.text, found.marks))
    if length > 3:
        assert found.text.rstrip("…").endswith(text[-3:]), "the strongest mark that is within the text"


def test_without_marks_the_first_difference_is_shown() -> None:
    same = "the same words again " * 40
    found = snippet(0, "chosen", same + "and then a kettle " + same, same + same, [])
    assert "a kettle" in " ".join(texts(found.text, found.differs))


def test_a_word_is_marked_by_itself_whatever_its_case() -> None:
    text = "Sorry, I am sorry; sorrysorry is no word, and “sorry” is."
    assert texts(text, word_marks(text, "sorry")) == ["Sorry", "sorry", "sorry"]
    assert word_marks(text, " ") == []


def test_code_points_beyond_the_basic_plane_count_as_one() -> None:
    text = "🫖👩‍👧 tea is **bold** " + "and so on " * 40
    at = text.index("bold")
    found = snippet(0, "chosen", text, "", [Highlight(at, at + 4, 1.0)])
    assert texts(found.text, found.marks) == ["bold"]
