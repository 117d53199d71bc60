"""Datasets and uploads as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A stored dataset; fields mean what ``assay.v1.Dataset`` says of them."""

    name: str
    display_name: str
    fingerprint: str
    pairs: int
    unusable_pairs: int
    prompts: int
    metadata_keys: tuple[str, ...]
    created: float
    scored: bool


@dataclass(frozen=True, slots=True)
class UploadPosition:
    """Where an upload stands: every batch before ``next_sequence`` is durable.

    Attributes:
        next_sequence: of the next batch; 0 once it is complete.
        pairs: that are stored.
        dataset: set once it is complete.
        sent_bytes: bytes that its batches were sent as; 0 once it is complete.
    """

    next_sequence: int
    pairs: int
    dataset: DatasetInfo | None = None
    sent_bytes: int = 0
