"""Callbacks, delivered to a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from docling.datamodel.service.callbacks import CallbackSpec

from docling_serve.engines.callbacks import CallbackDelivery
from tests.helpers.loops import run, until


@dataclass
class Hook:
    """A client's server: what it was sent, and the statuses it answers with, 200 by default."""

    url: str = ""
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def spec(self, path: str = "/hook", **more: Any) -> CallbackSpec:
        return CallbackSpec(url=self.url + path, **more)

    def events(self, path: str = "/hook") -> list[Any]:
        """The progress of every delivery to ``path``, in order of arrival."""
        return [body["progress"] for found, body in self.sent if found == path]


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            hook.sent.append((self.path, json.loads(self.rfile.read(length))))
            hook.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(hook.statuses.pop(0) if hook.statuses else 200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield hook
        server.shutdown()
        thread.join()


def event(number: int) -> dict[str, Any]:
    return {"kind": "set_num_docs", "num_docs": number}


def test_events_arrive_in_their_order(hook: Hook) -> None:
    async def work() -> None:
        delivery = CallbackDelivery()
        for number in range(5):
            delivery.send("task-1", [hook.spec(), hook.spec("/other")], event(number))
        await delivery.close(within_s=10)

    run(work())
    assert hook.events() == [event(number) for number in range(5)]
    assert hook.events("/other") == hook.events()


def test_an_event_says_whose_it_is_and_carries_the_headers(hook: Hook) -> None:
    async def work() -> None:
        delivery = CallbackDelivery()
        delivery.send("task-1", [hook.spec(headers={"X-Secret": "s3cret"})], event(1))
        await delivery.close(within_s=10)

    run(work())
    assert hook.sent == [("/hook", {"task_id": "task-1", "progress": event(1)})]
    assert hook.headers[0]["x-secret"] == "s3cret"
    assert hook.headers[0]["content-type"] == "application/json"


def test_later_events_are_delivered_too(hook: Hook) -> None:
    async def work() -> None:
        delivery = CallbackDelivery()
        delivery.send("task-1", [hook.spec()], event(1))
        await until(lambda: hook.sent)
        delivery.send("task-1", [hook.spec()], event(2))
        await delivery.close(within_s=10)

    run(work())
    assert hook.events() == [event(1), event(2)]


def test_an_event_that_is_refused_is_sent_again_before_the_next(hook: Hook) -> None:
    """Takes the second that the first retry waits."""
    hook.statuses = [503]

    async def work() -> None:
        delivery = CallbackDelivery()
        for number in (1, 2):
            delivery.send("task-1", [hook.spec()], event(number))
        await delivery.close(within_s=10)

    run(work())
    assert hook.events() == [event(1), event(1), event(2)]


def test_without_callbacks_nothing_is_sent(hook: Hook) -> None:
    async def work() -> None:
        delivery = CallbackDelivery()
        delivery.send("task-1", [], event(1))
        await delivery.close(within_s=10)

    run(work())
    assert hook.sent == []


@pytest.mark.parametrize("ca_cert", ["/no/such/file.pem", "-----BEGIN CERTIFICATE-----\nx"])
def test_a_callback_that_cannot_be_set_up_keeps_no_other_from_its_events(
    hook: Hook, ca_cert: str
) -> None:
    async def work() -> None:
        delivery = CallbackDelivery()
        broken = CallbackSpec(url="https://127.0.0.1:1/", ca_cert=ca_cert)
        delivery.send("task-1", [broken, hook.spec()], event(1))
        delivery.send("task-1", [hook.spec()], event(2))
        await delivery.close(within_s=5)

    run(work())
    assert hook.events() == [event(1), event(2)]


def test_closing_waits_no_longer_than_it_is_told(hook: Hook) -> None:
    hook.statuses = [503, 503, 503]

    async def work() -> None:
        delivery = CallbackDelivery()
        delivery.send("task-1", [hook.spec()], event(1))
        await until(lambda: hook.sent)
        await delivery.close(within_s=0)

    run(work())
    assert hook.events() == [event(1)], "the retries were given up"
