"""What is checked before a subject serves (METHOD.md §6), and what an operator may override by name."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assay_server.errors import ContextOverflow, SubjectMismatch
from assay_server.subject.calibration import CALIBRATION
from assay_server.subject.subject import TreeRequest, load_subject
from assay_server.subject.types import Message, SpanName
from assay_server.subject.verification import OVERRIDABLE
from sae_lens import SAE
from safetensors.torch import load_file

from tests.server.subject.conftest import PAIRS, Bench, chat, for_family, hold_pair
from tests.support import reference
from tests.support.models import BLOCKS, HOOK, LAYER, WIDTH
from tests.support.saes import FEATURES, build_sae, metadata, save_sae


def load(bench: Bench, sae: Any, folder: Path, family: str = "qwen2", **options: Any) -> Any:
    return load_subject(
        str(bench.model_folder(family)), str(save_sae(sae, folder)), device="cpu", **{"overrides": ("VARIANCE",), **options}
    )


def refused(bench: Bench, sae: Any, folder: Path, family: str = "qwen2", **options: Any) -> SubjectMismatch:
    with pytest.raises(SubjectMismatch) as raised:
        load(bench, sae, folder, family, **options)
    return raised.value


def test_an_sae_of_another_width_is_refused_with_both_widths_and_no_override(bench: Bench, tmp_path: Path) -> None:
    error = refused(bench, build_sae("standard", d_in=48), tmp_path, overrides=OVERRIDABLE)
    assert (error.reason, error.details) == ("WIDTH", {"d_in": "48", "width": "64"})
    assert "48" in error.message
    assert "64" in error.message


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("1", "UNKNOWN_HOOK"),
        ("blocks.1.hook_mlp_out", "UNKNOWN_HOOK"),
        (f"blocks.{BLOCKS}.hook_resid_post", "HOOK_OUT_OF_RANGE"),
        (f"blocks.{BLOCKS + 1}.hook_resid_pre", "HOOK_OUT_OF_RANGE"),
    ],
)
@pytest.mark.parametrize("said_by", ["sae", "operator"])
def test_a_hook_that_the_model_does_not_have_is_refused(
    bench: Bench, tmp_path: Path, hook: str, reason: str, said_by: str
) -> None:
    about = metadata(hook_name=hook if said_by == "sae" else HOOK)
    error = refused(bench, build_sae("standard", about=about), tmp_path, hook="" if said_by == "sae" else hook)
    assert error.reason == reason
    if reason == "HOOK_OUT_OF_RANGE":
        assert f"{BLOCKS} blocks (0 to {BLOCKS - 1})" in error.message


def test_an_sae_that_names_no_hook_needs_the_operators(bench: Bench, tmp_path: Path) -> None:
    sae = build_sae("standard", about=metadata(hook_name=None))
    assert refused(bench, sae, tmp_path).reason == "UNKNOWN_HOOK"
    assert load(bench, sae, tmp_path, hook="blocks.2.hook_resid_pre").info.hook_module == "model.layers.1:output"


def rewritten(folder: Path, **changes: Any) -> Path:
    """An SAE's stored configuration with entries changed, as a file from elsewhere may have them."""
    import json

    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**config, **changes}))
    return folder


def load_folder(bench: Bench, folder: Path, **options: Any) -> Any:
    return load_subject(str(bench.model_folder("qwen2")), str(folder), device="cpu", overrides=("VARIANCE",), **options)


def test_an_sae_whose_normalisation_factor_is_not_stored_is_refused_with_the_fold_named(bench: Bench, tmp_path: Path) -> None:
    error = refused(bench, build_sae("standard", normalise="expected_average_only_in"), tmp_path)
    assert error.reason == "SAE_NORMALISATION"
    assert "fold_activation_norm_scaling_factor" in error.message


def test_an_sae_that_was_folded_as_the_message_says_is_read(bench: Bench, tmp_path: Path) -> None:
    sae = build_sae("standard", normalise="expected_average_only_in")
    sae.fold_activation_norm_scaling_factor(0.3)
    assert load(bench, sae, tmp_path).info.sae_architecture == "standard"


