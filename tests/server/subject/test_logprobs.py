"""Log-probabilities equal a plain transformers loop's, one sequence at a time, in float32: plain, steered, shared, alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from assay_server.errors import AssayError, SubjectMismatch
from assay_server.subject import logprobs as module
from assay_server.subject.logprobs import (
    LogprobReader,
    LogprobRequest,
    Steer,
    check_logprobs,
    flat_ids,
    path_edits,
    predecessors,
)
from assay_server.subject.subject import Subject, TreeRequest
from assay_server.subject.types import Pair, PromptedResponse, SpanName, TokenTree
from torch import Tensor

from tests.server.subject.conftest import PAIRS, Bench, for_family
from tests.support import reference
from tests.support.models import LAYER, WIDTH

FAMILIES = ("llama", "gemma2", "qwen2", "gpt2", "gpt_neox")
ALONE = ("bloom", "masked_window")  # families whose trees are not shared
NAMES = ("one turn", "several turns", "one a prefix of the other", "single tokens", "other scripts", "very long against short")


def steer(seed: int = 0, size: float = 4.0) -> Steer:
    vector = np.random.default_rng(seed).normal(size=WIDTH)
    return Steer((size * vector / np.linalg.norm(vector)).astype(np.float32))


class Plain:
    """The reference: the whole model by transformers, log_softmax of all logits, a hook that adds the vector."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._block = next(m for name, m in model.named_modules() if name.endswith(f".{LAYER}") and name.count(".") == 2)

    @torch.inference_mode()
    def logprob(self, ids: Sequence[int], response: Sequence[int], delta: np.ndarray | None, start: int = 1) -> float:
        def add(_: Any, __: Any, output: Any) -> Any:
            hidden: Tensor = output[0] if isinstance(output, tuple) else output
            hidden = hidden.clone()
            hidden[:, start:] += torch.from_numpy(delta)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = self._block.register_forward_hook(add) if delta is not None else None
        try:
            table = self._model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float().log_softmax(-1)
        finally:
            if handle is not None:
                handle.remove()
        return sum(float(table[position - 1, ids[position]]) for position in response)


@pytest.fixture(scope="module")
def subjects(bench: Bench) -> Any:
    known: dict[str, Subject] = {}

    def get(family: str) -> Subject:
        if family not in known:
            known[family] = bench.load(family, "topk", whole_model=True)
        return known[family]

    return get


def everywhere(tree: TokenTree) -> np.ndarray:
    return np.arange(1, tree.size, dtype=np.int32)


def read(subject: Subject, pairs: Sequence[Pair], variants: Sequence[Any], edited: Any = everywhere) -> list[Any]:
    assert subject.logprobs is not None
    trees = [subject.tokenizer.pair(pair) for pair in pairs]
    batch = subject.logprobs.prepare([LogprobRequest(tree, edited(tree)) for tree in trees])
    return subject.logprobs.read(batch, variants)


@pytest.mark.parametrize("family", [*FAMILIES, *ALONE])
def test_plain_and_steered_log_probabilities_equal_the_plain_loop(bench: Bench, subjects: Any, family: str) -> None:
    subject, plain, edit = subjects(family), Plain(bench.model(family)), steer()
    assert subject.logprobs.shares_blocks == (family in FAMILIES)
    pairs = [for_family(PAIRS[name], family) for name in NAMES]
    for pair, got in zip(pairs, read(subject, pairs, [None, edit]), strict=True):
        assert not isinstance(got, AssayError)
        spans, _ = reference.pair_spans(bench.kind(family), bench.tokenizer(family), pair)
        for column, side in enumerate((SpanName.CHOSEN, SpanName.REJECTED)):
            ids, positions = spans[side]
            for row, delta in enumerate((None, edit.delta)):
                want = plain.logprob(ids, positions, delta)
                assert got.sums[row, column] == pytest.approx(want, rel=2e-5, abs=2e-3), (side, row)
            assert got.tokens[column] == len(positions)
        assert np.abs(got.sums[1] - got.sums[0]).max() > 0.05, "steering changed nothing: nothing is being tested"


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_only_the_edited_tokens_are_steered(bench: Bench, subjects: Any, family: str) -> None:
    subject, plain, edit = subjects(family), Plain(bench.model(family)), steer(1)
    pair = for_family(PAIRS["several turns"], family)
    tree = subject.tokenizer.pair(pair)
    start = int(tree.spans[SpanName.CHOSEN][0]) - 1  # from the token that the first response token is predicted from
    (got,) = read(subject, [pair], [None, edit], lambda tree: np.arange(start, tree.size, dtype=np.int32))
    spans, _ = reference.pair_spans(bench.kind(family), bench.tokenizer(family), pair)
    for column, side in enumerate((SpanName.CHOSEN, SpanName.REJECTED)):
        ids, positions = spans[side]
        assert got.sums[1, column] == pytest.approx(plain.logprob(ids, positions, edit.delta, start), rel=2e-5, abs=2e-3)


