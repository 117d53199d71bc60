"""Keys: equal for equal work, different for anything that could change a feature."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from assay_server.cache import KEY_BYTES, KeyMaker, lacks_prompt
from assay_server.subject.types import Directions, Pooled, SpanName, SubjectInfo, TokenTree
from hypothesis import given
from hypothesis import strategies as st

from tests.server.cache.builders import pooled_of

INFO = SubjectInfo(
    model_id="m",
    model_fingerprint="model",
    model_architecture="LlamaForCausalLM",
    tokenizer_fingerprint="tokenizer",
    template_fingerprint="template",
    hook="blocks.15.hook_resid_post",
    hook_module="model.layers.15",
    blocks_run=16,
    blocks_total=30,
    d_in=576,
    d_sae=4096,
    sae_architecture="topk",
    sae_id="s",
    sae_fingerprint="sae",
    dtype="float32",
    device="cpu",
    context_tokens=2048,
    explained_variance=0.9,
    mean_l0=32.0,
    calibration_tokens=1000,
)


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


TREE = TokenTree(
    trunk=ids(1, 2, 3),
    branches=(ids(4, 5), ids(6, 7, 8)),
    spans={SpanName.PROMPT: ids(1, 2), SpanName.CHOSEN: ids(3, 4), SpanName.REJECTED: ids(5, 6, 7)},
)
TREES = [
    TREE,
    replace(TREE, truncated=1),
    replace(TREE, trunk=ids(1, 2, 9)),
    replace(TREE, trunk=ids(1, 2, 3, 4), branches=(ids(5), ids(6, 7, 8))),
    replace(TREE, branches=(ids(4, 5, 6), ids(7, 8))),
    replace(TREE, branches=(ids(6, 7, 8), ids(4, 5))),
    replace(TREE, branches=(ids(4, 5, 6, 7, 8),)),
    replace(TREE, branches=(ids(4, 5), ids(6, 7, 8), ids())),
    replace(TREE, branches=()),
    replace(TREE, spans=TREE.spans | {SpanName.PROMPT: ids(1)}),
    replace(TREE, spans=TREE.spans | {SpanName.CHOSEN: ids(5, 6, 7), SpanName.REJECTED: ids(3, 4)}),
    replace(TREE, spans={SpanName.CHOSEN: ids(3, 4), SpanName.REJECTED: ids(5, 6, 7)}),
    replace(TREE, spans={SpanName.CHOSEN: ids(3, 4, 5, 6, 7)}),
]


def directions(seed: int) -> Directions:
    vectors = np.full((1, 576), seed, np.float32)
    return Directions(vectors, sha256(vectors.tobytes()).digest())


def test_every_difference_in_a_tree_is_another_key() -> None:
    maker = KeyMaker(INFO)
    keys = [maker.key(tree) for tree in TREES]
    keys += [maker.key(TREE, directions=directions(seed)) for seed in (0, 1)]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {KEY_BYTES}


@pytest.mark.parametrize(
    "field",
    ["model_fingerprint", "dtype", "sae_fingerprint", "hook", "tokenizer_fingerprint", "template_fingerprint"],
)
def test_every_part_of_the_subject_is_in_the_key(field: str) -> None:
    other = replace(INFO, **{field: "another"})
    assert KeyMaker(other).key(TREE) != KeyMaker(INFO).key(TREE)


def test_parts_of_the_subject_do_not_run_into_each_other() -> None:
    moved = replace(INFO, model_fingerprint="mode", dtype="lfloat32")
    assert KeyMaker(moved).key(TREE) != KeyMaker(INFO).key(TREE)


def test_what_was_measured_is_not_in_the_key() -> None:
    measured = replace(INFO, explained_variance=0.5, mean_l0=1.0, model_id="moved", device="cpu:0")
    assert KeyMaker(measured).key(TREE) == KeyMaker(INFO).key(TREE)


def test_a_key_stays_the_same_over_versions_unless_its_version_is_raised() -> None:
    """A server that is upgraded finds what the old one wrote. Change KEY_VERSION and this digest together, or neither."""
    assert KeyMaker(INFO).key(TREE).hex() == "dd57795aa844de8e42f1e068c3044df10adb5b9721df5aba44746f836ae4ab5b"


def test_memory_layout_and_order_of_spans_do_not_matter() -> None:
    strided = np.repeat(TREE.trunk, 2)[::2]
    assert not strided.flags.c_contiguous
    shuffled = replace(TREE, trunk=strided.astype(">i4"), spans=dict(reversed(TREE.spans.items())))
    maker = KeyMaker(INFO)
    assert maker.key(replace(TREE, trunk=strided)) == maker.key(shuffled) == maker.key(TREE)


ID_LISTS = st.lists(st.integers(0, 3), max_size=4)


@given(
    st.tuples(ID_LISTS, st.lists(ID_LISTS, max_size=3), ID_LISTS), st.tuples(ID_LISTS, st.lists(ID_LISTS, max_size=3), ID_LISTS)
)
def test_two_trees_share_a_key_only_if_they_are_equal(a: tuple, b: tuple) -> None:
    def tree(parts: tuple) -> TokenTree:
        trunk, branches, chosen = parts
        return TokenTree(ids(*trunk), tuple(ids(*branch) for branch in branches), {SpanName.CHOSEN: ids(*chosen)})

    maker = KeyMaker(INFO)
    assert (maker.key(tree(a)) == maker.key(tree(b))) == (a == b)


def test_an_entry_lacks_the_prompt_only_if_there_is_one() -> None:
    assert lacks_prompt(pooled_of(0))
    assert not lacks_prompt(pooled_of(0, prompt=True))
    without: Pooled = replace(pooled_of(0), prompt_tokens=0)
    assert not lacks_prompt(without)
