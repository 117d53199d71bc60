"""The one path from a pair to its features: tokenise, look up the cache, batch what is missing, write back.

Live scoring, dataset audits, rollouts and online rewards all call ``Scorer``; there is no second way.

Invariants:
- A pair whose features are cached never touches the device thread.
- The same pair wanted by several calls at once is computed once.
- Admission is by tokens: interactive work past ``max_tokens_in_flight`` is refused with a retry time, bulk work waits for
  room, up to its deadline, and is refused when as much again is waiting already.
- A cancelled or expired call leaves nothing queued.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Never, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from assay_server.batching import (
    Batcher,
    CallRequest,
    EngineObserver,
    NullEngineObserver,
    Planner,
    Read,
)
from assay_server.cache import Claim, FeatureCache, KeyMaker, SingleFlight, lacks_prompt
from assay_server.errors import AssayError, Expired, NotReady
from assay_server.scorer.admission import Admission
from assay_server.scorer.remembered import Remembered, text_digest
from assay_server.scorer.types import CacheState, Item, Lane, Scored, ScoreOptions, Timings
from assay_server.subject.subject import Subject, TreeRequest
from assay_server.subject.types import (
    EncodedTokens,
    Pair,
    Pooled,
    Prompt,
    SubjectInfo,
    TokenTree,
    Truncation,
)

T = TypeVar("T")
FlightKey = tuple[bytes, bool]  # cache key, and whether the prompt is pooled too


class Scorer:
    """Scores through tokenizer, cache and batcher. Confined to one event loop. See ``ScorerLike`` for the calls.

    Args:
        subject: the verified model and SAE.
        cache: where pooled features are kept.
        batcher: started; the scorer closes it.
        observer: metrics.
        max_tokens_in_flight: admission bound.
        tokenizer_threads: threads that render and tokenise.
        remembered_texts: texts whose key is remembered, so that a replay does not tokenise.
    """

    def __init__(
        self,
        subject: Subject,
        cache: FeatureCache,
        batcher: Batcher,
        *,
        observer: EngineObserver | None = None,
        max_tokens_in_flight: int = 1_000_000,
        tokenizer_threads: int = 1,
        remembered_texts: int = 200_000,
    ) -> None:
        self._subject = subject
        self._cache = cache
        self._batcher = batcher
        self._observer = observer or NullEngineObserver()
        self._keys = KeyMaker(subject.info)
        self._flight: SingleFlight[FlightKey, Read] = SingleFlight()
        self._admission = Admission(batcher, max_tokens_in_flight)
        self._pool = ThreadPoolExecutor(tokenizer_threads, thread_name_prefix="assay-tokenize")
        self._remembered = Remembered(remembered_texts)
        self._closed = False

    @property
    def info(self) -> SubjectInfo:
        """What is loaded."""
        return self._subject.info

    @property
    def tokens_in_flight(self) -> int:
        """Tokens queued or running."""
        return self._batcher.tokens_in_flight

    async def score(
        self, items: Sequence[Item], options: ScoreOptions, *, deadline: float | None = None
    ) -> list[Scored | AssayError]:
        """See ``ScorerLike``."""
        self._check_open(deadline)
        call = _Call(items, options, deadline)
        looks = not options.bypass_cache and not options.sealed
        if looks:
            await self._look_up_remembered(call)
        await self._tokenize(call)
        if looks:
            await self._look_up(call)
        await self._compute(call)
        return [outcome if outcome is not None else _bug() for outcome in call.outcomes]

    async def encode_tokens(
        self,
        text: Prompt,
        features: Sequence[int],
        *,
        along: NDArray[np.float32] | None = None,
        truncation: Truncation = Truncation.REFUSE,
        deadline: float | None = None,
    ) -> tuple[EncodedTokens, Timings]:
        """See ``ScorerLike``."""
        self._check_open(deadline)
        started = time.monotonic()
        tokenized = await self._in_pool(lambda: self._subject.tokenizer.text(text, truncation))
        tokenize_seconds = time.monotonic() - started
        request = CallRequest(len(tokenized.ids), lambda subject: subject.activations(tokenized.ids, features, along))
        read = await self._read_alone(request, Lane.INTERACTIVE, deadline)
        values = cast(NDArray[np.float32], read.result)
        timings = Timings(tokenize_seconds, read.queue_seconds, read.forward_seconds, 0.0, CacheState.BYPASS)
        return EncodedTokens(tokenized.tokens, values[: len(features)], values[len(features) :]), timings

    async def call(
        self, work: Callable[[Subject], T], tokens: int, *, lane: Lane = Lane.BULK, deadline: float | None = None
    ) -> T:
        """Run work of another kind on the device's thread, admitted and queued like any that reads so many tokens.

        Raises:
            Overloaded, Expired, NotReady: as ``score``.
            AssayError: what the work raises; EngineFailure for what is not of the family.
        """
        self._check_open(deadline)
        return cast(T, (await self._read_alone(CallRequest(tokens, work), lane, deadline, patient=True)).result)

    async def off_device(self, work: Callable[[Subject], T]) -> T:
        """Run work that needs the subject and not the device (tokenising, building tensors) on the tokenizer's threads."""
        return await self._in_pool(lambda: work(self._subject))

    async def aclose(self) -> None:
        """Refuse new work, fail what waits, stop the threads, flush the cache."""
        self._closed = True
        await asyncio.to_thread(self._batcher.close)
        self._pool.shutdown(wait=False)  # its futures go on: callers would take their cancellation for their own
        await self._cache.aclose()

    def _check_open(self, deadline: float | None) -> None:
        if self._closed:
            raise _stopping()
        if deadline is not None and deadline <= time.monotonic():
            raise Expired("The deadline had passed when the call arrived.")

    async def _look_up_remembered(self, call: "_Call") -> None:
        """Answer from the cache what was tokenised before, without tokenising it again.

        What is being read now is not looked up yet: it will be there once this call has tokenised, or can be followed.
        """
        known: list[tuple[int, bytes]] = []
        for index in range(len(call.items)):
            key = self._remembered.get(call.text(index))
            if key is not None and (key, call.options.include_prompt) not in self._flight:
                known.append((index, key))
        await self._fetch(call, known)

    async def _tokenize(self, call: "_Call") -> None:
        todo = [index for index, outcome in enumerate(call.outcomes) if outcome is None]
        if not todo:
            return
        started = time.monotonic()
        trees = await self._in_pool(lambda: [self._tree(call.items[index], call.options) for index in todo])
        call.tokenize_seconds = time.monotonic() - started
        self._observer.tokenize(call.tokenize_seconds)
        for index, tree in zip(todo, trees, strict=True):
            if isinstance(tree, AssayError):
                call.outcomes[index] = tree
            else:
                call.trees[index] = tree
                call.keys[index] = key = self._keys.key(tree, directions=call.options.directions)
                if not call.options.bypass_cache:
                    self._remembered.put(call.text(index), key)

    def _tree(self, item: Item, options: ScoreOptions) -> TokenTree | AssayError:
        try:
            if isinstance(item, Pair):
                return self._subject.tokenizer.pair(item, options.truncation)
            return self._subject.tokenizer.response(item, options.truncation)
        except AssayError as error:
            return error

    async def _look_up(self, call: "_Call") -> None:
        asked = call.asked  # what was remembered has been looked up already
        await self._fetch(call, [(index, key) for index, key in call.keys.items() if index not in asked])

    async def _fetch(self, call: "_Call", wanted: list[tuple[int, bytes]]) -> None:
        if not wanted:
            return
        started = time.monotonic()
        found = await self._cache.get_many([key for _, key in wanted])
        call.cache_seconds += time.monotonic() - started
        for (index, _), pooled in zip(wanted, found, strict=True):
            call.asked.add(index)
            if pooled is not None and not (call.options.include_prompt and lacks_prompt(pooled)):
                call.land(index, pooled, CacheState.HIT)

    async def _compute(self, call: "_Call") -> None:
        missing = [index for index, outcome in enumerate(call.outcomes) if outcome is None]
        if not missing:
            return
        if call.options.bypass_cache or call.options.sealed:
            reads = await self._read([call.request(index) for index in missing], call)
            for index, read in zip(missing, reads, strict=True):
                call.land_read(index, read, CacheState.BYPASS)
            if not call.options.bypass_cache:
                self._fill_cache((call.keys[index], read) for index, read in zip(missing, reads, strict=True))
            return
        await self._compute_once(call, missing)

    async def _compute_once(self, call: "_Call", missing: list[int]) -> None:
        """Compute what no call computes yet, and wait for what others do."""
        by_key: dict[FlightKey, list[int]] = {}
        for index in missing:
            by_key.setdefault((call.keys[index], call.options.include_prompt), []).append(index)
        led: dict[FlightKey, _Computed] = {}

        async def compute(claim: Claim[FlightKey, Read]) -> None:
            leads = claim.leads
            reads = await self._read([call.request(by_key[key][0]) for key in leads], call)
            for key, read in zip(leads, reads, strict=True):
                led[key] = read
                if isinstance(read, Read):  # an error stays with this call: followers compute for themselves
                    claim.resolve(key, read)
            self._fill_cache((key[0], read) for key, read in zip(leads, reads, strict=True))

        computed = await _until(call.deadline, self._flight.run(by_key, compute))
        for key, indices in by_key.items():
            for position, index in enumerate(indices):
                mine = key in led and position == 0
                read = led[key] if key in led else computed[key]
                call.land_read(index, read, CacheState.MISS if mine else CacheState.SHARED)

    def _fill_cache(self, reads: "Iterable[tuple[bytes, _Computed]]") -> None:
        fresh = [(key, read.result) for key, read in reads if isinstance(read, Read) and isinstance(read.result, Pooled)]
        self._cache.put_many(fresh)

    async def _read(self, requests: list[TreeRequest], call: "_Call") -> "list[_Computed]":
        options = call.options
        futures = await self._submit(requests, options.lane, call.deadline, patient=options.patient, sealed=options.sealed)
        try:
            return [await _settle(future) for future in futures]
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise

    async def _read_alone(self, request: CallRequest, lane: Lane, deadline: float | None, *, patient: bool = False) -> Read:
        (future,) = await self._submit([request], lane, deadline, patient=patient)
        try:
            return await future
        except asyncio.CancelledError:
            future.cancel()
            raise

    async def _submit(
        self,
        requests: Sequence[TreeRequest | CallRequest],
        lane: Lane,
        deadline: float | None,
        *,
        patient: bool = False,
        sealed: bool = False,
    ) -> "list[asyncio.Future[Read]]":
        tokens = sum(request.size for request in requests)
        await self._admission.enter(tokens, lane, deadline, patient=patient)
        try:
            return self._batcher.submit(requests, lane, deadline, sealed=sealed)
        finally:
            self._admission.entered(tokens)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise _stopping()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


