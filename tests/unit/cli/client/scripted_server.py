"""A scripted server on a socket of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typer.testing import CliRunner

from docling_serve.cli.main import app


def event(kind: str, number: int, **status: Any) -> bytes:
    """A state of a task, as the event stream brings it."""
    data = {"task_position": None, "task_meta": None, "error_message": None, **status}
    return f"event: {kind}\ndata: {json.dumps(data)}\nid: {number}\n\n".encode()


WAITING = event("update", 1, task_status="pending", task_position=2)
RUNNING = event(
    "update",
    2,
    task_status="started",
    task_meta={"phase": "build", "completed_pages": 1, "total_pages": 3},
)
DONE = event("end", 3, task_status="success", waited_s=0.5, converted_s=2.0)
FAILED = event("end", 3, task_status="failure", error_message="Too slow.")


@dataclass
class Script:
    """What the server answers; ``streams`` are the bytes of one connection each, the last of which
    is sent again. ``holds`` keeps a stream open after its first state until a task is cancelled."""

    streams: list[bytes] = field(default_factory=lambda: [WAITING + b": ping\n\n" + RUNNING + DONE])
    result: dict[str, Any] = field(
        default_factory=lambda: {"status": "success", "document": {"md_content": "# T"}}
    )
    submit_status: int = 200
    refusals: int = 0
    known: bool = True
    holds: threading.Event | None = None
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    script: Script

    def do_POST(self) -> None:
        self._note()
        self.script.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        if self.script.refusals:
            self.script.refusals -= 1
            self._answer({"detail": "full"}, 429, {"Retry-After": "0"})
        else:
            self._answer({"task_id": "t1", "detail": "no"}, self.script.submit_status)

    def do_DELETE(self) -> None:
        self._note()
        if self.script.holds is not None:
            self.script.holds.set()
        self._answer({"detail": "Task not found."}, 204 if self.script.known else 404)

    def do_GET(self) -> None:
        self._note()
        path = self.path.partition("?")[0]
        if path in self.script.answers:
            status, content = self.script.answers[path]
            self._answer(content, status)
        elif not path.endswith("/events"):
            self._answer(self.script.result)
        elif self.script.known:
            self._stream()
        else:
            self._answer({"detail": "Task not found."}, 404)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        streams = self.script.streams
        if self.script.holds is not None:
            self.wfile.write(WAITING)
            self.script.holds.wait()
        self.wfile.write(streams[0] if len(streams) == 1 else streams.pop(0))

    def _note(self) -> None:
        self.script.calls.append(f"{self.command} {self.path}")
        self.script.headers.append(dict(self.headers))

    def _answer(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if status != 204:
            self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None: ...


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """The server's address."""
    handler = type("Bound", (_Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def invoke(*words: str, **more: Any) -> Any:
    """Run the command line."""
    return CliRunner().invoke(app, words, **more)
