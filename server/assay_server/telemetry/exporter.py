"""``/metrics`` and ``/healthz`` over HTTP, on a port and threads of their own, so that a busy event loop still answers.

Invariant: it only reads. ``/healthz`` is 200 while the server takes work and 503 while it loads or drains.
"""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from assay_server.telemetry.metrics import Metrics


class Exporter:
    """An HTTP server for Prometheus and for probes.

    Args:
        metrics: what ``/metrics`` shows.
        serving: whether the server takes work.
        host: address to bind.
        port: port to bind; 0 picks a free one.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, metrics: Metrics, serving: Callable[[], bool], *, host: str, port: int) -> None:
        self._server = ThreadingHTTPServer((host, port), _handler(metrics, serving))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="assay-metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is bound."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stops answering and frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _handler(metrics: Metrics, serving: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds of silence after which a connection is dropped

        def do_GET(self) -> None:
            path = self.path.split("?", maxsplit=1)[0]
            if path == "/metrics":
                self._answer(200, metrics.exposition(), CONTENT_TYPE_PLAIN_0_0_4)
            elif path == "/healthz":
                up = serving()
                self._answer(200 if up else 503, b"serving\n" if up else b"not serving\n", "text/plain; charset=utf-8")
            else:
                self._answer(404, b"try /metrics or /healthz\n", "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Scrapes are not logged."""

    return Handler
