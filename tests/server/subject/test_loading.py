"""Loading: from folders and GGUF files, offline, on the device and in the dtype asked for, or an error that says what to do."""

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assay_server.errors import SubjectMismatch
from assay_server.subject.hooks import parse_hook
from assay_server.subject.loading import find_device, find_dtype, load_model, load_sae
from assay_server.subject.reader import TreeReader
from assay_server.subject.subject import load_subject

from tests.server.subject.conftest import PAIRS, Bench
from tests.support.models import BLOCKS, CONTEXT, HOOK, WIDTH
from tests.support.saes import build_sae, metadata, save_sae

CPU = torch.device("cpu")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Fails on any connection out of the process, and remembers it: a loader may swallow the error."""
    tried: list[Any] = []

    def refuse(self: Any, address: Any) -> None:
        tried.append(address)
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: refuse(None, args))
    return tried


def test_a_hub_model_is_not_fetched_unless_downloads_are_allowed(no_network: list[Any]) -> None:
    with pytest.raises(SubjectMismatch, match="--allow-download") as raised:
        load_model("an-organisation/no-such-model", parse_hook(HOOK), device=CPU, dtype=torch.float32, allow_download=False)
    assert (raised.value.reason, raised.value.details) == ("MODEL_NOT_FOUND", {"model": "an-organisation/no-such-model"})
    assert no_network == []


@pytest.mark.parametrize(
    ("release", "sae_id"), [("gpt2-small-res-jb", "blocks.8.hook_resid_pre"), ("an-organisation/no-such-sae", "x")]
)
def test_a_registry_sae_is_not_fetched_unless_downloads_are_allowed(no_network: list[Any], release: str, sae_id: str) -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    with pytest.raises(SubjectMismatch, match="--allow-download") as raised:
        load_sae(release, sae_id, device=CPU, dtype=torch.float32, allow_download=False)
    assert (raised.value.reason, raised.value.details) == ("SAE_NOT_FOUND", {"sae": release, "sae_id": sae_id})
    assert no_network == []
    assert before == constants.HF_HUB_OFFLINE


def test_a_registry_release_without_an_id_is_refused_with_the_flag_to_give(no_network: list[Any]) -> None:
    with pytest.raises(SubjectMismatch, match="--sae-id"):
        load_sae("gpt2-small-res-jb", device=CPU, dtype=torch.float32, allow_download=False)
    assert no_network == []


def test_a_folder_is_loaded_without_a_connection(bench: Bench, no_network: list[Any]) -> None:
    assert bench.load("llama", "topk").info.model_id == "llama"
    assert no_network == []


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_with_a_part_missing_is_refused_by_its_name(bench: Bench, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "incomplete"
    shutil.copytree(bench.model_folder("llama"), folder)
    (folder / missing).unlink()
    with pytest.raises(SubjectMismatch) as raised:
        load_model(str(folder), parse_hook(HOOK), device=CPU, dtype=torch.float32, allow_download=False)
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert "--allow-download" not in raised.value.message


def test_a_folder_that_is_no_sae_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text("{}")
    for folder in (tmp_path, bench.model_folder("llama")):
        with pytest.raises(SubjectMismatch) as raised:
            load_sae(str(folder), device=CPU, dtype=torch.float32, allow_download=False)
        assert raised.value.reason == "SAE_NOT_FOUND"


def test_a_loaded_model_is_cut_at_the_hook_and_has_no_unembedding(bench: Bench) -> None:
    model = load_model(str(bench.model_folder("qwen3")), parse_hook(HOOK), device=CPU, dtype=torch.float32, allow_download=False)
    assert (len(model.blocks), model.blocks_total, model.width, model.context_tokens) == (2, BLOCKS, WIDTH, CONTEXT)
    names = [name for name, _ in model.decoder.named_parameters()]
    assert not any("lm_head" in name or name.startswith(("norm.", "layers.2", "layers.3")) for name in names)
    assert not any(parameter.requires_grad for parameter in model.decoder.parameters())
    assert not model.decoder.training


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_dtypes_are_found_by_name_and_are_those_of_model_and_sae(bench: Bench, name: str, dtype: torch.dtype) -> None:
    assert find_dtype(name, CPU) is dtype
    subject = bench.load("gpt_neox", "jumprelu", dtype=name)
    parameters = [*subject._model.decoder.parameters(), subject.sae.W_enc, subject.sae.threshold]
    assert {parameter.dtype for parameter in parameters} == {dtype}


def test_an_accelerator_runs_in_bfloat16_by_default_and_in_float16_where_asked() -> None:
    gpu = torch.device("cuda:0")
    assert find_dtype("auto", gpu) is torch.bfloat16
    assert find_dtype("float16", gpu) is torch.float16


@pytest.mark.parametrize("name", ["float16", "float64", "int8", "", "torch.float32"])
def test_a_dtype_that_does_not_run_on_the_cpu_is_refused_with_those_that_do(bench: Bench, name: str) -> None:
    with pytest.raises(SubjectMismatch, match="float32 or bfloat16") as raised:
        bench.load("llama", "topk", dtype=name)
    assert (raised.value.reason, raised.value.details) == ("BAD_DTYPE", {"dtype": name, "device": "cpu"})


def test_the_device_is_found_by_itself() -> None:
    assert find_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "banana", "", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SubjectMismatch) as raised:
        find_device(name)
    assert raised.value.reason == "NO_DEVICE"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_cuda_device_is_refused_where_there_is_none() -> None:
    with pytest.raises(SubjectMismatch) as raised:
        find_device("cuda")
    assert raised.value.reason == "NO_DEVICE"


def write_gguf(path: Path, model: Any, tokenizer: Any) -> Path:
    """A Llama in GGUF, as llama.cpp writes it: query and key rows permuted, tokenizer and template inside."""
    import json

    import gguf

    config, state = model.config, {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = [tokenizer.convert_ids_to_tokens(i) if i < len(tokenizer) else f"<unused{i}>" for i in range(config.vocab_size)]
    special = set(tokenizer.added_tokens_decoder)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in vocabulary["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    writer.add_tensor("output.weight", state["lm_head.weight"])
    for block in range(config.num_hidden_layers):
        for theirs, ours in names.items():
            tensor = state[f"model.layers.{block}.{theirs}.weight"]
            if ours in heads:  # GGUF interleaves the halves that rotary embedding pairs
                rows = tensor.reshape(heads[ours], 2, tensor.shape[0] // heads[ours] // 2, -1)
                tensor = np.ascontiguousarray(rows.swapaxes(1, 2).reshape(tensor.shape))
            writer.add_tensor(f"blk.{block}.{ours}.weight", tensor)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def test_a_gguf_file_reads_as_the_folder_that_it_was_made_of(bench: Bench, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "llama.gguf", bench.model("llama"), bench.tokenizer("llama"))
    hook = parse_hook(HOOK)
    options: dict[str, Any] = {"device": CPU, "dtype": torch.float32, "allow_download": False}
    file, folder = load_model(str(path), hook, **options), load_model(str(bench.model_folder("llama")), hook, **options)
    for (name, a), (_, b) in zip(
        sorted(file.decoder.state_dict().items()), sorted(folder.decoder.state_dict().items()), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
    subject = load_subject(str(path), str(bench.sae_folder("llama", "topk")), device="cpu", overrides=("VARIANCE",))
    assert isinstance(subject.reader, TreeReader)
    assert subject.info.model_id == "llama.gguf"
    tree = subject.tokenizer.pair(PAIRS["one turn"])
    want = bench.reader("llama").residual(np.concatenate([tree.trunk, tree.branches[0]]).tolist())
    torch.testing.assert_close(subject.residual(tree)[: len(want)], want, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_quantised_gguf_file_from_elsewhere_loads(tmp_path: Path) -> None:
    path = os.environ.get("ASSAY_GGUF", "")
    if not Path(path).is_file():
        pytest.skip("ASSAY_GGUF names no .gguf file")
    model = load_model(path, parse_hook("blocks.1.hook_resid_post"), device=CPU, dtype=torch.float32, allow_download=False)
    sae = build_sae("topk", d_in=model.width, d_sae=1024, about=metadata(hook_name="blocks.1.hook_resid_post"))
    subject = load_subject(path, str(save_sae(sae, tmp_path)), device="cpu", overrides=("VARIANCE",))
    assert isinstance(subject.reader, TreeReader)
    assert subject.tokenizer.pair(PAIRS["one turn"]).size > 20