_Computed = Read | AssayError


class _Call:
    """One call's items on their way."""

    def __init__(self, items: Sequence[Item], options: ScoreOptions, deadline: float | None) -> None:
        self.items = items
        self.options = options
        self.deadline = deadline
        self.outcomes: list[Scored | AssayError | None] = [None] * len(items)
        self._texts: dict[int, bytes] = {}
        self.trees: dict[int, TokenTree] = {}
        self.keys: dict[int, bytes] = {}
        self.asked: set[int] = set()
        self.tokenize_seconds = 0.0
        self.cache_seconds = 0.0

    def text(self, index: int) -> bytes:
        """What the item is remembered under before it is tokenised."""
        if index not in self._texts:
            self._texts[index] = text_digest(self.items[index], self.options)
        return self._texts[index]

    def request(self, index: int) -> TreeRequest:
        return TreeRequest(self.trees[index], self.options.include_prompt, self.options.directions)

    def land(self, index: int, pooled: Pooled, state: CacheState, *, queue: float = 0.0, forward: float = 0.0) -> None:
        self.outcomes[index] = Scored(pooled, Timings(self.tokenize_seconds, queue, forward, self.cache_seconds, state))

    def land_read(self, index: int, read: _Computed, state: CacheState) -> None:
        if isinstance(read, AssayError):
            self.outcomes[index] = read
            return
        assert isinstance(read.result, Pooled)
        self.land(index, read.result, state, queue=read.queue_seconds, forward=read.forward_seconds)


