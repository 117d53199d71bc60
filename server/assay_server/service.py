"""One server process: bind, load, verify, serve, drain.

Order, and why: the port is bound first, NOT_SERVING, so that probes see a live process; the subject is loaded and verified in a
thread, so that they are answered meanwhile; only then is the server SERVING, the ready line printed and the ready file written.
SIGTERM and SIGINT drain; a second one does not wait.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from assay_server.cache import FeatureCache, build_cache
from assay_server.config import ConfigError, ServerConfig
from assay_server.errors import AssayError
from assay_server.importing import read_pair_file
from assay_server.jobs.datasets.scoring import ScoringOptions, chunk_pairs_for
from assay_server.jobs.library import Library, StoreOptions, build_library
from assay_server.jobs.plans.types import PlanOptions
from assay_server.labelling.endpoint import EndpointOptions
from assay_server.labelling.labels import Labels, load_labels
from assay_server.rpc.server import AssayServer
from assay_server.scorer import Scorer, build_scorer, default_batch_tokens
from assay_server.store.clusters import StoredClusters, load_clusters
from assay_server.store.files import DataDir
from assay_server.subject.allocator import keep_freed_memory
from assay_server.subject.decoder import DecoderRows
from assay_server.subject.subject import Subject, load_subject
from assay_server.telemetry.exporter import Exporter
from assay_server.telemetry.logs import event, get_logger, setup_logs, trace_of
from assay_server.telemetry.metrics import Metrics
from assay_server.telemetry.store_metrics import StoreMetrics

EXIT_OK = 0
EXIT_UNUSABLE = 2

_log = get_logger("service")
T = TypeVar("T")


def serve(config: ServerConfig) -> int:
    """Serves until a signal comes.

    Returns:
        0 after a signal, 2 where the address, the cache, the labels or the subject cannot be used; the log says why.
    """
    setup_logs(form=config.log_format, level=config.log_level)
    keep_freed_memory()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_Service(config).run())
        if any(thread.name == _LOADER and thread.is_alive() for thread in threading.enumerate()):
            _leave_now(code)  # a load cannot be interrupted, and its result is not needed any more
    return code


class _Service:
    """The parts of one server process, from bound to stopped."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._metrics = Metrics()
        self._stop = asyncio.Event()
        self._began = time.monotonic()

    async def run(self) -> int:
        """Binds, loads, serves, drains. Returns the exit code."""
        self._listen_for_signals()
        server = AssayServer(self._config, self._metrics)
        exporter: Exporter | None = None
        data: DataDir | None = None
        try:
            data = await asyncio.to_thread(_open_data, self._config)
            StoreMetrics(self._metrics.registry, data.files.size)
            port = await server.start()
            exporter = self._start_exporter(server)
            event(
                _log, logging.INFO, "bound", address=f"{self._config.host}:{port}", metrics_port=exporter.port if exporter else 0
            )
            return await self._load_and_serve(server, exporter, data)
        except AssayError as error:
            event(_log, logging.ERROR, "cannot serve", reason=error.reason, message=error.message)
            return EXIT_UNUSABLE
        finally:
            await server.drain()
            if exporter is not None:
                exporter.close()
            if data is not None:
                await asyncio.to_thread(data.close)

    async def _load_and_serve(self, server: AssayServer, exporter: Exporter | None, data: DataDir) -> int:
        loading = _in_daemon_thread(lambda: _load(self._config))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            event(_log, logging.INFO, "stopped while loading")
            return EXIT_OK
        parts = await loading
        scorer = build_scorer(
            parts.subject,
            _open_cache(self._config, self._metrics),
            observer=self._metrics,
            batch_tokens=self._config.batch_tokens,
            window=self._config.window,
            max_age_seconds=self._config.ageing_seconds,
            max_tokens_in_flight=self._config.max_tokens_in_flight,
        )
        library = _build_library(self._config, data, scorer, parts, self._metrics)
        try:
            gc.collect()
            gc.freeze()  # the model's objects stay: collections during calls need not walk them
            await library.start()
            await server.open(scorer, parts.labels, library)
            self._announce(server, exporter)
            await self._stop.wait()
            event(_log, logging.INFO, "draining", seconds=self._config.drain_seconds)
            finished = await server.drain()
            event(_log, logging.INFO if finished else logging.WARNING, "stopped", unfinished_calls=not finished)
        finally:
            await library.aclose()
            await scorer.aclose()
        return EXIT_OK

    def _start_exporter(self, server: AssayServer) -> Exporter | None:
        if self._config.metrics_port == 0:
            return None
        port = max(0, self._config.metrics_port)
        try:
            return Exporter(self._metrics, lambda: server.state.serving, host=self._config.host, port=port)
        except OSError as error:
            raise ConfigError(
                f"Cannot bind the metrics port {port}: {error.strerror}. Give another --metrics-port, or 0 for none.",
                reason="CANNOT_BIND",
                field="metrics_port",
            ) from error

    def _announce(self, server: AssayServer, exporter: Exporter | None) -> None:
        """The ready line on stdout, and the ready file."""
        info = server.state.loaded.scorer.info
        config = self._config
        cache = "Redis and memory" if config.redis_url and config.lru_bytes else "Redis" if config.redis_url else "memory"
        metrics_port = exporter.port if exporter else 0
        metrics = f"http://{config.host}:{metrics_port}/metrics" if exporter else "off"
        print(
            f"ready {config.host}:{server.port} after {time.monotonic() - self._began:.1f} s: {info.model_id} at {info.hook} "
            f"({info.dtype} on {info.device}), SAE {info.sae_id} ({info.sae_architecture}, {info.d_sae} features), "
            f"explained variance {info.explained_variance:.3f}, L0 {info.mean_l0:.1f}, cache {cache}, metrics {metrics}",
            flush=True,
        )
        if config.ready_file:
            ready = {"host": config.host, "port": server.port, "metrics_port": metrics_port, "pid": os.getpid()}
            write_whole(Path(config.ready_file), json.dumps(ready) + "\n")

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if self._stop.is_set():
                event(_log, logging.WARNING, "second signal: not waiting")
                _leave_now(EXIT_OK)
            self._stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)


