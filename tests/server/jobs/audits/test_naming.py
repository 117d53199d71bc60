from __future__ import annotations

import pytest
from assay_server.jobs.audits.naming import concept_name, condition_name, listed, quantified, where_words
from assay_server.jobs.audits.types import ConceptRow, ConditionRow, LabelText, NamedText


def concept(name: str = "feature/123", label: LabelText | None = None, named: NamedText | None = None) -> ConceptRow:
    return ConceptRow(name, (123,), 1, label or LabelText(), named)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (concept(named=NamedText("bold text", "descriptor", 0.9), label=LabelText("**", "evidence-tokens/1", 0.9)), "bold text"),
        (concept(named=NamedText("more bold text", "descriptor")), "bold text"),
        (concept(named=NamedText("sorry, apologize", "words")), "“sorry”, “apologize”"),
        (concept(named=NamedText("“sorry”", "words")), "“sorry”"),
        (concept(named=NamedText("", ""), label=LabelText("bullet lists", "endpoint", 0.9)), "bullet lists"),
        (concept(label=LabelText("bullet lists", "endpoint", 0.7)), "bullet lists"),
        (concept(label=LabelText("bullet lists", "endpoint")), "bullet lists"),
        (concept(label=LabelText("bullet lists", "endpoint", 0.69)), "unnamed (feature 123)"),
        (concept(label=LabelText("“the”, “a”", "evidence-tokens/1", 0.8)), "tokens “the”, “a”"),
        (concept(label=LabelText("“health”, “medical”", "members/1")), "tokens “health”, “medical”"),
        (concept(label=LabelText("medicine, health", "members/1")), "medicine, health"),
        (concept(label=LabelText("“you” as a subject; lists", "members/1")), "“you” as a subject; lists"),
        (concept(label=LabelText("“Sure”, blank line, “””", "members/1")), "tokens “Sure”, blank line, “””"),
        (concept(label=LabelText("after “the”", "evidence-tokens/1", 0.8)), "tokens: after “the”"),
        (concept(), "unnamed (feature 123)"),
        (concept("cluster/3"), "unnamed (cluster 3)"),
        (concept("response-cluster/5"), "unnamed (response cluster 5)"),
        (concept("concepts/praise"), "praise"),
        (concept("word/sorry"), "“sorry”"),
        (concept("text/ordered-list"), "ordered list"),
    ],
)
def test_what_can_be_seen_names_a_concept_and_a_weak_label_never_does(row: ConceptRow, name: str) -> None:
    assert concept_name(row).text == name


@pytest.mark.parametrize(
    ("row", "more", "less"),
    [
        (concept(named=NamedText("bold text", "descriptor")), "more bold text", "less bold text"),
        (concept(named=NamedText("bullet lists", "descriptor")), "more bullet lists", "fewer bullet lists"),
        (concept(named=NamedText("a refusal", "descriptor")), "more refusals", "fewer refusals"),
        (concept(named=NamedText("an apology", "descriptor")), "more apologies", "fewer apologies"),
        (
            concept(named=NamedText("a mention of being an AI", "descriptor")),
            "more mentions of being an AI",
            "fewer mentions of being an AI",
        ),
        (
            concept(named=NamedText("an offer of more help", "descriptor")),
            "more offers of more help",
            "fewer offers of more help",
        ),
        (concept(named=NamedText("the first person", "descriptor")), "more of the first person", "less of the first person"),
        (concept(named=NamedText("praise of the user", "descriptor")), "more praise of the user", "less praise of the user"),
        (concept(named=NamedText("a long text", "descriptor")), "longer texts", "shorter texts"),
        (concept(named=NamedText("sorry", "words")), "more “sorry”", "less “sorry”"),
        (concept(label=LabelText("hedges: “perhaps”", "hand")), "more hedges: “perhaps”", "fewer hedges: “perhaps”"),
        (concept(label=LabelText("mathematics", "hand")), "more mathematics", "less mathematics"),
        (concept(label=LabelText("“the”", "evidence-tokens/1")), "more tokens “the”", "fewer tokens “the”"),
        (concept(), "more of something unnamed (feature 123)", "less of something unnamed (feature 123)"),
    ],
)
def test_more_and_less_of_a_name_are_grammatical(row: ConceptRow, more: str, less: str) -> None:
    name = concept_name(row)
    assert (quantified(name, less=False), quantified(name, less=True)) == (more, less)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ConditionRow("metadata/topic=own-writing", (), LabelText("not shown")), ("where", "topic = own-writing")),
        (
            ConditionRow("prompt-cluster/2", (), LabelText("", "", 0.9), NamedText("poem, story", "words")),
            ("where prompts are about", "“poem”, “story”"),
        ),
        (ConditionRow("prompt-cluster/2", (), LabelText()), ("where prompts are about", "something unnamed (prompt cluster 2)")),
        (
            ConditionRow("data-cluster/7", (), LabelText("physics", "hand", 0.2)),
            ("in pairs with", "something unnamed (data cluster 7)"),
        ),
        (ConditionRow("feature/9", (), LabelText("rhymes", "hand")), ("where the prompt has", "rhymes")),
    ],
)
def test_a_place_is_said_in_words(row: ConditionRow, words: tuple[str, str]) -> None:
    assert where_words(row) == words
    assert words[1].endswith(condition_name(row).text)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c", "d"], "a, b, c and d"),
        (["a", "b", "c", "d", "e"], "a, b, c, d and 1 more"),
        (["“a”, “b”", "c"], "“a”, “b”; and c"),
        (["“a”, “b”", "c", "d", "e", "f"], "“a”, “b”; c; d; e; and 1 more"),
    ],
)
def test_lists_end_in_and(texts: list[str], said: str) -> None:
    assert listed(texts) == said
