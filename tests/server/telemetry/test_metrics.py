"""Metrics: names, observers, and the HTTP exporter."""

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from assay_server.batching import EngineObserver
from assay_server.cache import CacheObserver
from assay_server.store.files import FOLDERS, Files, StoreSize
from assay_server.telemetry.exporter import Exporter
from assay_server.telemetry.metrics import Metrics
from assay_server.telemetry.store_metrics import MAX_AGE_SECONDS, StoreMetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.fake_scorer import INFO
from tests.support.waiting import PATIENCE

SUFFIXES = (
    "_total",
    "_seconds",
    "_tokens",
    "_bytes",
    "_ratio",
    "_pairs",
    "_features",
    "_entries",
    "_state",
    "_info",
    "_operations",
    "_datasets",
)


def filled() -> Metrics:
    metrics = Metrics()
    engine: EngineObserver = metrics
    cache: CacheObserver = metrics.cache
    metrics.loaded(INFO, "0.1")
    metrics.serving(True)
    metrics.request("ScorePairs", "OK", 0.01)
    metrics.pairs("ScorePairs", {"OK": 2, "INVALID_ARGUMENT": 1})
    metrics.in_flight("ScorePairs", +1)
    engine.batch(1000, 400, 0.9, 0.5, 8)
    engine.queued("bulk", 4096)
    engine.queue_wait("interactive", 0.001)
    engine.tokenize(0.002)
    engine.device_memory(1 << 30)
    cache.queries("memory", 10)
    cache.hits("redis", 4)
    cache.errors("timeout", 2)
    cache.breaker("read", "open")
    cache.resident(123, 4)
    cache.evictions(1)
    cache.transferred("write", 99)
    cache.writes(3)
    cache.writes_dropped(5)
    cache.queued(77, 2)
    for change in (0, 1, 1, -1):
        metrics.jobs.queued("audit", change)
    metrics.jobs.running("audit", 0)
    metrics.jobs.ended("audit", "failed", {"waiting": 2.0, "scoring": 40.0})
    metrics.jobs.audited(2_000, 30.0)
    StoreMetrics(metrics.registry, lambda: StoreSize({"audits": 10, "datasets": 5}, 3))
    return metrics


def samples(metrics: Metrics) -> dict[str, float]:
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_everything_that_is_reported_is_shown() -> None:
    shown = samples(filled())
    wanted = {
        "assay_requests_total code=OK method=ScorePairs": 1,
        "assay_pairs_total code=OK method=ScorePairs": 2,
        "assay_pairs_total code=INVALID_ARGUMENT method=ScorePairs": 1,
        "assay_requests_in_flight method=ScorePairs": 1,
        "assay_request_seconds_count method=ScorePairs": 1,
        "assay_serving": 1,
        "assay_model_explained_variance_ratio": 0.9,
        "assay_tokens_read_total": 1000,
        "assay_tokens_saved_total": 400,
        "assay_batch_tokens_sum": 1000,
        "assay_batch_useful_ratio_sum": 0.9,
        "assay_batch_pairs_sum": 8,
        "assay_forward_seconds_sum": 0.5,
        "assay_queued_tokens lane=bulk": 4096,
        "assay_queue_seconds_count lane=interactive": 1,
        "assay_tokenize_seconds_count": 1,
        "assay_device_memory_bytes": 1 << 30,
        "assay_cache_queries_total backend=memory": 10,
        "assay_cache_hits_total backend=redis": 4,
        "assay_cache_errors_total kind=timeout": 2,
        "assay_cache_breaker_state side=read state=open": 1,
        "assay_cache_breaker_state side=read state=closed": 0,
        "assay_cache_breaker_state side=write state=closed": 1,
        "assay_cache_bytes": 123,
        "assay_cache_entries": 4,
        "assay_cache_evictions_total": 1,
        "assay_cache_transferred_bytes_total side=write": 99,
        "assay_cache_writes_total": 3,
        "assay_cache_writes_dropped_total": 5,
        "assay_cache_queued_bytes": 77,
        "assay_cache_queued_entries": 2,
        "assay_queued_operations kind=audit": 1,
        "assay_running_operations kind=audit": 0,
        "assay_finished_operations_total kind=audit outcome=failed": 1,
        "assay_operation_phase_seconds_sum kind=audit phase=scoring": 40,
        "assay_operation_phase_seconds_bucket kind=audit le=1.0 phase=waiting": 0,
        "assay_audited_pairs_total": 2_000,
        "assay_audit_statistics_seconds_sum": 30,
        "assay_store_bytes folder=audits": 10,
        "assay_store_datasets": 3,
    }
    assert {name: shown.get(name) for name in wanted} == wanted
    assert any(name.startswith("assay_model_info ") and "model=fake/model" in name for name in shown)