def write_whole(path: Path, text: str) -> None:
    """Writes the file so that a reader sees all of it or nothing."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is loaded."""

    subject: Subject
    labels: Labels
    decoder: DecoderRows
    clusters: StoredClusters | None  # that came with the SAE


def _load(config: ServerConfig) -> _Parts:
    """The verified subject and what came with it; takes seconds to minutes. Raises AssayError."""
    began = time.monotonic()
    event(_log, logging.INFO, "loading", model=config.model, sae=config.sae)
    try:
        if config.threads:
            torch.set_num_threads(config.threads)
        subject = load_subject(
            config.model,
            config.sae,
            sae_id=config.sae_id,
            hook=config.hook,
            dtype=config.dtype,
            device=config.device,
            overrides=config.overrides,
            max_sequence_tokens=config.max_sequence_tokens,
            variance_floor=config.variance_floor,
            allow_download=config.allow_download,
            whole_model=config.whole_model,
        )
        event(_log, logging.INFO, "verified", hook=subject.info.hook, seconds=time.monotonic() - began)
        labels = _find_labels(config, subject.info.d_sae)
        event(_log, logging.INFO, "labels", labelled=labels.count, features=subject.info.d_sae)
        return _Parts(subject, labels, DecoderRows(subject.sae), _find_clusters(config, subject.info.d_sae))
    except AssayError:
        raise
    except Exception as error:  # no pair is near yet: the exception's own words are what the operator needs
        event(_log, logging.DEBUG, "load failed", trace=trace_of(error))
        raise ConfigError(
            f"Loading {config.model} with {config.sae} failed: {type(error).__name__}: {error}", reason="LOAD_FAILED"
        ) from error


