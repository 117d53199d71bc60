"""Log-ratios of responses: what offsets by steering and by inoculation are made of. Asynchronous, through the scorer.

    A(y) = log π₀(y | x, changed) − log π₀(y | x)                                    (METHOD.md §4)

"Changed" is a residual that is steered at the hook, or a prompt that asks for the concept. However many changes a pair is read
under, the plain pass is made once, and steered ones share the blocks up to the hook with it (``subject.logprobs``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay_server.batching import Lane
from assay_server.errors import AssayError, EngineFailure
from assay_server.interventions.prompts import prompted, settled
from assay_server.interventions.spans import edited_positions
from assay_server.interventions.types import EditedSpan, Placement
from assay_server.scorer import Item, Scored, ScoreOptions, default_batch_tokens
from assay_server.subject.logprobs import Edit, LogprobReader, LogprobRequest, ResponseLogprobs, Steer
from assay_server.subject.subject import Subject
from assay_server.subject.types import Pair, PromptedResponse, SubjectInfo, TokenTree, Truncation

Floats = NDArray[np.float64]
T = TypeVar("T")


class Engine(Protocol):
    """What interventions need of ``scorer.Scorer``."""

    @property
    def info(self) -> SubjectInfo:
        """What is loaded."""
        ...

    async def score(
        self, items: Sequence[Item], options: ScoreOptions, *, deadline: float | None = None
    ) -> list[Scored | AssayError]:
        """See ``ScorerLike``."""
        ...

    async def call(
        self, work: Callable[[Subject], T], tokens: int, *, lane: Lane = Lane.BULK, deadline: float | None = None
    ) -> T:
        """Work on the device's thread."""
        ...

    async def off_device(self, work: Callable[[Subject], T]) -> T:
        """Work with the subject off it."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Steering:
    """A change: h ← h + delta at the span's tokens; delta float32 [d_in]."""

    delta: NDArray[np.float32]
    span: EditedSpan


@dataclass(frozen=True, slots=True)
class Prompting:
    """A change: the prompt with a text in it that asks for the concept."""

    text: str
    placement: Placement


Change = Steering | Prompting


@dataclass(frozen=True, slots=True)
class Reading:
    """How to wait for the device, and what to do with long sequences."""

    truncation: Truncation = Truncation.REFUSE
    lane: Lane = Lane.BULK
    deadline: float | None = None


async def log_ratios(
    engine: Engine, items: Sequence[Item], changes: Sequence[Change], how: Reading | None = None
) -> list[Floats | AssayError]:
    """A(y) of every item's responses under every change, in nats: float64 [changes, responses]; an error in its place.

    Raises:
        Overloaded, Expired, NotReady: the call as a whole.
    """
    sums = await log_probabilities(engine, items, changes, how)
    return [one if isinstance(one, AssayError) else one.sums[1:] - one.sums[:1] for one in sums]


async def log_probabilities(
    engine: Engine, items: Sequence[Item], changes: Sequence[Change], how: Reading | None = None
) -> list[ResponseLogprobs | AssayError]:
    """log π₀ of every item's responses, plain first, then under every change: [1 + changes, responses]. Raises as above."""
    how = how or Reading()
    results: list[ResponseLogprobs | AssayError] = [_bug()] * len(items)
    prepared = await engine.off_device(lambda subject: [_prepare(subject, item, changes, how.truncation) for item in items])
    good = [(place, one) for place, one in enumerate(prepared) if isinstance(one, _Prepared)]
    for place, one in enumerate(prepared):
        if isinstance(one, AssayError):
            results[place] = one
    budget = default_batch_tokens(engine.info.dtype, engine.info.device.partition(":")[0])
    for chunk in _chunks(good, budget):
        work = [one for _, one in chunk]
        tokens = sum(one.tokens for one in work)
        read = await engine.call(
            lambda subject, work=work: _read(subject, work, changes), tokens, lane=how.lane, deadline=how.deadline
        )
        for (place, _), outcome in zip(chunk, read, strict=True):
            results[place] = outcome
    return results


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """One item's trees: the plain one, and one for each prompt that asks for the concept."""

    tree: TokenTree
    edited: tuple[NDArray[np.int32], ...]  # one for each steering change
    prompted: tuple[TokenTree, ...]

    @property
    def tokens(self) -> int:
        return self.tree.size * (1 + len(self.edited)) + sum(tree.size for tree in self.prompted)