def test_names_follow_the_conventions_and_labels_are_few() -> None:
    for family in text_string_to_metric_families(filled().exposition().decode()):
        if not family.name.startswith("assay_"):
            assert family.name.startswith(("process_", "python_"))
            continue
        assert re.fullmatch(r"assay_[a-z0-9_]+", family.name)
        full = family.name + ("_total" if family.type == "counter" else "")
        assert full.endswith(SUFFIXES) or family.name in ("assay_serving", "assay_requests_in_flight")
        assert family.documentation
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if family.name != "assay_model_info":
            assert labels <= {"method", "code", "lane", "kind", "side", "state", "backend", "phase", "outcome", "folder"}


def test_the_store_is_looked_at_once_a_minute_and_no_scrape_fails_for_it(tmp_path: Path) -> None:
    files, metrics, now = Files(str(tmp_path)), Metrics(), [0.0]
    StoreMetrics(metrics.registry, files.size, lambda: now[0])
    files.write("datasets/one/pairs-00000.parquet", b"12345")
    files.write("lock-file", b"123")
    first = {name: value for name, value in samples(metrics).items() if "store" in name}
    assert first == {"assay_store_bytes folder=datasets": 5, "assay_store_bytes folder=other": 3, "assay_store_datasets": 1}
    files.write("audits/a/audit.json", b"1234567")
    files.write("datasets/two/dataset.json", b"1")
    now[0] += MAX_AGE_SECONDS
    assert {name: value for name, value in samples(metrics).items() if "store" in name} == first
    now[0] += 1
    shown = samples(metrics)
    assert (shown["assay_store_bytes folder=audits"], shown["assay_store_datasets"]) == (7, 2)

    def unreachable() -> StoreSize:
        raise OSError("the bucket is gone")

    broken = Metrics()
    StoreMetrics(broken.registry, unreachable)
    broken.serving(True)
    shown = samples(broken)
    assert shown["assay_serving"] == 1
    assert not any(name.startswith("assay_store") for name in shown)


def test_the_documents_list_every_metric_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", page, re.MULTILINE)
    shown = {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            ", ".join(f"`{label}`" for label in sorted({label for sample in family.samples for label in sample.labels} - {"le"})),
            family.documentation,
        )
        for family in text_string_to_metric_families(filled().exposition().decode())
        if family.name.startswith("assay_")
    }
    assert set(listed) == shown
    assert len(listed) == len(shown)


def test_every_folder_of_the_data_directory_is_counted_by_name_and_documented(tmp_path: Path) -> None:
    docs = Path(__file__).parents[3] / "docs"
    files = Files(str(tmp_path))
    layout = re.findall(r"^ {4}((?:[a-z]+/(?:, )?)+)", (docs / "store.md").read_text(), re.MULTILINE)
    folders = {name for line in layout for name in re.findall(r"[a-z]+", line)}
    assert {"datasets", "rankings", "examples", "labels"} <= folders
    for folder in folders:
        files.write(f"{folder}/one", b"12345")
    assert files.size().bytes == dict.fromkeys(folders, 5)
    (told,) = re.findall(r"^- `folder` is (.*?)\.$", (docs / "metrics.md").read_text(), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", told)) == {*FOLDERS, "other"} >= folders


def test_two_servers_in_a_process_do_not_share_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.request("GetModel", "OK", 0.1)
    assert "assay_requests_total code=OK method=GetModel" not in samples(second)


def test_the_exporter_answers_scrapes_and_probes() -> None:
    serving = False
    exporter = Exporter(filled(), lambda: serving, host="127.0.0.1", port=0)
    try:
        url = f"http://127.0.0.1:{exporter.port}"
        with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE) as response:
            assert b"assay_tokens_read_total 1000.0" in response.read()
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE)
        serving = True
        with urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE) as response:
            assert response.status == 200
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/", timeout=PATIENCE)
        with pytest.raises(OSError):
            Exporter(Metrics(), lambda: True, host="127.0.0.1", port=exporter.port)
    finally:
        exporter.close()
