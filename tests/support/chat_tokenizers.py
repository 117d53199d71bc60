"""Real fast tokenizers, trained in milliseconds on a few harmless sentences, with the chat templates that matter.

Each kind carries its template twice: as jinja, which the code under test reads, and as ``render``, plain Python that builds the
same text and says where every content lies by construction. A test that compares spans has therefore an oracle that never
looks at the code under test. ``render`` is held to the jinja by ``reference.render``.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assay_server.subject.types import Message
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = (
    "The baker set the warm bread on the counter and asked whether anyone would like a slice with butter.",
    "To keep basil alive over winter, give it light, water it when the soil is dry, and turn the pot every few days.",
    "A list can be changed after it is made, and a tuple cannot; use a tuple for a fixed record such as a point (3, 4).",
    "I'm sorry, that does sting. You could tell her plainly how you feel, and leave room for a reason you may not know.",
    "Sunlight is a mix of colors; molecules scatter short wavelengths such as blue far more strongly than red.",
    "user assistant system model: You are a helpful assistant.\n\n1. One step.\n2. Another step.\n\n- a point\n- and one more",
    "Größe, naïve café, jalapeño, Привет, мир, こんにちは, 你好, 🙂 and 0123456789 are text as well.",
    *("The end: \n",) * 8,  # a space and a newline become one token, which may reach over an empty content
)

Piece = tuple[str, int]  # text, and the message whose content it is, -1 for the template's own
Builder = Callable[[Sequence[Message]], list[Piece]]

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% if loop.first %}{{ '<|begin_of_text|>' }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
)
# No special token at all: template text and contents may meet inside one token. The last newline is the template's.
PLAIN_TURNS = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"


def _chatml(messages: Sequence[Message]) -> list[Piece]:
    pieces: list[Piece] = []
    if messages[0].role != "system":
        pieces.append(("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", -1))
    for i, m in enumerate(messages):
        pieces += [(f"<|im_start|>{m.role}\n", -1), (m.content, i), ("<|im_end|>\n", -1)]
    return pieces


def _llama3(messages: Sequence[Message]) -> list[Piece]:
    pieces: list[Piece] = [("<|begin_of_text|>", -1)]
    for i, m in enumerate(messages):
        pieces += [(f"<|start_header_id|>{m.role}<|end_header_id|>\n\n", -1), (m.content.strip(), i), ("<|eot_id|>", -1)]
    return pieces


def _gemma(messages: Sequence[Message]) -> list[Piece]:
    pieces: list[Piece] = [("<bos>", -1)]
    for i, m in enumerate(messages):
        role = "model" if m.role == "assistant" else m.role
        pieces += [(f"<start_of_turn>{role}\n", -1), (m.content.strip(), i), ("<end_of_turn>\n", -1)]
    return pieces


def _plain_turns(messages: Sequence[Message]) -> list[Piece]:
    pieces: list[Piece] = []
    for i, m in enumerate(messages):
        pieces += [(f"{m.role}: ", -1), (m.content, i), ("\n", -1)]
    return pieces


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to tokenise and to lay out a conversation.

    Attributes:
        template: jinja, "" for none.
        builder: the same layout in plain Python.
        byte_level: every token is a known run of UTF-8 bytes, which gives token boundaries without offsets.
        system: whether the template takes a system turn.
    """

    name: str
    template: str
    builder: Builder | None
    byte_level: bool
    system: bool = True


KINDS = {
    kind.name: kind
    for kind in (
        Kind("chatml", CHATML, _chatml, byte_level=True),
        Kind("llama3", LLAMA3, _llama3, byte_level=True),
        Kind("gemma", GEMMA, _gemma, byte_level=False, system=False),
        Kind("turns", PLAIN_TURNS, _plain_turns, byte_level=True),
        Kind("wordpiece", PLAIN_TURNS, _plain_turns, byte_level=False),
        Kind("raw", "", None, byte_level=True),
    )
}


def build_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A fast tokenizer of a kind, deterministic."""
    kind = KINDS[name]
    special: dict[str, str] = {}
    if name == "gemma":
        backend, special = _metaspace(), {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    elif name == "wordpiece":
        backend, special = _wordpiece(), {"unk_token": "[UNK]"}
    elif name == "chatml":
        backend = _byte_level(["<|im_start|>", "<|im_end|>"])
        special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    elif name == "llama3":
        backend = _byte_level(["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
        special = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
        bos = backend.token_to_id("<|begin_of_text|>")
        first = processors.TemplateProcessing(
            single="<|begin_of_text|> $A",
            pair="<|begin_of_text|> $A <|begin_of_text|> $B",
            special_tokens=[("<|begin_of_text|>", bos)],
        )
        # As the real one: offsets trimmed of spaces, which spans must not be.
        backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), first])
    else:
        backend = _byte_level(["<|endoftext|>"])
        special = {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    if kind.template:
        fast.chat_template = kind.template
    return fast


def _byte_level(special: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=640, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    return backend


def _metaspace() -> Tokenizer:
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    bytes_ = [AddedToken(f"<0x{i:02X}>", special=False, normalized=False) for i in range(256)]
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=768, special_tokens=[*special, *bytes_], max_token_length=8, show_progress=False),
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
    )
    return backend


def _wordpiece() -> Tokenizer:
    normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = [word for text in CORPUS for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
    # The library's trainer breaks ties by chance: with it models of this tokenizer differ from run to run.
    pieces = Counter(piece for word in words for piece in _pieces(word))
    letters = sorted({piece for piece in pieces if len(piece.removeprefix("##")) == 1})
    often = sorted(set(pieces) - set(letters), key=lambda piece: (-pieces[piece], piece))
    vocabulary = ["[UNK]", *letters, *often][:400]
    backend = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]", max_input_chars_per_word=200)
    )
    backend.normalizer, backend.pre_tokenizer, backend.decoder = normalizer, splitter, decoders.WordPiece()
    return backend


def _pieces(word: str) -> list[str]:
    """A word, its beginnings of two and three letters, and inside of it every letter, pair and triple."""
    inside = [f"##{word[at : at + size]}" for size in (1, 2, 3) for at in range(1, len(word) - size + 1)]
    return [word, *(word[:size] for size in (1, 2, 3) if size < len(word)), *inside]