async def _until(deadline: float | None, work: Coroutine[Any, Any, T]) -> T:
    """Await work, up to the caller's own deadline: another call may be computing it with more time than this one has."""
    try:
        return await asyncio.wait_for(work, None if deadline is None else max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise Expired("The deadline passed before this was read; allow more time or send less at once.") from None


async def _settle(future: "asyncio.Future[Read]") -> "_Computed":
    try:
        return await future
    except AssayError as error:
        return error


def _stopping() -> NotReady:
    return NotReady("The server is stopping and takes no new work.", reason="STOPPING")


def _bug() -> Never:
    raise RuntimeError("an item was neither scored nor refused: this is a bug")


def default_batch_tokens(dtype: str, device_type: str) -> int:
    """Tokens of a batch: what was fastest of 384 to 2,048 on a CPU (docs/design.md), enough to fill an accelerator elsewhere."""
    if device_type != "cpu":
        return 16_384
    return 1024 if dtype == "float32" else 2048


def build_scorer(
    subject: Subject,
    cache: FeatureCache,
    *,
    observer: EngineObserver | None = None,
    batch_tokens: int = 0,
    window: int = 512,
    max_age_seconds: float = 2.0,
    max_tokens_in_flight: int = 1_000_000,
    tokenizer_threads: int = 1,
) -> Scorer:
    """A scorer around a subject, with its batcher started. Call it on the event loop.

    Args:
        batch_tokens: token budget of a batch; 0 takes ``default_batch_tokens``.
    """
    on_cpu = subject.device.type == "cpu"
    planner = Planner(
        budget=batch_tokens or default_batch_tokens(subject.info.dtype, subject.device.type),
        window=window,
        max_age=max_age_seconds,
        padded=subject.reader.padded or not on_cpu,
    )
    batcher = Batcher(subject, planner, observer)
    batcher.start()
    return Scorer(
        subject,
        cache,
        batcher,
        observer=observer,
        max_tokens_in_flight=max_tokens_in_flight,
        tokenizer_threads=tokenizer_threads,
    )
