"""Fingerprints: equal for what computes the same, different for what does not, blind to paths and devices."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from assay_server.subject.fingerprint import fingerprint_tensors, fingerprint_text
from assay_server.subject.hooks import parse_hook
from assay_server.subject.loading import cut_model, fingerprint_sae, load_model, load_sae
from hypothesis import given
from hypothesis import strategies as st

from tests.server.subject.conftest import Bench
from tests.support.models import HOOK
from tests.support.saes import build_sae, metadata, save_sae

CPU = torch.device("cpu")


def model_print(folder: Path, hook: str = HOOK, dtype: torch.dtype = torch.float32) -> str:
    return load_model(str(folder), parse_hook(hook), device=CPU, dtype=dtype, allow_download=False).fingerprint


def cut_print(bench: Bench, change: Any = lambda model: None, hook: str = HOOK) -> str:
    model = copy.deepcopy(bench.model("qwen2"))
    change(model)
    return cut_model(model, bench.tokenizer("qwen2"), parse_hook(hook), CPU).fingerprint


def test_the_same_model_from_another_folder_has_the_same_fingerprint(bench: Bench, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(bench.model_folder("qwen2"), moved)
    assert model_print(moved) == model_print(bench.model_folder("qwen2")) == cut_print(bench)


def test_one_weight_changed_changes_it_and_a_weight_past_the_hook_does_not(bench: Bench) -> None:
    def bump(name: str) -> Any:
        def change(model: Any) -> None:
            weight = dict(model.named_parameters())[name].data
            weight.view(-1)[7] = torch.nextafter(weight.view(-1)[7], torch.tensor(1e9))

        return change

    assert cut_print(bench, bump("model.layers.1.mlp.down_proj.weight")) != cut_print(bench)
    assert cut_print(bench, bump("model.layers.0.self_attn.q_proj.bias")) != cut_print(bench)
    assert cut_print(bench, bump("model.layers.2.mlp.down_proj.weight")) == cut_print(bench)
    assert cut_print(bench, bump("lm_head.weight")) == cut_print(bench)


def test_hook_configuration_and_dtype_change_it(bench: Bench) -> None:
    def rope(model: Any) -> None:
        model.config.rope_parameters = {**model.config.rope_parameters, "rope_theta": 5e4}

    def norm(model: Any) -> None:
        model.config.rms_norm_eps = 1e-3

    folder = bench.model_folder("qwen2")
    prints = [
        cut_print(bench), cut_print(bench, rope), cut_print(bench, norm),
        cut_print(bench, hook="blocks.2.hook_resid_post"), cut_print(bench, hook="blocks.2.hook_resid_pre"),
        model_print(folder, dtype=torch.bfloat16), model_print(bench.model_folder("qwen3")),
    ]  # fmt: skip
    assert len(set(prints)) == len(prints)


def test_attention_by_trees_or_alone_is_the_same_model(bench: Bench) -> None:
    def attend(model: Any) -> None:
        model.config._attn_implementation = "sdpa"

    assert cut_print(bench, attend) == cut_print(bench)


def test_tokenizer_and_template_have_their_own(bench: Bench, tmp_path: Path) -> None:
    def loaded(tokenizer: Any) -> tuple[str, str]:
        model = cut_model(copy.deepcopy(bench.model("qwen2")), tokenizer, parse_hook(HOOK), CPU)
        return model.tokenizer_fingerprint, model.template_fingerprint

    plain, other, grown = (copy.deepcopy(bench.tokenizer("qwen2")) for _ in range(3))
    other.chat_template = other.chat_template + " "
    grown.add_tokens(["baker"])
    assert loaded(plain) == loaded(bench.tokenizer("qwen2"))
    assert loaded(other)[0] == loaded(plain)[0]
    assert loaded(other)[1] != loaded(plain)[1]
    assert loaded(grown)[0] != loaded(plain)[0]
    plain.chat_template = None
    assert loaded(plain)[1] == ""


def sae_print(sae: Any, folder: Path, dtype: torch.dtype = torch.float32) -> str:
    return fingerprint_sae(load_sae(str(save_sae(sae, folder)), device=CPU, dtype=dtype, allow_download=False))


def test_an_saes_is_of_what_it_computes_and_not_of_where_it_came_from(tmp_path: Path) -> None:
    base = sae_print(build_sae("topk"), tmp_path / "a")
    assert sae_print(build_sae("topk"), tmp_path / "b") == base
    assert sae_print(build_sae("topk", about=metadata(model_name="qwen2", sae_lens_version="0")), tmp_path / "c") == base
    nudged = build_sae("topk")
    nudged.b_enc.data[3] += 1e-6
    fewer = build_sae("topk")
    fewer.cfg.k -= 1
    centred = build_sae("topk", about=metadata(model_from_pretrained_kwargs={"center_writing_weights": True}))
    others = [
        sae_print(nudged, tmp_path / "d"),
        sae_print(fewer, tmp_path / "e"),
        sae_print(centred, tmp_path / "f"),
        sae_print(build_sae("topk", normalise="layer_norm"), tmp_path / "g"),
        sae_print(build_sae("topk", bias_from_input=False), tmp_path / "h"),
        sae_print(build_sae("topk_rescaled"), tmp_path / "i"),
        sae_print(build_sae("topk"), tmp_path / "j", torch.bfloat16),
    ]
    assert len({base, *others}) == 8


def test_names_shapes_and_dtypes_are_framed_so_that_no_two_sets_of_tensors_run_together() -> None:
    a, b = torch.arange(4.0), torch.arange(4.0, 8.0)
    sets = [
        {"a": a, "b": b}, {"a": b, "b": a}, {"ab": torch.cat([a, b])}, {"a": a.view(2, 2), "b": b}, {"a": a.bfloat16(), "b": b},
        {"a": a.view(torch.int32), "b": b}, {"a": a}, {}, {"a": torch.tensor(0.0)}, {"a": torch.zeros(0)},
    ]  # fmt: skip
    prints = [fingerprint_tensors(tensors.items(), {}) for tensors in sets]
    assert len(set(prints)) == len(sets)
    assert fingerprint_tensors([("b", b), ("a", a)], {}) == prints[0]
    assert fingerprint_tensors([("a", a.view(2, 2).T.contiguous().T.reshape(-1)), ("b", b)], {}) == prints[0]
    assert fingerprint_tensors([("a", a), ("b", b)], {"x": 1}) != prints[0]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
)
def test_texts_are_framed_by_their_lengths(a: list[str], b: list[str]) -> None:
    assert (fingerprint_text(*a) == fingerprint_text(*b)) == (a == b)


@pytest.mark.parametrize("family", ["gemma2", "bloom", "gpt2"])
def test_a_fingerprint_is_a_function_of_files_alone(bench: Bench, family: str, tmp_path: Path) -> None:
    """Rewriting the configuration in another order, with another version's stamp, is no other model."""
    folder = tmp_path / "again"
    shutil.copytree(bench.model_folder(family), folder)
    config = json.loads((folder / "config.json").read_text())
    config = dict(reversed(list(config.items()))) | {"transformers_version": "0.0", "_name_or_path": "elsewhere"}
    (folder / "config.json").write_text(json.dumps(config))
    assert model_print(folder) == model_print(bench.model_folder(family))
