"""Feature labels with their evidence; loaded from JSON Lines, looked up by id, updated while the server runs.

Keys of a line: ``id`` (required), ``label``, ``label_method`` (or ``method``), ``detection_score``, ``top_tokens``,
``promoted_tokens``, ``firing_rate``, ``contexts``. Missing keys and nulls mean "not known"; other keys are ignored.

Invariants: every id is in [0, d_sae) and given once; scores and rates are finite and in [0, 1]. Features without a
line exist and have no label. Labels never enter a test (METHOD.md §2).
"""

import base64
import binascii
import gzip
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from assay_server.errors import AssayError, InvalidItem

LABEL_BAR = 0.7  # detection score from which a label is a name
DEFAULT_PAGE = 100
MAX_PAGE = 1000


class BadLabels(AssayError):
    """A label file cannot be used; the message names the line and the fix."""

    default_reason = "BAD_LABELS"


@dataclass(frozen=True, slots=True)
class FeatureLabel:
    """One feature's label and evidence; the fields mean what ``assay.v1.Feature`` says of them."""

    id: int
    label: str = ""
    label_method: str = ""
    detection_score: float | None = None
    top_tokens: tuple[str, ...] = ()
    promoted_tokens: tuple[str, ...] = ()
    firing_rate: float | None = None
    contexts: tuple[str, ...] = ()

    @property
    def weak(self) -> bool:
        """Whether its label was measured and detects too little to be a name."""
        return self.detection_score is not None and self.detection_score < LABEL_BAR


@dataclass(frozen=True, slots=True)
class GroupLabel:
    """A label of a group of features (a cluster, a data cluster), its method, and how well it detects the group, if measured."""

    label: str = ""
    label_method: str = ""
    detection_score: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some features that match, in ascending id; ``next_page_token`` is "" on the last page."""

    features: tuple[FeatureLabel, ...]
    next_page_token: str
    total_size: int


class Labels:
    """Labels of one SAE.

    Args:
        d_sae: number of features; ids are below it.
        labels: by id.
    """

    def __init__(self, d_sae: int, labels: Mapping[int, FeatureLabel] | None = None) -> None:
        self._d_sae = d_sae
        self._labels: dict[int, FeatureLabel] = {}
        self._haystacks: dict[int, str] = {}
        self._matching = lru_cache(maxsize=32)(self._find)
        self.version = 0
        self.update((labels or {}).values())

    @property
    def count(self) -> int:
        """Features that have a label."""
        return sum(1 for entry in self._labels.values() if entry.label)

    def update(self, entries: Iterable[FeatureLabel]) -> None:
        """Replace the entries of these features, and raise ``version``. Call it on the thread that reads."""
        for entry in entries:
            if not 0 <= entry.id < self._d_sae:
                raise ValueError(f"feature {entry.id} of {self._d_sae}")
            self._labels[entry.id] = entry
            self._haystacks[entry.id] = "\0".join((entry.label, *entry.top_tokens, *entry.promoted_tokens)).casefold()
        self._matching.cache_clear()
        self.version += 1

    def known(self) -> Iterator[FeatureLabel]:
        """Every entry, ascending."""
        return (self._labels[id] for id in sorted(self._labels))

    def search(self, text: str) -> Sequence[int]:
        """Features whose label, top tokens or promoted tokens hold the text, ignoring case, ascending."""
        return self._matching(text.casefold()) if text else ()

    def get(self, id: int) -> FeatureLabel:
        """The feature's label, empty where none is known. ``id`` is in [0, d_sae)."""
        return self._labels.get(id) or FeatureLabel(id)

    def page(self, *, size: int = 0, token: str = "", filter: str = "") -> Page:
        """One page of the features whose label or tokens contain ``filter``, ignoring case.

        Args:
            size: features per page; 0 means 100; more than 1000 gives 1000.
            token: ``next_page_token`` of the page before.
            filter: text to look for; "" keeps every feature.

        Raises:
            InvalidItem: ``size`` is negative, or ``token`` is not one that this filter gave.
        """
        if size < 0:
            raise InvalidItem(
                f"page_size is {size}; give 0 (for {DEFAULT_PAGE}) to {MAX_PAGE}.",
                reason="INVALID_PAGE_SIZE",
                field="page_size",
                details={"page_size": size, "max_page_size": MAX_PAGE},
            )
        start = self._decode(token, filter) if token else 0
        ids = self._matching(filter.casefold()) if filter else range(self._d_sae)
        stop = start + min(size or DEFAULT_PAGE, MAX_PAGE)
        following = self._encode(stop, filter) if stop < len(ids) else ""
        return Page(tuple(self.get(id) for id in ids[start:stop]), following, len(ids))

    def _find(self, needle: str) -> Sequence[int]:
        return sorted(id for id, haystack in self._haystacks.items() if needle in haystack)

    def _encode(self, start: int, filter: str) -> str:
        return base64.urlsafe_b64encode(f"{start}.{self._seal(start, filter)}".encode()).decode()

    def _decode(self, token: str, filter: str) -> int:
        try:
            start, _, seal = base64.urlsafe_b64decode(token.encode("ascii")).decode("ascii").partition(".")
            if seal == self._seal(int(start), filter):
                return int(start)
        except (ValueError, binascii.Error):
            pass
        raise InvalidItem(
            "page_token is not one that this server gave for this filter; start again without it.",
            reason="INVALID_PAGE_TOKEN",
            field="page_token",
        )

    def _seal(self, start: int, filter: str) -> str:
        return hashlib.sha256(f"{start}.{self._d_sae}.{filter}".encode()).hexdigest()[:16]


