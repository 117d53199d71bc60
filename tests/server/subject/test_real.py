"""Parity on the demo model and real pairs: the same comparison, with an outlier at the first token and 30 real blocks.

Skipped aloud where the demo model has not been made (`make demo` makes it) or no file of pairs is named. A failure names a
pair by the digest of its text, never by the text.
"""

import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from assay_server.subject.reader import TreeReader
from assay_server.subject.subject import Subject, TreeRequest, load_subject
from assay_server.subject.types import Message, Pair
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.server.subject.conftest import PAIRS
from tests.support import reference
from tests.support.chat_tokenizers import KINDS, Kind
from tests.support.saes import build_sae, metadata, save_sae

CACHE = Path(os.environ.get("ASSAY_CACHE", "~/.cache/assay")).expanduser()
MODEL = CACHE / "models" / "SmolLM2-135M-Instruct"
ASSETS = Path(__file__).parents[3] / "demo" / "assets"
LAYER = 15  # where a random SAE reads, as long as none is shipped
FEW, MOST_CHARACTERS = 8, 1_500

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MODEL / "config.json").is_file(), reason="the demo model is not there: `make demo` makes it"),
]


def _builder(messages: Any) -> list[tuple[str, int]]:
    pieces: list[tuple[str, int]] = []
    if messages[0].role != "system":
        system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        pieces.append((f"<|im_start|>system\n{system}<|im_end|>\n", -1))
    for i, m in enumerate(messages):
        pieces += [(f"<|im_start|>{m.role}\n", -1), (m.content, i), ("<|im_end|>\n", -1)]
    return pieces


KIND = Kind("smollm2", KINDS["chatml"].template, _builder, byte_level=True)


class Demo:
    """The demo model by the engine and by the plain loop."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
        self.shipped = (ASSETS / "sae" / "cfg.json").is_file()
        where = ASSETS / "sae" if self.shipped else self._random(folder, reference.Reader(model, LAYER))
        self.sae: Any = SAE.load_from_disk(str(where)).eval().requires_grad_(False)
        hook = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", self.sae.cfg.metadata.hook_name)
        assert hook is not None
        self.reader = reference.Reader(model, int(hook[1]))
        self.subject: Subject = load_subject(
            str(MODEL), str(where), device="cpu", overrides=() if self.shipped else ("VARIANCE",), dtype="float32"
        )

    def _random(self, folder: Path, reader: reference.Reader) -> Path:
        ids = self.tokenizer(PAIRS["one turn"].chosen)["input_ids"]
        scale = float(reader.residual(ids)[1:].std())
        about = metadata(hook_name=f"blocks.{LAYER}.hook_resid_post", model_name="HuggingFaceTB/SmolLM2-135M-Instruct")
        return save_sae(build_sae("topk", d_in=576, d_sae=4096, scale=scale, about=about), folder)

    def hold(self, pairs: list[Pair]) -> None:
        """Each pair alone, then all in one batch, against the plain loop."""
        comparison = reference.Comparison()
        requests = [TreeRequest(self.subject.tokenizer.pair(pair), include_prompt=True) for pair in pairs]
        alone = [self.subject.read(self.subject.prepare([request]))[0] for request in requests]
        batched = self.subject.read(self.subject.prepare(requests))
        for pair, *pooled in zip(pairs, alone, batched, strict=True):
            for got in pooled:
                try:
                    reference.hold_pair(comparison, KIND, self.tokenizer, self.reader, self.sae, pair, got)
                except AssertionError as error:
                    pytest.fail(f"pair {_digest(pair)}: {str(error).splitlines()[0]}", pytrace=False)
        comparison.finish(share=0.01)


def _digest(pair: Pair) -> str:
    return hashlib.sha256(repr(pair).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("random-sae"))


def test_the_demo_model_shares_prefixes_and_its_first_token_is_the_outlier_that_no_span_holds(demo: Demo) -> None:
    assert isinstance(demo.subject.reader, TreeReader)
    norms = demo.subject.residual(demo.subject.tokenizer.pair(PAIRS["one turn"])).norm(dim=-1)
    assert norms[0] > 50 * norms[1:].max()


def test_the_demo_model_equals_the_plain_loop_on_every_shape_of_pair(demo: Demo) -> None:
    demo.hold(list(PAIRS.values()))


def test_the_demo_sae_explains_its_model_as_its_card_says(demo: Demo) -> None:
    if not demo.shipped:
        pytest.skip("demo/assets/sae is not there")
    assert demo.subject.info.explained_variance >= 0.75
    assert demo.subject.info.overrides == ()


def test_the_demo_model_equals_the_plain_loop_on_the_sample_pairs(demo: Demo) -> None:
    path = ASSETS / "pairs.jsonl"
    if not path.is_file():
        pytest.skip("demo/assets/pairs.jsonl is not there")
    demo.hold(_few(_trl(path)))


def test_the_demo_model_equals_the_plain_loop_on_hh_pairs(demo: Demo) -> None:
    path = Path(os.environ.get("ASSAY_HH_PAIRS", ""))
    if not path.is_file():
        pytest.skip("ASSAY_HH_PAIRS names no file")
    demo.hold(_few(_hh(path)))


def _few(pairs: Iterator[Pair]) -> list[Pair]:
    out: list[Pair] = []
    for pair in pairs:
        characters = sum(len(m.content) for m in pair.prompt if isinstance(m, Message)) + len(pair.chosen) + len(pair.rejected)
        if pair.chosen.strip() and pair.rejected.strip() and characters <= MOST_CHARACTERS:
            out.append(pair)
        if len(out) == FEW:
            break
    assert len(out) == FEW
    return out


def _trl(path: Path) -> Iterator[Pair]:
    for line in path.read_text().splitlines():
        row = json.loads(line)
        prompt = tuple(Message(m["role"], m["content"]) for m in row["prompt"])
        yield Pair(prompt, row["chosen"][0]["content"], row["rejected"][0]["content"])


def _hh(path: Path) -> Iterator[Pair]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            head, _, chosen = row["chosen"].rpartition("\n\nAssistant: ")
            other, _, rejected = row["rejected"].rpartition("\n\nAssistant: ")
            turns = head.split("\n\nHuman: ")[1:]
            if head != other or not turns:
                continue
            messages: list[Message] = []
            for turn in turns:
                user, *answers = turn.split("\n\nAssistant: ")
                messages += [Message("user", user), *(Message("assistant", answer) for answer in answers)]
            yield Pair(tuple(messages), chosen, rejected)