def test_a_batch_gives_each_pair_what_it_gets_alone_and_order_does_not_matter(subjects: Any) -> None:
    subject = subjects("llama")
    pairs = [for_family(PAIRS[name], "llama") for name in NAMES]
    together = read(subject, pairs, [steer(), None, steer(3)])
    for pair, got in zip(pairs, together, strict=True):
        (alone,) = read(subject, [pair], [None, steer(), steer(3)])
        np.testing.assert_allclose(got.sums, alone.sums[[1, 0, 2]], rtol=1e-5, atol=1e-3)


def test_a_single_response_has_one_log_probability(bench: Bench, subjects: Any) -> None:
    subject, pair = subjects("qwen2"), PAIRS["one turn"]
    tree = subject.tokenizer.response(PromptedResponse(pair.prompt, pair.chosen))
    (got,) = subject.logprobs.read(subject.logprobs.prepare([LogprobRequest(tree, everywhere(tree))]), [None])
    (both,) = read(subject, [pair], [None])
    assert got.sums.shape == (1, 1)
    assert got.sums[0, 0] == pytest.approx(both.sums[0, 0], rel=1e-5)


def test_logits_are_made_in_blocks_and_only_for_response_tokens(subjects: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subjects("gemma2")
    whole, rows = subject.logprobs.whole, []
    pair = PAIRS["very long against short"]
    (before,) = read(subject, [pair], [None, steer()])
    monkeypatch.setattr(module, "LOGITS", 7 * subject.logprobs._vocabulary)
    real = type(whole).logits
    monkeypatch.setattr(type(whole), "logits", lambda self, hidden: rows.append(len(hidden)) or real(self, hidden))
    (after,) = read(subject, [pair], [None, steer()])
    np.testing.assert_allclose(after.sums, before.sums, rtol=1e-6, atol=1e-4)
    assert max(rows) == 7
    assert sum(rows) == 2 * int(before.tokens.sum())


def test_scoring_is_untouched_by_the_whole_model_beside_it(bench: Bench, subjects: Any) -> None:
    whole, cut = subjects("llama"), bench.subject("llama", "topk")
    pair = PAIRS["one turn"]
    request = TreeRequest(cut.tokenizer.pair(pair))
    read(whole, [pair], [None, steer()])
    (one,), (other,) = whole.read(whole.prepare([request])), cut.read(cut.prepare([request]))
    for side in one.spans:
        np.testing.assert_array_equal(one.spans[side].indices, other.spans[side].indices)
        np.testing.assert_array_equal(one.spans[side].max_f16, other.spans[side].max_f16)
    assert whole.info.model_fingerprint == cut.info.model_fingerprint
    assert len(whole.info.whole_model_fingerprint) == 64
    assert cut.info.whole_model_fingerprint == ""
    assert cut.logprobs is None


def test_blocks_up_to_the_hook_run_once_for_all_variants(subjects: Any) -> None:
    subject = subjects("llama")
    seen: dict[int, list[int]] = {}
    handles = [
        block.register_forward_hook(lambda _, args, __, at=at: seen.setdefault(at, []).append(args[0].shape[0]))
        for at, block in enumerate(subject.logprobs.whole.blocks)
    ]
    read(subject, [PAIRS["one turn"]], [None, steer(), steer(2)])
    for handle in handles:
        handle.remove()
    assert seen == {at: [1 if at <= LAYER else 3] for at in range(4)}


def test_a_pass_that_overflows_fails_its_own_request_with_a_reason(subjects: Any) -> None:
    subject = subjects("llama")
    broken = Steer(np.full(WIDTH, np.inf, np.float32))
    first, second = (subject.tokenizer.pair(PAIRS[name]) for name in ("one turn", "single tokens"))
    none = np.zeros(0, np.int32)
    batch = subject.logprobs.prepare([LogprobRequest(first, everywhere(first)), LogprobRequest(second, none)])
    bad, good = subject.logprobs.read(batch, [broken])
    assert isinstance(bad, AssayError)
    assert bad.reason == "NON_FINITE"
    assert np.isfinite(good.sums).all()


def test_a_reader_that_disagrees_with_the_model_is_refused_at_load(subjects: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subjects("qwen2")
    tree = subject.tokenizer.pair(PAIRS["one turn"])
    check_logprobs(subject.logprobs, tree)
    monkeypatch.setattr(LogprobReader, "_logprobs", lambda *_: np.zeros((2, len(flat_ids(tree)))))
    with pytest.raises(SubjectMismatch) as caught:
        check_logprobs(subject.logprobs, tree)
    assert caught.value.reason == "LOGPROBS"
    assert "--whole-model" in caught.value.message


def test_predecessors_and_edits_follow_each_path() -> None:
    spans = {SpanName.PROMPT: np.zeros(0, np.int32)}
    tree = TokenTree(np.arange(3, dtype=np.int32), (np.array([10, 11], np.int32), np.array([20], np.int32)), spans)
    assert flat_ids(tree).tolist() == [0, 1, 2, 10, 11, 20]
    assert predecessors(tree).tolist() == [0, 0, 1, 2, 3, 2]
    edited = np.array([False, True, False, True, False, True])
    assert path_edits([tree], edited, 6).tolist() == [
        [False, True, False, True, False, False],
        [False, True, False, True, False, False],
    ]
