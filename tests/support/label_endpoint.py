"""A real HTTP server that speaks the chat completions API, misbehaving as told."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], "str | Reply"]


@dataclass(frozen=True)
class Reply:
    """A raw answer: status, body, headers, seconds before it, and seconds between its bytes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drip: float = 0.0


@dataclass
class LabelServer:
    """What was asked, and what is answered. ``script`` is used up first, one entry a request; then ``answer`` decides."""

    url: str = ""
    answer: Answer = lambda request: "fine"
    script: list["str | Reply"] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, request: dict[str, Any]) -> Reply:
        told = self.script.pop(0) if self.script else self.answer(request)
        if isinstance(told, Reply):
            return told
        body = {
            "choices": [{"message": {"role": "assistant", "content": told}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 7},
        }
        return Reply(body=json.dumps(body).encode())


@contextmanager
def label_server() -> Iterator[LabelServer]:
    """A server on a free loopback port."""
    state = LabelServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with state.lock:
                state.running += 1
                state.most_running = max(state.most_running, state.running)
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                state.requests.append(request)
                state.headers.append(dict(self.headers.items()))
                state.paths.append(self.path)
                reply = state.reply(request)
            try:
                self._send(reply)
            except OSError:
                pass  # the client hung up
            finally:
                with state.lock:
                    state.running -= 1

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.wait)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if not reply.drip:
                self.wfile.write(reply.body)
                return
            for byte in reply.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(reply.drip)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