def test_an_sae_that_reads_attention_heads_is_refused(bench: Bench, tmp_path: Path) -> None:
    folder = save_sae(build_sae("standard", about=metadata(hook_name="blocks.1.attn.hook_z")), tmp_path)
    with pytest.raises(SubjectMismatch) as raised:
        load_folder(bench, rewritten(folder, reshape_activations="hook_z"), hook=HOOK)
    assert raised.value.reason == "SAE_RESHAPES"


def test_an_architecture_that_saelens_does_not_know_is_refused_by_name(bench: Bench, tmp_path: Path) -> None:
    folder = save_sae(build_sae("standard"), tmp_path)
    with pytest.raises(SubjectMismatch) as raised:
        load_folder(bench, rewritten(folder, architecture="no_such_sae"))
    assert raised.value.reason == "SAE_NOT_FOUND"
    assert "no_such_sae" in raised.value.message


@pytest.mark.parametrize("name", ["skip_transcoder", "transcoder"])
def test_a_transcoder_is_no_sae(bench: Bench, tmp_path: Path, name: str) -> None:
    from sae_lens.saes.transcoder import SkipTranscoder, SkipTranscoderConfig, Transcoder, TranscoderConfig

    config, make = {"transcoder": (TranscoderConfig, Transcoder), "skip_transcoder": (SkipTranscoderConfig, SkipTranscoder)}[name]
    about = metadata(hook_name=HOOK)
    error = refused(
        bench, make(config(d_in=WIDTH, d_sae=FEATURES, d_out=WIDTH, apply_b_dec_to_input=False, metadata=about)), tmp_path
    )
    assert (error.reason, error.details["architecture"]) == ("SAE_ARCHITECTURE", name)
    assert "standard, jumprelu, gated, topk" in error.message


def test_an_sae_of_another_model_is_refused_by_name_and_read_where_the_operator_says_so(bench: Bench, tmp_path: Path) -> None:
    sae = build_sae("standard", about=metadata(model_name="gemma-2-2b"))
    error = refused(bench, sae, tmp_path / "a")
    assert error.reason == "MODEL_NAME"
    assert "gemma-2-2b" in error.message
    assert "--overrides MODEL_NAME" in error.message
    info = load(bench, sae, tmp_path / "b", overrides=("VARIANCE", "MODEL_NAME")).info
    assert any("gemma-2-2b" in note for note in info.overrides)
    assert len(info.overrides) == 2


@pytest.mark.parametrize("name", ["qwen2", "Qwen/qwen2", "org/QWEN-2", "qwen_2"])
def test_a_models_name_agrees_whatever_its_organisation_case_and_dashes(bench: Bench, tmp_path: Path, name: str) -> None:
    sae = build_sae("standard", about=metadata(model_name=name))
    assert len(load(bench, sae, tmp_path).info.overrides) == 1  # the variance alone


def test_an_sae_trained_with_a_first_token_that_the_tokenizer_lacks_is_refused_unless_overridden(
    bench: Bench, tmp_path: Path
) -> None:
    sae = build_sae("standard", about=metadata(prepend_bos=True))
    assert refused(bench, sae, tmp_path / "a", family="mistral").reason == "BOS"  # a WordPiece without one
    subject = load(bench, sae, tmp_path / "b", family="mistral", overrides=("VARIANCE", "BOS"))
    assert any("beginning-of-sequence" in note for note in subject.info.overrides)
    with_one = load(bench, sae, tmp_path / "c", family="gpt_neox")
    text = with_one.tokenizer.text("The baker")
    assert text.ids[0] == bench.tokenizer("gpt_neox").bos_token_id
    assert text.tokens[0].message == -1


def test_an_sae_that_explains_too_little_is_refused_with_the_figure_and_noted_where_overridden(
    bench: Bench, tmp_path: Path
) -> None:
    sae = build_sae("standard")
    error = refused(bench, sae, tmp_path / "a", overrides=())
    assert error.reason == "VARIANCE"
    assert "floor is 0.500" in error.message
    info = load(bench, sae, tmp_path / "b").info
    assert len(info.overrides) == 1
    assert f"{info.explained_variance:.3f}" in info.overrides[0]
    assert load(bench, sae, tmp_path / "c", overrides=(), variance_floor=info.explained_variance - 1e-6).info.overrides == ()
    assert refused(bench, sae, tmp_path / "d", overrides=(), variance_floor=info.explained_variance + 1e-6).reason == "VARIANCE"


