"""Results that are delivered to an address, which is a real HTTP server here."""

from __future__ import annotations

import io
import queue
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.helpers.api import base64_source, missing_phrases
from tests.helpers.server import RunningServer

_ARRIVES_WITHIN_S = 10.0


@dataclass(frozen=True)
class Delivery:
    """One request that arrived: what was asked, and the parts of its body by name."""

    method: str
    path: str
    parts: dict[str, bytes]


class Receiver(ThreadingHTTPServer):
    """Takes what is put to it; refuses what is put under ``/full``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.deliveries: queue.Queue[Delivery] = queue.Queue()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        self.server.deliveries.put(Delivery(self.command, self.path, _parts(head + body)))
        self.send_response(507 if self.path.startswith("/full") else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base names it
        """Nothing: a line per request is noise."""


def _parts(message: bytes) -> dict[str, bytes]:
    parsed = BytesParser(EmailMessage).parsebytes(message)
    names = (part.get_param("name", header="content-disposition") for part in parsed.iter_parts())
    return {
        str(name): part.get_payload(decode=True)
        for name, part in zip(names, parsed.iter_parts(), strict=True)
    }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_result_is_put_as_one_zip(server: RunningServer, receiver: Receiver) -> None:
    """Upstream F61."""
    target = {"kind": "put", "url": f"{receiver.url}/results/7"}
    names = ("notes.md", "page.html")

    reply = server.api.convert_source(*map(base64_source, names), target=target)

    assert reply.status_code == 200, reply.text
    counts = reply.json()
    assert counts.pop("processing_time") > 0
    assert counts == {
        "num_converted": 2,
        "num_succeeded": 2,
        "num_partially_succeeded": 0,
        "num_failed": 0,
    }
    delivery = receiver.deliveries.get(timeout=_ARRIVES_WITHIN_S)
    assert (delivery.method, delivery.path, list(delivery.parts)) == ("PUT", "/results/7", ["file"])
    with zipfile.ZipFile(io.BytesIO(delivery.parts["file"])) as archive:
        assert sorted(archive.namelist()) == ["notes.md", "page.md"]
        assert missing_phrases("notes.md", archive.read("notes.md").decode()) == []


def test_a_target_that_refuses(server: RunningServer, receiver: Receiver) -> None:
    target = {"kind": "put", "url": f"{receiver.url}/full"}

    reply = server.api.convert_source(base64_source("notes.md"), target=target)

    receiver.deliveries.get(timeout=_ARRIVES_WITHIN_S)
    assert reply.status_code == 424, reply.text
    assert reply.json()["detail"] == "Result could not be written to the requested target."


def test_a_target_that_is_not_there(server: RunningServer) -> None:
    target = {"kind": "put", "url": "http://127.0.0.1:9/results"}

    reply = server.api.convert_source(base64_source("notes.md"), target=target)

    assert reply.status_code == 424, reply.text
    assert "target" in reply.json()["detail"].lower()
