"""Fixtures of the demo's tests: the assets that ship, and the demo model where a machine has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo import ASSETS
from demo.model import is_ready, model_path


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The converted demo model; the test is skipped, aloud, where nobody has fetched it."""
    if not is_ready():
        pytest.skip(f"the demo model is not at {model_path().name!r} in the cache: run `python -m demo.model` first")
    return model_path()


@pytest.fixture(scope="session")
def sae_folder() -> Path:
    return ASSETS / "sae"


@pytest.fixture(scope="session")
def demo_sae(sae_folder: Path) -> Any:
    from sae_lens import SAE

    return SAE.load_from_disk(sae_folder)


@pytest.fixture(scope="session")
def pairs() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ASSETS / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