def test_an_sae_of_broken_numbers_never_clears_the_floor(bench: Bench, tmp_path: Path) -> None:
    sae = build_sae("standard")
    sae.b_dec.data[0] = float("nan")
    error = refused(bench, sae, tmp_path, overrides=(), variance_floor=-1e9)
    assert error.reason == "VARIANCE"


@pytest.mark.parametrize(("family", "sae"), [("qwen2", "standard"), ("gemma2", "topk_rescaled"), ("gpt2", "jumprelu")])
def test_explained_variance_and_l0_are_those_of_the_plain_loop_on_the_calibration_text(
    bench: Bench, family: str, sae: str
) -> None:
    """METHOD.md §6: 1 - sum |h - h'|^2 / sum |h - mean h|^2 over response tokens, the mean over the whole text."""
    info, kind, encoder = bench.subject(family, sae).info, bench.kind(family), bench.sae(family, sae)
    rows = []
    for question, answer in CALIBRATION:
        prompt = chat(question) if kind.template else f"Question: {question}\n\nAnswer: "
        path = reference.tokenise(kind, bench.tokenizer(family), prompt, answer)
        rows.append(bench.reader(family).residual(path.ids)[path.response])
    h = torch.cat(rows)
    with torch.inference_mode():
        acts = encoder.encode(h)
        rest = (h - encoder.decode(acts)).double().square().sum()
    want = 1 - float(rest / (h - h.mean(0)).double().square().sum())
    assert info.explained_variance == pytest.approx(want, rel=1e-4)
    assert info.mean_l0 == pytest.approx(float((acts > 0).sum()) / len(h), rel=1e-3)
    assert info.calibration_tokens == len(h)


def test_a_bound_on_requests_moves_no_figure_of_the_calibration(bench: Bench) -> None:
    small, whole = bench.load("qwen2", "topk", max_sequence_tokens=40), bench.subject("qwen2", "topk")
    assert (small.info.context_tokens, whole.info.context_tokens) == (40, 2048)
    assert small.info.explained_variance == whole.info.explained_variance
    with pytest.raises(ContextOverflow) as raised:
        small.tokenizer.pair(PAIRS["several turns"])
    assert raised.value.details["context_tokens"] == "40"


def test_a_check_that_does_not_exist_cannot_be_overridden(bench: Bench, tmp_path: Path) -> None:
    error = refused(bench, build_sae("standard"), tmp_path, overrides=("VARIANCE", "WIDTH"))
    assert error.reason == "UNKNOWN_OVERRIDE"
    assert "WIDTH" in error.message
    assert all(name in error.message for name in OVERRIDABLE)


def test_the_info_tells_what_was_loaded_and_no_path_of_the_machine(bench: Bench) -> None:
    info = bench.subject("gemma3", "batchtopk").info
    assert (info.model_architecture, info.sae_architecture) == ("Gemma3ForCausalLM", "jumprelu")
    assert (info.hook, info.hook_module) == (HOOK, f"model.layers.{LAYER}:output")
    assert (info.blocks_run, info.blocks_total, info.d_in, info.d_sae) == (LAYER + 1, BLOCKS, WIDTH, FEATURES)
    assert (info.dtype, info.device, info.model_id) == ("float32", "cpu", "gemma3")
    assert "/" not in info.model_id + info.sae_id
    assert math.isfinite(info.explained_variance)
    assert all(
        len(p) == 64
        for p in (info.model_fingerprint, info.sae_fingerprint, info.tokenizer_fingerprint, info.template_fingerprint)
    )


