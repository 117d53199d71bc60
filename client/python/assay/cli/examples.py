"""A concept as the command line names it: one that is there, or a file of examples to make one from.

| a line of examples.jsonl                                | is                                                    |
|---------------------------------------------------------|-------------------------------------------------------|
| ``{"text": "...", "label": 1}``                         | a text that shows the concept (0: that does not)      |
| ``{"prompt": "...", "response": "...", "label": 1}``    | a response to a prompt (text or messages)             |
| ``{"prompt": ..., "chosen": ..., "rejected": ...}``     | a pair, in any format of `assay.data`: chosen shows it |
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from assay.cli.watching import begun, waited
from assay.client import Client
from assay.concepts import ConceptSource, Examples, ProbeMethod, StoredConcept
from assay.data.formats import As, RowError, parse_row
from assay.data.sources import decode, lines
from assay.errors import InputError
from assay.pairs import Message, Pair, Prompt, PromptedResponse

NAMED = re.compile(r"feature/\d+(@max)?|cluster/\d+|concepts/[\w-]+|text/[a-z-]+|word/.+")
_ID_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Named:
    """A concept that can be tested: its name, and how it was made where it was made here."""

    name: str
    made: StoredConcept | None = None


def concept_of(text: str, client: Client, as_: As, *, method: ProbeMethod | None, seed: int, quiet: bool) -> Named:
    """The concept that a flag names; made from its examples where it names a file, once for equal examples.

    Raises:
        InputError: it is neither a concept's name nor a file of examples.
    """
    path = Path(text)
    if NAMED.fullmatch(text) and not path.exists():
        return Named(text)
    if not path.is_file():
        raise InputError(
            f"{text!r} is no concept (feature/17, feature/17@max, cluster/3, concepts/ID, text/bold, word/PHRASE) and no file of "
            "examples",
            reason="NO_SUCH_CONCEPT",
        )
    source = read_examples(path, as_)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.name.split(".")[0]).strip("-_")[:_ID_CHARACTERS] or "concept"
    parts = [digest, as_, str(method), str(seed), str(client.model().identity)]
    operation = begun(
        "concept",
        parts,
        lambda request_id: client.create_concept(
            path.name, source, concept_id=f"{stem}-{request_id[-12:]}", method=method, seed=seed, request_id=request_id
        ),
    )
    made = waited(operation, quiet=quiet)
    return Named(made.name, made)


def read_examples(path: Path, as_: As) -> ConceptSource:
    """The examples of a file.

    Raises:
        InputError: a line is no example, lines of both kinds are mixed, or one side is missing.
    """
    positive: list[PromptedResponse | str] = []
    negative: list[PromptedResponse | str] = []
    pairs: list[Pair] = []
    for line, raw in lines(path):
        try:
            if isinstance(raw, RowError):
                raise raw
            row = decode(cast(bytes, raw))
            if isinstance(row, Mapping) and "label" in row:
                example, shows = _labelled(cast(Mapping[str, Any], row), as_)
                (positive if shows else negative).append(example)
            else:
                pairs.append(parse_row(row, as_=as_)[0])
        except RowError as error:
            raise InputError(
                f"{path.name}, line {line}: {error.message}. A line is an object with text (or prompt and response) and label, "
                "or a preference pair",
                reason=error.reason or "NO_EXAMPLE",
                details={"line": str(line)},
            ) from None
    if pairs and (positive or negative):
        raise InputError(f"{path.name} mixes labelled texts and pairs: give one kind per file", reason="MIXED_EXAMPLES")
    if pairs:
        return pairs
    if not positive or not negative:
        counts = f"{len(positive)} lines of label 1 and {len(negative)} of label 0"
        raise InputError(f"{path.name} has {counts}: a concept is made of both, at least 10 each", reason="TOO_FEW_EXAMPLES")
    return Examples(positive, negative)


def _labelled(row: Mapping[str, Any], as_: As) -> tuple[PromptedResponse | str, bool]:
    label = row["label"]
    if label not in (0, 1):  # True and False are 1 and 0
        raise RowError("label is neither 1 (shows the concept) nor 0", reason="BAD_LABEL")
    text, prompt, response = row.get("text"), row.get("prompt"), row.get("response")
    if isinstance(text, str) and prompt is None and response is None:
        return text, bool(label)
    if not isinstance(response, str):
        raise RowError("there is neither a text nor a prompt with a response", reason="MISSING_COLUMN")
    return PromptedResponse(_prompt(prompt, as_), response), bool(label)


def _prompt(prompt: object, as_: As) -> Prompt:
    if prompt is None:
        return ""
    if isinstance(prompt, str):
        return prompt if as_ == "text" else (Message("user", prompt),)
    turns = cast(list[Any], prompt) if isinstance(prompt, list) else []
    messages = [Message(turn["role"], turn["content"]) for turn in turns if _is_turn(turn)]
    if not messages or len(messages) != len(turns):
        raise RowError("prompt is neither text nor a list of messages with role and content", reason="NOT_MESSAGES")
    return messages


def _is_turn(turn: object) -> bool:
    columns = cast(Mapping[str, object], turn) if isinstance(turn, Mapping) else {}
    return isinstance(columns.get("role"), str) and isinstance(columns.get("content"), str)