def _prepare(subject: Subject, item: Item, changes: Sequence[Change], truncation: Truncation) -> _Prepared | AssayError:
    tokenizer = subject.tokenizer
    try:
        tree = tree_of(subject, item, truncation)
        edited = tuple(
            edited_positions(tokenizer, item, tree, change.span, truncation) for change in changes if isinstance(change, Steering)
        )
        others = [
            replace(item, prompt=prompted(item.prompt, change.text, settled(change.placement, tokenizer.template)))
            for change in changes
            if isinstance(change, Prompting)
        ]
        return _Prepared(tree, edited, tuple(tree_of(subject, other, truncation) for other in others))
    except AssayError as error:
        return error


def tree_of(subject: Subject, item: Pair | PromptedResponse, truncation: Truncation) -> TokenTree:
    """The item's tree, as scoring reads it. Raises as ``TreeTokenizer.pair``."""
    if isinstance(item, Pair):
        return subject.tokenizer.pair(item, truncation)
    return subject.tokenizer.response(item, truncation)


def _read(subject: Subject, work: Sequence[_Prepared], changes: Sequence[Change]) -> list[ResponseLogprobs | AssayError]:
    """On the device: plain and steered passes together, where all steered changes touch the same tokens; prompts after."""
    reader = subject.logprobs
    assert reader is not None, "log-probabilities were asked of a model without its head: this is a bug"
    edits = [Steer(change.delta) for change in changes if isinstance(change, Steering)]
    steered = _steered(reader, work, edits)
    prompts = [
        reader.read(reader.prepare([_alone(one.prompted[index]) for one in work]), [None]) for index in range(_prompts(work))
    ]
    results: list[ResponseLogprobs | AssayError] = []
    for place, outcomes in enumerate(steered):
        parts = [*outcomes, *(prompt[place] for prompt in prompts)]
        failed = next((part for part in parts if isinstance(part, AssayError)), None)
        read = [part for part in parts if isinstance(part, ResponseLogprobs)]
        results.append(_in_order(read, changes) if failed is None else failed)
    return results


def _steered(
    reader: LogprobReader, work: Sequence[_Prepared], edits: Sequence[Steer]
) -> list[list[ResponseLogprobs | AssayError]]:
    """Plain and every steered pass, one entry each; changes that touch the same tokens go through the model together."""
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for index in range(len(edits)):
        groups.setdefault(tuple(one.edited[index].tobytes() for one in work), []).append(index)
    if not groups:
        plain = reader.read(reader.prepare([_alone(one.tree) for one in work]), [None])
        return [[outcome] for outcome in plain]
    results: list[list[ResponseLogprobs | AssayError]] = [[_bug()] * (1 + len(edits)) for _ in work]
    for group, (_, members) in enumerate(groups.items()):
        variants: list[Edit | None] = [None] if group == 0 else []
        variants += [edits[index] for index in members]
        batch = reader.prepare([LogprobRequest(one.tree, one.edited[members[0]]) for one in work])
        for place, outcome in enumerate(reader.read(batch, variants)):
            slots = ([0] if group == 0 else []) + [1 + index for index in members]
            for row, slot in enumerate(slots):
                results[place][slot] = (
                    outcome if isinstance(outcome, AssayError) else ResponseLogprobs(outcome.sums[row : row + 1], outcome.tokens)
                )
    return results


def _in_order(parts: Sequence[ResponseLogprobs], changes: Sequence[Change]) -> ResponseLogprobs:
    """Plain first, then one row a change, in the changes' order."""
    steered = [index for index, change in enumerate(changes) if isinstance(change, Steering)]
    prompts = [index for index, change in enumerate(changes) if isinstance(change, Prompting)]
    sums = np.zeros((1 + len(changes), parts[0].sums.shape[1]))
    sums[0] = parts[0].sums[0]
    for index, part in zip([*steered, *prompts], parts[1:], strict=True):
        sums[1 + index] = part.sums[0]
    return ResponseLogprobs(sums, parts[0].tokens)


def _alone(tree: TokenTree) -> LogprobRequest:
    return LogprobRequest(tree, np.zeros(0, np.int32))


def _prompts(work: Sequence[_Prepared]) -> int:
    return len(work[0].prompted) if work else 0


def _chunks(good: Sequence[tuple[int, _Prepared]], budget: int) -> list[list[tuple[int, _Prepared]]]:
    """Runs of items of at most about ``budget`` tokens, counting every pass; a longer item goes alone."""
    chunks: list[list[tuple[int, _Prepared]]] = []
    room = 0
    for entry in good:
        if not chunks or entry[1].tokens > room:
            chunks.append([])
            room = budget
        chunks[-1].append(entry)
        room -= entry[1].tokens
    return chunks


def _bug() -> EngineFailure:
    return EngineFailure("An item was neither read nor refused: this is a bug.")