def load_labels(path: Path, d_sae: int) -> Labels:
    """Reads ``labels.jsonl`` or ``labels.jsonl.gz``.

    Raises:
        BadLabels: the file cannot be read, or a line is not an object, or its id or a number is out of range.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            return Labels(d_sae, {entry.id: entry for entry in read_lines(lines, d_sae, path.name)})
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadLabels(f"Cannot read the labels in {path.name}: {error}.") from error


def read_lines(lines: Iterable[str], d_sae: int, where: str) -> Iterator[FeatureLabel]:
    """The labels of JSON lines; ``where`` names them in errors. Raises BadLabels."""
    seen: set[int] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _parse_line(line, d_sae, f"{where} line {number}")
        if entry.id in seen:
            raise BadLabels(f"{where} line {number}: feature {entry.id} has a line already; keep one.")
        seen.add(entry.id)
        yield entry


def write_labels(path: Path, labels: Iterable[FeatureLabel]) -> None:
    """Writes a label file, gzipped where its name says so; the same labels give the same bytes. A reader sees all or nothing."""
    lines = "".join(label_line(label) + "\n" for label in labels)
    data = gzip.compress(lines.encode(), 9, mtime=0) if path.suffix == ".gz" else lines.encode()
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def label_line(label: FeatureLabel) -> str:
    """A label as one line of JSON; what is not known is left out."""
    known = {key: value for key, value in asdict(label).items() if value not in (None, "", ())}
    return json.dumps({"id": label.id, **known}, ensure_ascii=False, separators=(",", ":"))


def _parse_line(line: str, d_sae: int, where: str) -> FeatureLabel:
    try:
        raw: Any = json.loads(line)
    except ValueError as error:
        raise BadLabels(f"{where} is not JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise BadLabels(f"{where} is not a JSON object.")
    entry = cast(dict[str, Any], raw)
    id: Any = entry.get("id")
    if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id < d_sae:
        raise BadLabels(f"{where}: id is {id!r}; the loaded SAE has features 0 to {d_sae - 1}. Are the labels another SAE's?")
    return FeatureLabel(
        id=id,
        label=_text(entry, "label", where),
        label_method=_text(entry, "label_method", where) or _text(entry, "method", where),
        detection_score=_share(entry, "detection_score", where),
        top_tokens=_texts(entry, "top_tokens", where),
        promoted_tokens=_texts(entry, "promoted_tokens", where),
        firing_rate=_share(entry, "firing_rate", where),
        contexts=_texts(entry, "contexts", where),
    )


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadLabels(f"{where}: {key} is a {type(value).__name__}; give a text.")
    return _sendable(value)


def _texts(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = entry.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(part, str) for part in cast(list[Any], value)):
        raise BadLabels(f"{where}: {key} is not a list of texts.")
    return tuple(_sendable(part) for part in cast(list[str], value))


def _share(entry: Mapping[str, Any], key: str, where: str) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise BadLabels(f"{where}: {key} is {value!r}; give a number from 0 to 1, or leave it out.")
    return float(value)


def _sendable(text: str) -> str:
    """Lone surrogates (JSON can spell them) become U+FFFD: protobuf carries UTF-8 only."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


_SURROGATE = re.compile("[\ud800-\udfff]")