def _find_labels(config: ServerConfig, d_sae: int) -> Labels:
    path = Path(config.labels) if config.labels else _shipped(config, "labels.jsonl.gz", "labels.jsonl")
    return load_labels(path, d_sae) if path is not None and path.is_file() else Labels(d_sae)


def _find_clusters(config: ServerConfig, d_sae: int) -> StoredClusters | None:
    path = _shipped(config, "clusters.json.gz", "clusters.json")
    return None if path is None else load_clusters(path, d_sae)


def _shipped(config: ServerConfig, *names: str) -> Path | None:
    """The first of these files that lies beside the SAE."""
    return next((path for name in names if (path := Path(config.sae) / name).is_file()), None)


def _open_data(config: ServerConfig) -> DataDir:
    """The data directory, locked. Raises DataDirInUse, ConfigError."""
    try:
        data = DataDir(config.data_dir)
    except AssayError:
        raise
    except Exception as error:  # no pair is near: what the file system says is what the operator needs
        raise ConfigError(
            f"data_dir {config.data_dir} cannot be used: {type(error).__name__}: {error}. Give a folder that can be written, or "
            "a URL whose file system (s3fs, gcsfs, ...) is installed.",
            field="data_dir",
        ) from error
    if data.is_temporary:
        event(_log, logging.WARNING, "datasets and audits go with this server; --data-dir keeps them", data_dir=data.files.url)
    elif not data.files.is_local:
        event(
            _log, logging.WARNING, "an object store has no lock: no other server may use this data_dir", data_dir=data.files.url
        )
    return data


def _build_library(config: ServerConfig, data: DataDir, scorer: Scorer, parts: _Parts, metrics: Metrics) -> Library:
    batch_tokens = config.batch_tokens or default_batch_tokens(scorer.info.dtype, scorer.info.device.partition(":")[0])
    options = StoreOptions(
        shard_pairs=config.shard_pairs,
        max_dataset_pairs=config.max_dataset_pairs,
        upload_max_age_seconds=config.upload_max_age_seconds,
        operation_max_age_seconds=config.operation_max_age_seconds,
        import_roots=config.import_roots,
        scoring=ScoringOptions(
            chunk_pairs=chunk_pairs_for(batch_tokens),
            reuse_cache=config.audits_reuse_cache,
            max_text_bytes=config.max_text_bytes,
        ),
    )
    return build_library(
        data,
        scorer,
        parts.labels,
        parts.decoder,
        options,
        audits_at_once=config.audits_at_once,
        plans_at_once=config.plans_at_once,
        plan_options=PlanOptions(
            max_interventions=config.max_plan_interventions,
            max_scores=config.max_plan_scores,
            max_ranking_rows=config.max_ranking_rows,
            held_rows=config.held_plan_rows,
        ),
        shipped=parts.clusters,
        endpoint=_label_endpoint(config),
        max_concept_features=config.max_concept_features,
        read_pairs=read_pair_file,
        telemetry=metrics.jobs,
    )


def _label_endpoint(config: ServerConfig) -> EndpointOptions | None:
    if not config.label_endpoint:
        return None
    return EndpointOptions(
        url=config.label_endpoint,
        model=config.label_model,
        api_key=config.label_api_key,
        timeout_seconds=config.label_timeout_seconds,
        concurrency=config.label_concurrency,
    )


def _open_cache(config: ServerConfig, metrics: Metrics) -> FeatureCache:
    try:
        return build_cache(config.redis_url or None, lru_bytes=config.lru_bytes, observer=metrics.cache)
    except ValueError as error:
        raise ConfigError(f"The cache cannot be set up: {error}", field="redis_url") from error


_LOADER = "assay-load"


def _in_daemon_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Runs ``work`` in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            outcome = work()
        except Exception as error:
            loop.call_soon_threadsafe(settle, future.set_exception, error)
        else:
            loop.call_soon_threadsafe(settle, future.set_result, outcome)

    threading.Thread(target=run, name=_LOADER, daemon=True).start()
    return future


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _leave_now(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