def test_decoder_norms_are_not_folded_into_a_topk_sae_that_does_not_rescale_by_them(bench: Bench) -> None:
    """Folding them would reorder the top k; the stored weights are read as they are."""
    stored = load_file(str(bench.sae_folder("qwen2", "topk") / "sae_weights.safetensors"))
    subject = bench.subject("qwen2", "topk")
    assert torch.equal(subject.sae.W_enc, stored["W_enc"])
    assert torch.equal(subject.sae.W_dec, stored["W_dec"])
    assert stored["W_dec"].norm(dim=-1).std() > 0.05


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_an_sae_of_centred_writing_weights_reads_what_a_model_centred_by_hand_gives(
    bench: Bench, tmp_path: Path, architecture: str
) -> None:
    """LayerNorm does not see a residual's mean, so TransformerLens subtracts it from every weight that writes to the residual."""
    folder, family = tmp_path / "sae", "gpt2"
    about = metadata(model_from_pretrained_kwargs={"center_writing_weights": True})
    subject = load(bench, build_sae(architecture, scale=bench.scale(family), about=about), folder, family)
    centred = copy.deepcopy(bench.model(family))
    with torch.no_grad():
        for embedding in (centred.transformer.wte.weight, centred.transformer.wpe.weight):
            embedding.sub_(embedding.mean(dim=-1, keepdim=True))
        for block in centred.transformer.h:
            for writer in (block.attn.c_proj, block.mlp.c_proj):
                writer.weight -= writer.weight.mean(dim=-1, keepdim=True)
                writer.bias -= writer.bias.mean()
    reader, sae = reference.Reader(centred, LAYER), SAE.load_from_disk(str(folder)).requires_grad_(False)
    comparison = reference.Comparison()
    for name in ("one turn", "several turns", "long prompt"):
        pair = for_family(PAIRS[name], family)
        pooled = subject.read(subject.prepare([TreeRequest(subject.tokenizer.pair(pair))]))[0]
        spans, _ = reference.pair_spans(bench.kind(family), bench.tokenizer(family), pair)
        for side in (SpanName.CHOSEN, SpanName.REJECTED):
            ids, positions = spans[side]
            comparison.features(pooled.spans[side], sae, reader.residual(ids)[positions])
    comparison.finish(share=0.01)


def test_the_first_token_is_pooled_into_no_span_however_large_its_residual(bench: Bench, tmp_path: Path) -> None:
    """An outlier at position 0, as real models have (METHOD.md §6), moves nothing that is pooled."""
    folder = tmp_path / "outlier"
    bench.tokenizer("gpt2").save_pretrained(folder)
    model = copy.deepcopy(bench.model("gpt2"))
    model.transformer.wpe.weight.data[0] *= 1e4
    model.save_pretrained(folder)
    subject = load_subject(str(folder), str(bench.sae_folder("gpt2", "standard")), device="cpu", overrides=("VARIANCE",))
    tree = subject.tokenizer.pair(for_family(PAIRS["one turn"], "gpt2"))
    residual = subject.residual(tree)
    assert residual[0].norm() > 100 * residual[1:].norm(dim=-1).max()
    for span in subject.read(subject.prepare([TreeRequest(tree, include_prompt=True)]))[0].spans.values():
        assert span.max.max() < residual[1:].norm(dim=-1).max() * 10
        assert np.abs(span.mean_residual).max() < residual[1:].abs().max()


def test_two_subjects_share_a_process_without_sharing_an_answer(bench: Bench) -> None:
    """Attention is chosen by configuration at every read, so interleaved subjects cannot disturb each other."""
    subjects = {which: bench.subject(*which) for which in (("qwen2", "topk"), ("bloom", "topk"), ("llama", "gated"))}
    batches = {
        which: subject.prepare([TreeRequest(subject.tokenizer.pair(PAIRS["one turn"]), True)])
        for which, subject in subjects.items()
    }
    comparison = reference.Comparison()
    for _ in range(2):
        for which, subject in subjects.items():
            hold_pair(comparison, bench, which, PAIRS["one turn"], subject.read(batches[which])[0])
    comparison.finish()


def test_weights_are_read_from_safetensors_only(bench: Bench, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "pickled"
    shutil.copytree(bench.model_folder("qwen2"), folder)
    torch.save(load_file(str(folder / "model.safetensors")), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SubjectMismatch) as raised:
        load_subject(str(folder), str(bench.sae_folder("qwen2", "topk")), device="cpu")
    assert raised.value.reason == "MODEL_NOT_FOUND"


def test_a_system_turn_is_the_prompts_as_any_other(bench: Bench) -> None:
    subject = bench.subject("qwen2", "standard")
    pair = PAIRS["one turn"]
    with_system = type(pair)((Message("system", "Be brief, baker."), *pair.prompt), pair.chosen, pair.rejected)  # type: ignore[misc]
    pooled = subject.read(subject.prepare([TreeRequest(subject.tokenizer.pair(with_system), True)]))[0]
    hold_pair(comparison := reference.Comparison(), bench, ("qwen2", "standard"), with_system, pooled)
    comparison.finish()
    assert pooled.prompt_tokens > len(subject.tokenizer.pair(pair).spans[SpanName.PROMPT])
