"""What tests of the server share: a real scorer around the tiny subject, and a language model to ask for labels."""

from collections.abc import AsyncIterator, Iterator

import pytest
from assay_server.scorer import Scorer

from tests.support.label_endpoint import LabelServer, label_server
from tests.support.tiny_scorer import Begin, WatchedTokenizer, scorers
from tests.support.tiny_subject import Watched


@pytest.fixture
def watched() -> Watched:
    """The subject under the scorer, to hold or to break."""
    return Watched()


@pytest.fixture
def tokenizer() -> WatchedTokenizer:
    return WatchedTokenizer()


@pytest.fixture
async def begin(watched: Watched, tokenizer: WatchedTokenizer) -> AsyncIterator[Begin]:
    """Starts scorers; nothing of them may be left after the test."""
    async with scorers(watched, tokenizer) as start:
        yield start


@pytest.fixture
async def scorer(begin: Begin) -> Scorer:
    """A scorer with every default."""
    return begin()


@pytest.fixture
def judge() -> Iterator[LabelServer]:
    """An endpoint that explains and judges labels as a test scripts it."""
    with label_server() as running:
        yield running
