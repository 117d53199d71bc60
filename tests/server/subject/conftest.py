"""The bench: random models, SAEs and subjects made once a session, and the plain reference beside each."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assay_server.subject.subject import Subject, TreeRequest, load_subject
from assay_server.subject.types import Message, Pair
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support import reference
from tests.support.chat_tokenizers import CORPUS, KINDS, Kind
from tests.support.models import FAMILIES, LAYER, save_family
from tests.support.saes import build_sae, save_sae

torch.set_num_threads(1)


class Bench:
    """Makes each thing once, on disk as a user's would be, and loads it by the code under test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.model_folder = cache(self._model_folder)
        self.model = cache(self._model)
        self.reader = cache(self._reader)
        self.tokenizer = cache(self._tokenizer)
        self.sae_folder = cache(self._sae_folder)
        self.sae = cache(self._sae)
        self.subject = cache(self._subject)
        self.scale = cache(self._scale)

    def _model_folder(self, family: str) -> Path:
        return save_family(family, self._folder / family)

    def _model(self, family: str) -> Any:
        """The whole model by plain transformers, float32."""
        folder = self.model_folder(family)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    def _reader(self, family: str) -> reference.Reader:
        return reference.Reader(self.model(family), LAYER)

    def _tokenizer(self, family: str) -> Any:
        return AutoTokenizer.from_pretrained(self.model_folder(family))

    def kind(self, family: str) -> Kind:
        return KINDS[FAMILIES[family].tokenizer]

    def _scale(self, family: str) -> float:
        """Size of a residual's entries at the hook, past the first token."""
        ids = self.tokenizer(family)(CORPUS[0] + CORPUS[3])["input_ids"]
        return float(self.reader(family).residual(ids)[1:].std())

    def _sae_folder(self, family: str, name: str, bias_from_input: bool = True, normalise: str = "none") -> Path:
        sae = build_sae(name, scale=self.scale(family), bias_from_input=bias_from_input, normalise=normalise)
        return save_sae(sae, self._folder / f"{family}-{name}-{bias_from_input}-{normalise}")

    def _sae(self, *which: Any) -> Any:
        """The reference's SAE: loaded by SAELens, apart from the subject's."""
        return SAE.load_from_disk(str(self.sae_folder(*which))).eval().requires_grad_(False)

    def _subject(self, *which: Any) -> Subject:
        return self.load(*which)

    def load(self, *which: Any, **options: Any) -> Subject:
        """A fresh subject; random SAEs explain no variance, which is overridden by name."""
        options = {"overrides": ("VARIANCE",), "device": "cpu", **options}
        return load_subject(str(self.model_folder(which[0])), str(self.sae_folder(*which)), **options)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def hold_pair(
    comparison: reference.Comparison, bench: Bench, which: tuple[Any, ...], pair: Pair, pooled: Any, include_prompt: bool = True
) -> None:
    """Hold a pooled pair to the reference (``reference.hold_pair``)."""
    kind, tokenizer = bench.kind(which[0]), bench.tokenizer(which[0])
    reference.hold_pair(comparison, kind, tokenizer, bench.reader(which[0]), bench.sae(*which), pair, pooled, include_prompt)


def hold_precision(bench: Bench, family: str, sae: str, dtype: str, device: str = "cpu") -> None:
    """Hold the engine in a short dtype to the plain loop in that dtype: as close to float32 as it is.

    Errors in L2 over a span's ``max``, and mean over its firing shares: at most 1.2 of the plain loop's own, plus 0.01.
    """
    subject = bench.load(family, sae, dtype=dtype, device=device)
    assert (subject.info.dtype, subject.device.type) == (dtype, device)
    short = getattr(torch, dtype)
    plain_sae = SAE.load_from_disk(str(bench.sae_folder(family, sae)), dtype=dtype, device=device).requires_grad_(False)
    plain_model = reference.Reader(copy.deepcopy(bench.model(family)).to(device, short), LAYER)
    engine: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    for pair in (for_family(pair, family) for pair in PAIRS.values()):
        pooled = subject.read(subject.prepare([TreeRequest(subject.tokenizer.pair(pair))]))[0]
        for name, span in pooled.spans.items():
            ids, positions = reference.pair_spans(bench.kind(family), bench.tokenizer(family), pair)[0][name]
            truth = reference.pool(bench.sae(family, sae).encode(bench.reader(family).residual(ids)[positions]))
            dense = np.zeros((2, len(truth[0])))
            dense[0, span.indices], dense[1, span.indices] = span.max, span.counts
            engine.append(_errors(dense[0], dense[1], truth, len(positions)))
            loop = reference.pool(plain_sae.encode(plain_model.residual(ids)[positions].to(device, short)))
            plain.append(_errors(loop[0], loop[1], truth, len(positions)))
    for ours, theirs in zip(np.mean(engine, axis=0), np.mean(plain, axis=0), strict=True):
        assert 0 < ours <= 1.2 * theirs + 0.01


def _errors(maximum: Any, count: Any, truth: Any, tokens: int) -> tuple[float, float]:
    fired = (truth[1] > 0) | (count > 0)
    error = np.linalg.norm(maximum - truth[0]) / np.linalg.norm(truth[0])
    return float(error), float((np.abs(count - truth[1])[fired] / tokens).mean())


def chat(*turns: str) -> tuple[Message, ...]:
    """User and assistant in turn."""
    return tuple(Message("user" if i % 2 == 0 else "assistant", turn) for i, turn in enumerate(turns))


LONG = " ".join(CORPUS[:5])
PAIRS = {
    "one turn": Pair(chat("How do I keep basil alive over winter?"), CORPUS[1], "Give it light and water it, that is all."),
    "several turns": Pair(
        chat("Who are you?", "A baker.", "What do you sell? user: assistant", CORPUS[0], "And why is the sky blue?"),
        "Sunlight is a mix of colors, and blue scatters most.",
        "I do not know; ask the baker: assistant user model.",
    ),
    "very long against short": Pair(chat("Tell me everything."), LONG, "No."),
    "identical responses": Pair(chat("Say it."), "The same words on both sides.", "The same words on both sides."),
    "one a prefix of the other": Pair(
        chat("Say more."), "Water it when dry", "Water it when dry, and turn the pot every few days."
    ),
    "single tokens": Pair(chat("Yes or no, a or b?"), "a", "b"),
    "other scripts": Pair(chat("Größe? Привет, мир 🙂🙂"), "こんにちは、naïve café 🙂", "你好 jalapeño"),
    "long prompt": Pair(chat(LONG), "A list can be changed.", "A tuple cannot be changed after it is made."),
}


def for_family(pair: Pair, family: str) -> Pair:
    """The pair as a family without a chat template reads it: raw text."""
    if KINDS[FAMILIES[family].tokenizer].template:
        return pair
    assert not isinstance(pair.prompt, str)
    text = "\n\n".join(f"{message.role}: {message.content}" for message in pair.prompt)
    return Pair(text + "\n\nassistant: ", pair.chosen, pair.rejected)
