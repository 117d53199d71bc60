"""Size of the data directory, measured when Prometheus scrapes, in the exporter's thread.

Measuring walks the folders, so a size is reused for ``MAX_AGE_SECONDS``: scraping more often costs nothing.
"""

import threading
import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from assay_server.store.files import StoreSize

MAX_AGE_SECONDS = 60.0


class StoreMetrics(Collector):
    """Shows bytes by folder and the number of datasets.

    Args:
        registry: where it registers itself.
        look: what is there now; blocks. What it raises shows as nothing.
        clock: seconds that never go back.
    """

    def __init__(
        self, registry: CollectorRegistry, look: Callable[[], StoreSize], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._guard = threading.Lock()
        self._seen: StoreSize | None = None
        self._at = 0.0
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The gauges."""
        size = self._size()
        held = GaugeMetricFamily("assay_store_bytes", "Bytes in the data directory, by folder.", labels=["folder"])
        datasets = GaugeMetricFamily("assay_store_datasets", "Datasets in the data directory.")
        if size is not None:
            for folder, n_bytes in sorted(size.bytes.items()):
                held.add_metric([folder], n_bytes)
            datasets.add_metric([], size.datasets)
        return [held, datasets]

    def describe(self) -> Iterable[Metric]:
        """Names without a look, so that registering walks nothing."""
        return [
            GaugeMetricFamily("assay_store_bytes", "", labels=["folder"]),
            GaugeMetricFamily("assay_store_datasets", ""),
        ]

    def _size(self) -> StoreSize | None:
        with self._guard:
            if self._seen is None or self._clock() - self._at > MAX_AGE_SECONDS:
                try:
                    self._seen = self._look()
                except Exception:  # a folder that was deleted meanwhile, an object store out of reach: no scrape fails for it
                    self._seen = None
                self._at = self._clock()
            return self._seen
