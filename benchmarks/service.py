"""The service against its own engine: streaming, replay from the cache, and one pair under a flood.

python -m benchmarks.service --pairs PAIRS.jsonl.gz [--dtype float32] [--limit 160] [--rounds 3]

stream       the pairs through StreamPairs from another process, cache bypassed, against Subject.read on the same pairs
server CPU   processor time of the server outside the device thread (and the math threads that it starts), as a share of all
replay       the same stream when every pair is cached, in memory and in Redis, against the first, cold pass
interactive  ScorePairs of one pair (cache bypassed) alone, and while a stream keeps the server saturated
"""

import statistics
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import torch
from assay import CacheMode, Client, ScoreOptions
from assay_server.scorer import default_batch_tokens
from assay_server.subject.allocator import keep_freed_memory

from benchmarks import engine
from benchmarks.common import arguments, client_pairs, interleave, ratio, read_pairs, serving, timed
from experiments.results import Metric, at_least, at_most, write_result
from tests.support.redis_server import RedisServer

BYPASS = ScoreOptions(cache_mode=CacheMode.BYPASS)


def main() -> None:
    """Measure and write the results."""
    args = arguments(__doc__, pairs="", dtype="float32", limit=160, rounds=3, threads=2, calls=100)
    keep_freed_memory()  # as the server does: it is compared with the engine of this process
    torch.set_num_threads(args.threads)
    flags = ("--dtype", args.dtype, "--threads", str(args.threads))
    pairs = client_pairs(args.pairs, args.limit)
    with serving(*flags) as server, connect(server) as client:
        stream_metrics, stream_raw = streaming(args, server, client, pairs)
        wait_metrics, wait_raw = interactive(args, client, pairs)
        memory_metrics, memory_raw = replay(client, pairs, "memory")
    with (
        RedisServer() as redis,
        serving(*flags, "--redis-url", redis.url, "--lru-bytes", "0") as server,
        connect(server) as client,
    ):
        redis_metrics, redis_raw = replay(client, pairs, "Redis")
    raw = {"stream": stream_raw, "interactive": wait_raw, "replay": [memory_raw, redis_raw], "threads": args.threads}
    write_result(f"service-{args.dtype}", stream_metrics + memory_metrics + redis_metrics + wait_metrics, seed=0, raw=raw)


def connect(server) -> Client:
    """A client of a running server."""
    return Client(f"{server['host']}:{server['port']}")


def score_all(client, pairs, options) -> None:
    """Stream the pairs; every one must be scored."""
    failed = [result.error for result in client.score(pairs, options) if result.error is not None]
    assert not failed, failed[0]


def streaming(args, server, client, pairs):
    """Stream against engine, and where the server's processor time goes."""
    subject = engine.load(args.dtype)
    trees = [subject.tokenizer.pair(pair) for pair in read_pairs(args.pairs, args.limit)]
    score_all(client, pairs[:16], BYPASS)
    budget = default_batch_tokens(args.dtype, "cpu")
    engine.engine(subject, trees[:16], budget)
    usage = []

    def stream() -> float:
        before = cpu_seconds(server["pid"])
        seconds = timed(lambda: score_all(client, pairs, BYPASS))
        usage.append({kind: after - before[kind] for kind, after in cpu_seconds(server["pid"]).items()})
        return seconds

    seconds = interleave({"engine": lambda: timed(lambda: engine.engine(subject, trees, budget)), "stream": stream}, args.rounds)
    outside = statistics.median(used["other"] / (used["other"] + used["device"]) for used in usage)
    metrics = [
        at_least(
            "streamed from another process / engine",
            ratio(seconds, "engine", "stream"),
            "x",
            0.92,
            "streamed >= 0.92 of the engine",
        ),
        at_most("server CPU outside the forward", outside, "share", 0.10, "server CPU outside the forward <= 10%"),
        Metric("streamed speed, best round", len(pairs) / min(seconds["stream"]), "pairs/s"),
    ]
    return metrics, {"seconds": seconds, "cpu_seconds": usage}


def cpu_seconds(pid: int) -> dict[str, float]:
    """Processor seconds of a server: of the device thread and its math threads, and of everything else."""
    used = {"device": 0.0, "other": 0.0}
    for thread in psutil.Process(pid).threads():
        name = Path(f"/proc/{pid}/task/{thread.id}/comm").read_text().strip()
        used["device" if name == "assay-device" else "other"] += thread.user_time + thread.system_time
    return used


def replay(client, pairs, where):
    """Cold once, then all hits, often enough to time it."""
    cold = timed(lambda: score_all(client, pairs, ScoreOptions()))
    time.sleep(1.0)  # writes go behind
    score_all(client, pairs, ScoreOptions())
    passes = []
    for _ in range(7):
        before = time.perf_counter()
        results = list(client.score(pairs, ScoreOptions()))
        passes.append(time.perf_counter() - before)
        assert all(result.score.timings.cache_state.name == "HIT" for result in results), "a replay was not all hits"
    speedup = cold / statistics.median(passes)
    metrics = [
        at_least(f"all-hit replay / cold, {where}", speedup, "x", 150.0, "all-hit replay >= 150x cold"),
        Metric(f"all-hit replay, {where}", len(pairs) / statistics.median(passes), "pairs/s"),
    ]
    return metrics, {"where": where, "cold_seconds": cold, "replay_seconds": passes}


def interactive(args, client, pairs):
    """Latency of one pair alone and under a saturating stream."""
    alone = latencies(client, pairs, args.calls)
    stop = threading.Event()

    def flood() -> None:
        with Client(client.address) as other:

            def endless():
                while not stop.is_set():
                    yield from pairs

            for _ in other.score(endless(), BYPASS):
                if stop.is_set():
                    return

    thread = threading.Thread(target=flood)
    thread.start()
    time.sleep(3.0)
    try:
        loaded = latencies(client, pairs, args.calls)
        batch = max(r.score.timings.forward for r in client.score(pairs[:64], BYPASS))
    finally:
        stop.set()
        thread.join(60)
    p_alone, p_loaded = percentile(alone, 0.99), percentile(loaded, 0.99)
    goal = "p99 under load <= 2.5x unloaded p99 plus one batch"
    metrics = [
        at_most("interactive p99 under load / (2.5 x unloaded p99 + batch)", p_loaded / (2.5 * p_alone + batch), "x", 1.0, goal),
        Metric("interactive p99, unloaded", p_alone * 1e3, "ms"),
        Metric("interactive p99, under load", p_loaded * 1e3, "ms"),
        Metric("one bulk batch", batch * 1e3, "ms"),
    ]
    return metrics, {"alone_seconds": alone, "loaded_seconds": loaded, "batch_seconds": batch}


def latencies(client, pairs, calls: int) -> list[float]:
    """Seconds of single ScorePairs calls."""
    chosen = (pairs[call % len(pairs)] for call in range(calls))
    return [timed(partial(client.score_pairs, [pair], BYPASS)) for pair in chosen]


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    sys.exit(main())
