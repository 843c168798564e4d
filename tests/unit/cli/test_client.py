"""The commands that speak to a server, with a scripted server on a socket of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from docling_serve.cli.main import app


def event(kind: str, number: int, **status: Any) -> bytes:
    data = {"task_position": None, "task_meta": None, "error_message": None, **status}
    return f"event: {kind}\ndata: {json.dumps(data)}\nid: {number}\n\n".encode()


WAITING = event("update", 1, task_status="pending", task_position=2)
RUNNING = event(
    "update",
    2,
    task_status="started",
    task_meta={"phase": "build", "completed_pages": 1, "total_pages": 3},
)
DONE = event("end", 3, task_status="success")
FAILED = event("end", 3, task_status="failure", error_message="Too slow.")


@dataclass
class Script:
    """What the server answers; ``streams`` are the bytes of one connection each."""

    streams: list[bytes] = field(default_factory=lambda: [WAITING + b": ping\n\n" + RUNNING + DONE])
    result: dict[str, Any] = field(
        default_factory=lambda: {"status": "success", "document": {"md_content": "# T"}}
    )
    submit_status: int = 200
    refusals: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            script.headers.append(dict(self.headers))
            script.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            if script.refusals:
                script.refusals -= 1
                self._answer({"detail": "full"}, 429, {"Retry-After": "0"})
                return
            self._answer({"task_id": "t1", "detail": "no"}, script.submit_status)

        def do_GET(self) -> None:
            script.headers.append(dict(self.headers))
            if self.path.endswith("/events"):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(script.streams.pop(0))
            else:
                self._answer(script.result)

        def _answer(
            self, content: Any, status: int = 200, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "a.md"
    path.write_text("# T")
    return str(path)


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, words)


def test_a_file_is_converted(url: str, script: Script, document: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--output", str(out), "--option", "force_ocr=true", "--api-key", "k"]
    ran = invoke("convert", document, "--url", url, *words)

    assert ran.exit_code == 0, ran.output
    assert (out / "a.md.md").read_text() == "# T"
    assert b'name="force_ocr"' in script.bodies[0]
    assert {headers["X-Api-Key"] for headers in script.headers} == {"k"}


def test_options_that_come_again_are_lists_and_the_document_is_asked_for(
    url: str, script: Script, document: str
) -> None:
    words = ["--option", "page_range=1", "--option", "page_range=2"]
    invoke("convert", document, "--url", url, *words)

    assert script.bodies[0].count(b'name="page_range"') == 2
    assert b'name="target_type"\r\n\r\ninbody' in script.bodies[0]


def test_documents_of_one_name_are_kept_apart(
    url: str, script: Script, document: str, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "a.md"
    other.parent.mkdir()
    other.write_text("# B")
    script.streams = [WAITING + DONE, WAITING + DONE]
    out = tmp_path / "out"
    ran = invoke("convert", document, str(other), "--url", url, "--output", str(out))

    assert ran.exit_code == 0, ran.output
    assert sorted(path.name for path in out.iterdir()) == ["a-2.md.md", "a.md.md"]


def test_a_full_queue_is_waited_for(url: str, script: Script, document: str) -> None:
    script.refusals = 2
    ran = invoke("convert", document, "--url", url)

    assert ran.exit_code == 0, ran.output
    assert "the queue is full" in ran.output
    assert len(script.bodies) == 3


@pytest.mark.parametrize("result", [{}, {"status": "failure", "errors": []}])
def test_no_document_is_no_success(
    url: str, script: Script, document: str, result: dict[str, Any]
) -> None:
    script.result = result
    ran = invoke("convert", document, "--url", url)

    assert ran.exit_code == 1
    assert "no document came back" in ran.output


def test_without_a_folder_the_text_is_printed(url: str, document: str) -> None:
    assert "# T\n" in invoke("convert", document, "--url", url).stdout


def test_a_broken_connection_is_made_anew(url: str, script: Script, document: str) -> None:
    script.streams = [WAITING, RUNNING, DONE]

    assert invoke("convert", document, "--url", url).exit_code == 0
    asked = [headers["Last-Event-ID"] for headers in script.headers if "Last-Event-ID" in headers]
    assert asked == ["1", "2"]


def test_a_failed_task_is_told(url: str, script: Script, document: str) -> None:
    script.streams = [FAILED, FAILED]
    script.result = {"kind": "TaskFailureResult"}

    for ran in (invoke("convert", document, "--url", url), invoke("watch", "t1", "--url", url)):
        assert ran.exit_code == 1
        assert "Too slow." in ran.output


def test_a_failed_document_is_told(url: str, script: Script, document: str) -> None:
    script.result = {
        "status": "failure",
        "errors": [{"error_message": "It is broken."}],
        "document": {"md_content": None},
    }
    ran = invoke("convert", document, "--url", url)

    assert ran.exit_code == 1
    assert "It is broken." in ran.output


def test_a_refusal_is_one_line(url: str, script: Script, document: str) -> None:
    script.submit_status = 401
    ran = invoke("convert", document, "--url", url)

    assert ran.exit_code == 1
    assert "answered 401" in ran.output
    assert "Traceback" not in ran.output


@pytest.mark.parametrize("words", [["--to", "docx"], ["--option", "force_ocr"]])
def test_a_wrong_word_is_refused_before_anything_is_sent(document: str, words: list[str]) -> None:
    assert invoke("convert", document, *words).exit_code == 2
