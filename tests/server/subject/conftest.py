"""The bench: random models, SAEs and subjects made once a session, and the plain reference beside each."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from assay_server.subject.subject import Subject, load_subject
from assay_server.subject.types import Message, Pair, SpanName
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
        options.setdefault("overrides", ("VARIANCE",))
        return load_subject(str(self.model_folder(which[0])), str(self.sae_folder(*which)), device="cpu", **options)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def hold_pair(
    comparison: reference.Comparison, bench: Bench, which: tuple[Any, ...], pair: Pair, pooled: Any, include_prompt: bool = True
) -> None:
    """Hold a pooled pair to the reference: every span, and the counts of tokens read and shared."""
    family = which[0]
    spans, shared = reference.pair_spans(bench.kind(family), bench.tokenizer(family), pair)
    sae, reader = bench.sae(*which), bench.reader(family)
    wanted = {name for name, (_, positions) in spans.items() if positions and (include_prompt or name is not SpanName.PROMPT)}
    assert set(pooled.spans) == wanted
    for name in wanted:
        ids, positions = spans[name]
        comparison.span(pooled.spans[name], sae, reader.residual(ids)[positions])
    lengths = [spans[name][1][-1] + 1 for name in (SpanName.CHOSEN, SpanName.REJECTED)]
    assert pooled.shared == shared
    assert pooled.read == sum(lengths) - shared
    assert pooled.prompt_tokens == len(spans[SpanName.PROMPT][1])
    assert pooled.truncated == 0


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
