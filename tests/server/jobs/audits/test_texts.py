"""Descriptors and words as an audit tests them, against a slow reading of the pairs themselves that shares no array code."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assay_server.audit.matrices import Csr
from assay_server.audit.ngrams import least_texts
from assay_server.audit.words import log_odds, word_sums
from assay_server.descriptors import DESCRIPTORS, INDEX, amounts
from assay_server.descriptors.words import words
from assay_server.errors import Cancelled, NotFound
from assay_server.jobs.audits.texts import AuditTexts, TextColumns, check_text_concept, is_text_concept
from assay_server.jobs.datasets.shards import ShardGone
from assay_server.jobs.datasets.texts import read_texts
from assay_server.jobs.operations.progress import Progress
from assay_server.store.datasets import Datasets
from assay_server.store.files import Files
from assay_server.store.pairs import prompt_id
from assay_server.store.texts import asked
from assay_server.subject.types import Pair

from tests.server.store.builders import make_texts

PAIRS = make_texts(150, seed=4)
SWAPPED = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in PAIRS]


class Stored:
    """A dataset in shards of 16 and its texts, described."""

    def __init__(self, folder: Path, pairs: list[Pair] = PAIRS) -> None:
        files = Files(str(folder))
        datasets = Datasets(files, 16)
        self.dataset = datasets.write(lambda: [pairs], "x")
        self.texts = read_texts(files, datasets, self.dataset, Progress())

    def audit_texts(self, check: object = lambda: None) -> AuditTexts:
        return AuditTexts(self.texts, self.dataset, check)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def columns(stored: Stored) -> TextColumns:
    return stored.audit_texts().columns()


def ngrams(text: str) -> Counter[str]:
    """The phrases of one to three words of a text, none across the end of a sentence."""
    found: Counter[str] = Counter()
    sentence: list[str] = []
    for word in [*words(text), ""]:
        if word:
            sentence.append(word)
            continue
        found.update(" ".join(sentence[i : i + n]) for n in (1, 2, 3) for i in range(len(sentence) - n + 1))
        sentence = []
    return found


def slow_value(name: str, pair: Pair) -> tuple[int, float]:
    """Which response shows a concept, and how much more, by the definition alone."""
    kind, _, id = name.partition("/")
    if kind == "word":
        chosen, rejected = (ngrams(text)[id] for text in (pair.chosen, pair.rejected))
        value = (chosen > 0) - (rejected > 0)
        return value, float(chosen - rejected) * abs(value)
    rows = amounts(asked(pair.prompt), (pair.chosen, pair.rejected))
    presence = id in INDEX
    chosen, rejected = (np.float32(row[INDEX[id if presence else id.removeprefix("more-")]]) for row in rows)
    more = float(chosen - rejected)
    if not presence:
        return int(np.sign(more)), more
    bar = next(one.present_from for one in DESCRIPTORS if one.id == id)
    value = int(chosen >= bar) - int(rejected >= bar)
    return value, more * abs(value)


def test_every_column_says_what_the_pairs_say(columns: TextColumns) -> None:
    assert columns.values.shape == columns.strengths.shape == (150, len(columns.names))
    values, strengths = columns.values.toarray(), columns.strengths.toarray()
    for place, name in enumerate(columns.names):
        slow = [slow_value(name, pair) for pair in PAIRS]
        assert values[:, place].tolist() == [value for value, _ in slow], name
        assert strengths[:, place] == pytest.approx([more for _, more in slow], abs=1e-6), name
    assert set(np.unique(values).tolist()) == {-1, 0, 1}


def test_all_descriptors_are_columns_but_for_amounts_that_say_what_presence_says(columns: TextColumns) -> None:
    known = {"text/" + one.id for one in DESCRIPTORS}
    amounts_of = {"text/more-" + one.id for one in DESCRIPTORS}
    names = set(columns.names[: columns.words])
    assert known <= names <= known | amounts_of
    for one in DESCRIPTORS:
        same = all(slow_value(f"text/{one.id}", pair)[0] == slow_value(f"text/more-{one.id}", pair)[0] for pair in PAIRS)
        assert (f"text/more-{one.id}" not in names) is same, one.id
    assert "text/more-length" in names
    assert "text/more-closing-question" not in names, "a yes or no has no other amount"


def test_words_are_those_that_enough_responses_hold_and_no_longer_one_repeats(columns: TextColumns) -> None:
    found = {name.removeprefix("word/") for name in columns.names[columns.words :]}
    held: Counter[str] = Counter()
    for pair in PAIRS:
        for text in (pair.chosen, pair.rejected):
            held.update(set(ngrams(text)))
    often = {one: n for one, n in held.items() if least_texts(300) <= n <= 270}
    repeated = {
        short
        for short, n in often.items()
        if any(m >= 0.95 * n for long, m in often.items() if long != short and re.search(rf"(^| ){re.escape(short)}( |$)", long))
    }
    assert repeated
    assert found == set(often) - repeated
    assert len(found) == columns.values.shape[1] - columns.words == len(columns.vocabulary.ids)


def test_labels_decide_signs_alone(columns: TextColumns, tmp_path: Path) -> None:
    other = Stored(tmp_path, SWAPPED).audit_texts().columns()
    assert other.names == columns.names
    assert (other.values + columns.values).nnz == 0
    assert not (other.strengths + columns.strengths).data.any()
    assert columns.values.nnz > 1000


def test_rows_are_read_in_any_selection(columns: TextColumns) -> None:
    rows = np.array([3, 40, 149])
    values, strengths = columns.columns(rows)
    assert values.dtype == np.int64
    assert np.array_equal(values.toarray(), columns.values.toarray()[rows])
    assert np.array_equal(strengths.toarray(), columns.strengths.toarray()[rows])


@pytest.mark.parametrize(("descriptors", "with_words"), [(True, False), (False, True)])
def test_one_family_alone_is_the_same_columns(stored: Stored, columns: TextColumns, descriptors: bool, with_words: bool) -> None:
    part = stored.audit_texts().columns(descriptors=descriptors, with_words=with_words)
    inside = slice(0, columns.words) if descriptors else slice(columns.words, None)
    assert part.names == columns.names[inside]
    assert np.array_equal(part.values.toarray(), columns.values[:, inside].toarray())
    assert part.words == (len(part.names) if descriptors else 0)


def test_one_concept_is_read_whether_or_not_an_audit_would_test_it(stored: Stored, columns: TextColumns) -> None:
    for name in (
        "text/bold",
        "text/more-bold",
        "text/more-closing-question",
        "text/more-help",
        "text/more-more-help",
        "word/mint",
        "word/i can't",
        "word/no such words",
    ):
        one = stored.audit_texts().column(name)
        assert one.names == (name,)
        slow = [slow_value(name, pair) for pair in PAIRS]
        assert one.values.toarray().ravel().tolist() == [value for value, _ in slow], name
        assert one.strengths.toarray().ravel() == pytest.approx([more for _, more in slow]), name
    assert stored.audit_texts().column("word/mint").values.nnz > 10
    assert stored.audit_texts().column("word/no such words").values.nnz == 0


def test_odds_are_those_of_all_usable_pairs_read_at_once(stored: Stored, columns: TextColumns) -> None:
    """Prompts stand in several shards; a pair that is not usable counts nowhere."""
    prompts = np.array([prompt_id(pair.prompt) for pair in PAIRS])
    usable = np.array([bool(pair.chosen and pair.rejected) for pair in PAIRS])
    assert 0 < (~usable).sum() < 30
    assert len(set(prompts.tolist())) < 10
    found = stored.audit_texts().odds(columns.vocabulary, prompts, usable)
    names = [name.removeprefix("word/") for name in columns.names[columns.words :]]
    kept = [pair for pair, use in zip(PAIRS, usable, strict=True) if use]
    texts = [pair.chosen for pair in kept] + [pair.rejected for pair in kept]
    counted = np.array([[ngrams(text)[name] for name in names] for text in texts])
    sizes = np.array([sum(word != "" for word in words(text)) for text in texts])
    cells = np.repeat([0, 1], len(kept))
    whole = log_odds(word_sums(Csr(counted), sizes, cells, np.tile(prompts[usable], 2)))
    for name in ("delta", "se", "z", "p", "low", "high"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    chosen, rejected = counted[: len(kept)].sum(axis=0), counted[len(kept) :].sum(axis=0)
    total = (sizes[: len(kept)].sum(), sizes[len(kept) :].sum())
    strength = 1 / least_texts(len(texts))
    rate = (chosen + rejected) / sum(total)
    logs = [
        np.log((y + strength * n * rate) / (n + strength * n - y - strength * n * rate))
        for y, n in ((chosen, total[0]), (rejected, total[1]))
    ]
    assert found.delta == pytest.approx(logs[0] - logs[1])


def test_odds_change_sign_with_the_labels(stored: Stored, columns: TextColumns, tmp_path: Path) -> None:
    prompts = np.array([prompt_id(pair.prompt) for pair in PAIRS])
    usable = np.ones(150, np.bool_)
    found = stored.audit_texts().odds(columns.vocabulary, prompts, usable)
    other = Stored(tmp_path, SWAPPED).audit_texts().odds(columns.vocabulary, prompts, usable)
    assert other.delta == pytest.approx(-found.delta)
    assert other.p == pytest.approx(found.p)
    assert np.abs(found.z).max() > 1


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("text/bold", "text/bold"),
        ("text/more-bold", "text/more-bold"),
        ("text/more-help", "text/more-help"),
        ("text/more-more-help", "text/more-more-help"),
        ("word/Mint", "word/mint"),
        ("word/ I  Can\u2019t do ", "word/i can't do"),
        ("word/\U0001f600", "word/\U0001f600"),
    ],
)
def test_a_concept_of_the_text_has_one_spelling(name: str, spelled: str) -> None:
    assert is_text_concept(name)
    assert check_text_concept(name, "concept") == spelled
    assert check_text_concept(spelled, "concept") == spelled


@pytest.mark.parametrize("name", ["text/", "text/help", "text/more-", "word/", "word/ ", "word/a b c d", "word/a. b", "word/!"])
def test_a_concept_that_no_text_can_show_is_not_found(name: str) -> None:
    with pytest.raises(NotFound) as refused:
        check_text_concept(name, "prompt_concept")
    assert refused.value.field == "prompt_concept"


def test_other_names_are_no_concepts_of_the_text() -> None:
    assert not any(map(is_text_concept, ("feature/3", "cluster/1", "concepts/text", "texts/bold", "")))


def test_a_shard_that_goes_while_it_is_read_is_told_and_a_stop_is_obeyed(tmp_path: Path) -> None:
    stored = Stored(tmp_path)
    (tmp_path / stored.texts.root / "00004.json").unlink()
    with pytest.raises(ShardGone) as gone:
        stored.audit_texts().columns()
    assert gone.value.details == {"shard": "4"}

    def stop() -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        stored.audit_texts(stop).columns()
