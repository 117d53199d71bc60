"""Words for groups: what the members share and others do not, by weight."""

from assay_server.labelling.evidence import METHOD as EVIDENCE
from assay_server.labelling.labels import FeatureLabel, GroupLabel, Labels
from assay_server.labelling.words import METHOD, GroupWords


def by_tokens(id: int, *tokens: str) -> FeatureLabel:
    return FeatureLabel(id, label=f"“{tokens[0].strip()}”", label_method=EVIDENCE, top_tokens=tokens)


def labels(*entries: FeatureLabel) -> Labels:
    return Labels(100, {entry.id: entry for entry in entries})


def test_tokens_that_members_share_come_first_and_each_once_whatever_its_case() -> None:
    words = GroupWords(
        labels(
            by_tokens(0, " sorry", " Sorry"),
            by_tokens(1, "Sorry", " regret"),
            by_tokens(2, " apology", " sorry"),
            by_tokens(3, "x"),
        )
    )
    told = words.of([0, 1, 2])
    assert told.label_method == METHOD
    assert told.label.split(", ")[0] in ("“sorry”", "“Sorry”")
    assert told.label.casefold().count("sorry") == 1
    assert told.detection_score is None


def test_tokens_that_every_feature_shows_tell_little() -> None:
    common = [by_tokens(id, " the", f" word{id}") for id in range(50)]
    assert GroupWords(labels(*common)).of([7, 8]).label == "“word7”, “word8”, “the”"


def test_the_stronger_member_speaks_louder() -> None:
    words = GroupWords(labels(by_tokens(0, " a", " b"), by_tokens(1, " c", " d")))
    assert words.of([0, 1], [0.1, 0.9]).label.startswith("“c”")
    assert words.of([0, 1], [0.9, -0.1]).label.startswith("“a”")
    assert words.of([1, 0]).label.startswith("“c”"), "without weights, the first is the strongest"


def test_prose_labels_are_quoted_where_they_carry_more_than_tokens_do() -> None:
    prose = FeatureLabel(5, label="polite refusals", label_method="endpoint:judge", top_tokens=(" cannot",))
    other = FeatureLabel(6, label="apologies", label_method="neuronpedia:x")
    assert GroupWords(labels(prose, other, by_tokens(0, " a"))).of([5, 6, 0]).label == "polite refusals; apologies"
    assert GroupWords(labels(prose, by_tokens(0, " a"), by_tokens(1, " b"))).of([0, 1, 5]).label == "“a”, “b”, “cannot”"


def test_a_prose_label_that_detects_too_little_speaks_for_no_group() -> None:
    weak = FeatureLabel(5, label="refusals", label_method="endpoint:judge", detection_score=0.6, top_tokens=(" cannot",))
    sure = FeatureLabel(6, label="apologies", label_method="endpoint:judge", detection_score=0.7)
    assert GroupWords(labels(weak, sure)).of([6, 5], [2, 1]).label == "apologies"
    assert GroupWords(labels(weak, sure)).of([5, 6], [2, 1]).label == "“cannot”", "its tokens still count"


def test_weak_labels_without_tokens_name_no_group() -> None:
    """As a Neuronpedia import gives them: explanations with a score, and no tokens."""
    weak = [FeatureLabel(id, label="refusals", label_method="neuronpedia", detection_score=0.5) for id in (5, 6)]
    assert GroupWords(labels(*weak)).of([5, 6], [2, 1]) == GroupLabel()


def test_members_without_labels_say_nothing() -> None:
    assert GroupWords(labels()).of([1, 2, 3]) == GroupLabel()
    assert GroupWords(labels()).of([]) == GroupLabel()


def test_words_that_are_being_told_do_not_see_labels_that_change_meanwhile() -> None:
    known = labels(by_tokens(0, " a"), by_tokens(1, " b"))
    words = GroupWords(known)
    before = words.of([0, 1])
    known.update([by_tokens(1, " new"), by_tokens(2, " newer")])
    assert words.of([0, 1]) == before
    assert words.of([2]) == GroupLabel()
    assert "new" in GroupWords(known).of([1]).label
