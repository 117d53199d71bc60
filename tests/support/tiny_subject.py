"""The smallest real subject: a random Llama of two blocks, a tokenizer whose tokens are bytes, a random TopK SAE.

Nothing is pretended: ``assemble`` verifies it, probes its readers and calibrates it like any other; only the variance that a
random SAE explains is overridden. One byte is one token, so a test knows the size of a text by counting.

``Watched`` puts eyes and hands on a real subject: what reached the device, on which thread, in which order, and ways to hold
the device, slow it down or make it fail. What it reads is still read by the real one.
"""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from zlib import crc32

import numpy as np
import torch
from assay_server.errors import AssayError
from assay_server.subject.hooks import parse_hook
from assay_server.subject.loading import cut_model
from assay_server.subject.subject import PreparedBatch, Subject, TreeRequest, assemble
from assay_server.subject.types import Directions, Pooled, SpanName, TokenTree
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.support.waiting import PATIENCE

WIDTH = 32
FEATURES = 96
K = 8
HOOK = "blocks.0.hook_resid_post"
CONTEXT = 2048
TEMPLATE = "{% for m in messages %}{{ '<s>' + m['role'] + '\n' + m['content'] + '</s>\n' }}{% endfor %}"


def build_parts(seed: int = 0) -> tuple[Any, Any, Any]:
    """A fresh whole model, its tokenizer and its SAE: what the subject is made of, and what a trainer starts from."""
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config).float().eval().requires_grad_(False)
    about = SAEMetadata(hook_name=HOOK, prepend_bos=False)
    sae = TopKSAE(TopKSAEConfig(d_in=WIDTH, d_sae=FEATURES, k=K, metadata=about)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in (*model.parameters(), *sae.parameters()):
        scale = 0.1 if parameter.ndim == 1 else 0.3
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
    return model, tokenizer, sae


def build_subject(seed: int = 0, *, keep_whole: bool = False) -> Subject:
    """A fresh subject, for tests that change it, or that need the whole model."""
    model, tokenizer, sae = build_parts(seed)
    hook, device = parse_hook(HOOK), torch.device("cpu")
    loaded = cut_model(model, tokenizer, hook, device, keep_whole=keep_whole)
    return assemble(loaded, sae, hook, device=device, model_id="tiny", sae_id="tiny/topk", overrides=("VARIANCE",))


@cache
def tiny_subject() -> Subject:
    """The subject that all tests share; nobody changes it."""
    subject = build_subject()
    gc.collect()
    gc.freeze()  # what torch and transformers brought along need not be looked at again by ``nothing_left``
    return subject


def tree_request(
    tokens: int, seed: int = 0, *, include_prompt: bool = False, directions: Directions | None = None
) -> TreeRequest:
    """A random pair of exactly that many tokens, at least 4: a third of them shared."""
    rng = np.random.default_rng((tokens, seed))
    trunk_size = max(2, tokens // 3)
    ids = rng.integers(2, 258, tokens).astype(np.int32)
    middle = trunk_size + max(1, (tokens - trunk_size) // 2)
    flat = np.arange(tokens, dtype=np.int32)
    spans = {
        SpanName.PROMPT: flat[1:trunk_size],
        SpanName.CHOSEN: flat[trunk_size:middle],
        SpanName.REJECTED: flat[middle:],
    }
    tree = TokenTree(ids[:trunk_size], (ids[trunk_size:middle], ids[middle:]), spans)
    return TreeRequest(tree, include_prompt, directions)


def names(requests: Sequence[TreeRequest]) -> tuple[str, ...]:
    """What tells requests apart: size and a checksum of the ids."""
    return tuple(
        f"{request.size}:{crc32(b''.join(ids.tobytes() for ids in (request.tree.trunk, *request.tree.branches))):08x}"
        for request in requests
    )


class Watched:
    """A real subject, watched. Hand it on as ``watched.subject``.

    Attributes:
        reads: names of the requests of every batch that reached the device, in order.
        threads: names of the threads that called the device.
        delay: seconds that each read takes longer.
        prepared_on: names of the threads that prepared batches.
        fault: called on the device with a batch's requests before it is read; what it raises, the device raises.
        prepare_fault: the same for preparing.
    """

    def __init__(self, subject: Subject | None = None) -> None:
        self.real = subject or tiny_subject()
        self.reads: list[tuple[str, ...]] = []
        self.threads: set[str] = set()
        self.prepared_on: list[str] = []
        self.delay = 0.0
        self.fault: Callable[[Sequence[TreeRequest]], None] = lambda _: None
        self.prepare_fault: Callable[[Sequence[TreeRequest]], None] = lambda _: None
        self._free = threading.Event()
        self._free.set()

    @property
    def subject(self) -> Any:
        """What the engine is given."""
        return self

    @property
    def read_names(self) -> list[str]:
        """Every request that reached the device, in order."""
        return [name for batch in self.reads for name in batch]

    def hold(self) -> None:
        """Let the next read wait on the device until ``release``."""
        self._free.clear()

    def release(self) -> None:
        """Let the device go on."""
        self._free.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def prepare(self, requests: Sequence[TreeRequest]) -> PreparedBatch:
        self.prepared_on.append(threading.current_thread().name)
        self.prepare_fault(requests)
        return self.real.prepare(requests)

    def read(self, batch: PreparedBatch) -> list[Pooled | AssayError]:
        self._reached(names(batch.requests))
        self.fault(batch.requests)
        return self.real.read(batch)

    def activations(
        self, ids: NDArray[np.int32], features: Sequence[int], along: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        self._reached((f"{len(ids)} tokens",))
        return self.real.activations(ids, features, along)

    def _reached(self, requests: tuple[str, ...]) -> None:
        self.threads.add(threading.current_thread().name)
        self.reads.append(requests)
        assert self._free.wait(PATIENCE), "the test never let the device go on"
        if self.delay:
            time.sleep(self.delay)


def about_equal(got: Pooled, want: Pooled) -> bool:
    """Whether two answers agree up to what another batch around a tree changes in float32."""
    if (got.read, got.shared, got.prompt_tokens, set(got.spans)) != (want.read, want.shared, want.prompt_tokens, set(want.spans)):
        return False
    for name, span in got.spans.items():
        other = want.spans[name]
        if span.tokens != other.tokens or not np.array_equal(span.indices, other.indices):
            return False
        if not np.array_equal(span.counts, other.counts) or not np.allclose(span.max, other.max, rtol=2e-3):
            return False
        if not np.allclose(span.mean_residual, other.mean_residual, rtol=2e-3, atol=2e-3):
            return False
    return all(np.allclose(got.directions[name], scores, rtol=1e-4, atol=1e-4) for name, scores in want.directions.items())


def same_bits(a: Pooled, b: Pooled) -> bool:
    """Whether two answers are the same to the last bit."""

    def flat(pooled: Pooled) -> list[object]:
        spans = [
            (name, s.tokens, s.exponent, s.residual_exponent, *map(bits, (s.indices, s.max_f16, s.counts, s.mean_residual_f16)))
            for name, s in pooled.spans.items()
        ]
        scores = [(name, bits(values)) for name, values in pooled.directions.items()]
        return [pooled.prompt_tokens, pooled.read, pooled.shared, pooled.truncated, spans, scores]

    def bits(array: NDArray[Any]) -> tuple[str, bytes]:
        return str(array.dtype), array.tobytes()

    return flat(a) == flat(b)


def read_alone(request: TreeRequest) -> Pooled:
    """What the shared subject says of a request, read by itself."""
    (pooled,) = tiny_subject().read(tiny_subject().prepare([request]))
    assert isinstance(pooled, Pooled)
    return pooled


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Fails where the loop complained (an exception nobody retrieved, a callback that raised) or a task was left behind."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(f"{context['message']}: {context.get('exception')!r}")
    )
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()  # a future tells when it is let go that nobody looked at its exception
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
    assert not complaints, complaints


def _byte_tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate((*special, *letters))}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer
