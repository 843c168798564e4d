"""Callbacks, delivered to a server on this machine."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from docling.datamodel.service.callbacks import CallbackSpec
from docling_core.utils.settings import settings as docling_settings

from docling_serve.callbacks.delivery import CallbackDelivery, CallbackRules, signature
from docling_serve.callbacks.post import CallbackPost
from docling_serve.engines.local.journal import Journal
from tests.helpers.loops import PATIENCE_S, until


@dataclass
class Hook:
    """A client's server: what it was sent, and the statuses it answers with, 200 by default."""

    url: str = ""
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    peers: list[Any] = field(default_factory=list)
    answer_headers: dict[str, str] = field(default_factory=dict)
    holds: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.holds.set()

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
            body = self.rfile.read(length)
            hook.headers.append({name.lower(): value for name, value in self.headers.items()})
            hook.bodies.append(body)
            hook.peers.append(self.client_address)
            hook.sent.append((self.path, json.loads(body)))
            hook.holds.wait()
            self.send_response(hook.statuses.pop(0) if hook.statuses else 200)
            for name, value in hook.answer_headers.items():
                self.send_header(name, value)
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


#: The receivers of these tests are on this machine.
HERE = CallbackRules(allow_private=True)
#: pydantic takes it, httpx does not.
UNUSABLE = "https://example.com/" + "a" * 70_000


def event(number: int) -> dict[str, Any]:
    return {"kind": "set_num_docs", "num_docs": number}


async def test_events_arrive_in_their_order(hook: Hook) -> None:
    events = [event(number) for number in range(5)]
    delivery = CallbackDelivery(HERE)
    for each in events:
        delivery.send("task-1", [hook.spec(), hook.spec("/other")], each)
    await delivery.close(within_s=PATIENCE_S)

    assert hook.events() == events
    assert hook.events("/other") == hook.events()


async def test_an_event_says_whose_it_is_and_carries_the_headers(hook: Hook) -> None:
    delivery = CallbackDelivery(HERE)
    delivery.send("task-1", [hook.spec(headers={"X-Secret": "s3cret"})], event(1))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.sent == [("/hook", {"task_id": "task-1", "progress": event(1)})]
    assert hook.headers[0]["x-secret"] == "s3cret"
    assert hook.headers[0]["content-type"] == "application/json"


async def test_later_events_are_delivered_too(hook: Hook) -> None:
    delivery = CallbackDelivery(HERE)
    delivery.send("task-1", [hook.spec()], event(1))
    await until(lambda: hook.sent)
    delivery.send("task-1", [hook.spec()], event(2))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.events() == [event(1), event(2)]


async def test_an_event_that_is_refused_is_sent_again_before_the_next(hook: Hook) -> None:
    """Takes the second that the first retry waits."""
    hook.statuses = [503]

    delivery = CallbackDelivery(HERE)
    for number in (1, 2):
        delivery.send("task-1", [hook.spec()], event(number))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.events() == [event(1), event(1), event(2)]


async def test_without_callbacks_nothing_is_sent(hook: Hook) -> None:
    delivery = CallbackDelivery(HERE)
    delivery.send("task-1", [], event(1))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.sent == []


@pytest.mark.parametrize(
    "ca_cert", ["/no/such/file.pem", "-----BEGIN CERTIFICATE-----\nx", "/dev/null", "/dev/tty", "/"]
)
async def test_a_callback_that_cannot_be_set_up_keeps_no_other_from_its_events(
    hook: Hook, ca_cert: str
) -> None:
    delivery = CallbackDelivery(HERE)
    broken = CallbackSpec(url="https://127.0.0.1:1/", ca_cert=ca_cert)
    delivery.send("task-1", [broken, hook.spec()], event(1))
    delivery.send("task-1", [hook.spec()], event(2))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.events() == [event(1), event(2)]


async def test_an_address_that_httpx_refuses_keeps_no_other_from_its_events(hook: Hook) -> None:
    delivery = CallbackDelivery(HERE)
    delivery.send("task-1", [CallbackSpec(url=UNUSABLE), hook.spec()], event(1))
    delivery.send("task-1", [hook.spec()], event(2))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.events() == [event(1), event(2)]


async def test_a_pipe_in_place_of_a_certificate_stops_nothing(hook: Hook, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    await test_a_callback_that_cannot_be_set_up_keeps_no_other_from_its_events(hook, str(pipe))


async def test_an_empty_certificate_does_not_stand_for_the_systems(
    hook: Hook, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"\n")

    post = CallbackPost(allow_private=True)
    with pytest.raises(ValueError, match="its ca_cert is empty"):
        await post(hook.spec(ca_cert=str(empty)), b"{}", {})
    await post.close()


async def test_an_answer_is_not_read_and_not_remembered(hook: Hook) -> None:
    """It may have no end, and it is of no concern to the next receiver."""
    hook.answer_headers = {"Content-Length": str(10**12), "Set-Cookie": "a=b; Path=/"}

    delivery = CallbackDelivery(HERE)
    for number in (1, 2):
        delivery.send("task-1", [hook.spec()], event(number))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.events() == [event(1), event(2)]
    assert [headers.get("cookie") for headers in hook.headers] == [None, None]
    assert len(set(hook.peers)) == 2, "each has a connection of its own"


async def test_a_receiver_that_does_not_answer_is_left_after_a_while(hook: Hook) -> None:
    post = CallbackPost(allow_private=True, timeout_s=0.05)
    hook.holds.clear()
    with pytest.raises((asyncio.TimeoutError, httpx.TimeoutException)):
        await post(hook.spec(), b"{}", {})
    hook.holds.set()
    await post.close()


async def test_closing_waits_no_longer_than_it_is_told(hook: Hook) -> None:
    hook.statuses = [503, 503, 503]

    delivery = CallbackDelivery(HERE)
    delivery.send("task-1", [hook.spec()], event(1))
    await until(lambda: hook.sent)
    await delivery.close(within_s=0)
    assert hook.events() == [event(1)], "the retries were given up"


# ---- who sent it ---------------------------------------------------------------------------------


async def test_an_event_is_signed_over_time_and_body(hook: Hook) -> None:
    delivery = CallbackDelivery(CallbackRules(secret="s3cret", allow_private=True))
    delivery.send("task-1", [hook.spec()], event(1))
    await delivery.close(within_s=PATIENCE_S)
    headers = hook.headers[0]
    timestamp = headers["x-docling-timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    expected = hmac.new(b"s3cret", timestamp.encode() + b"." + hook.bodies[0], "sha256")
    assert headers["x-docling-signature"] == f"sha256={expected.hexdigest()}"
    assert signature("s3cret", timestamp, hook.bodies[0]) == headers["x-docling-signature"]


async def test_without_a_secret_nothing_is_signed(hook: Hook) -> None:
    delivery = CallbackDelivery(HERE)
    delivery.send("task-1", [hook.spec()], event(1))
    await delivery.close(within_s=PATIENCE_S)
    assert "x-docling-signature" not in hook.headers[0]


async def test_a_second_try_is_known_by_its_delivery(hook: Hook) -> None:
    """Takes the second that the first retry waits."""
    hook.statuses = [500]

    delivery = CallbackDelivery(HERE)
    delivery.send("task-1", [hook.spec()], event(1))
    await until(lambda: len(hook.sent) == 2)
    delivery.send("task-1", [hook.spec()], event(2))
    await delivery.close(within_s=PATIENCE_S)
    first, again, other = [headers["x-docling-delivery"] for headers in hook.headers]
    assert first == again != other


# ---- where it may go -----------------------------------------------------------------------------


async def test_the_next_address_of_a_name_is_tried(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        # Nothing listens at the first one.
        return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    delivery = CallbackDelivery(HERE)
    url = hook.url.replace("127.0.0.1", "receiver")
    delivery.send("task-1", [CallbackSpec(url=f"{url}/hook")], event(1))
    await delivery.close(within_s=PATIENCE_S)
    assert [path for path, _ in hook.sent] == ["/hook"]


async def test_nothing_is_sent_to_this_machine_unless_it_is_allowed(hook: Hook) -> None:
    delivery = CallbackDelivery(CallbackRules(allow_private=False))
    delivery.send("task-1", [hook.spec()], event(1))
    delivery.send("task-1", [CallbackSpec(url="ftp://example.com/x")], event(1))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.sent == []


async def test_an_allowed_address_is_that_of_the_connection(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docling_settings, "allowed_private_ips", ["127.0.0.0/8", "::1"])

    delivery = CallbackDelivery()
    spec = CallbackSpec(url=hook.url.replace("127.0.0.1", "localhost") + "/hook")
    delivery.send("task-1", [spec], event(1))
    await delivery.close(within_s=PATIENCE_S)
    assert hook.events() == [event(1)]
    assert hook.headers[0]["host"].startswith("localhost:")


async def test_a_redirect_is_not_followed(hook: Hook) -> None:
    hook.statuses = [302]

    delivery = CallbackDelivery(CallbackRules(allow_private=True, retry_for_s=0))
    delivery.send("task-1", [hook.spec()], event(1))
    await delivery.close(within_s=PATIENCE_S)
    assert len(hook.sent) == 1


# ---- until it has arrived ------------------------------------------------------------------------


async def test_what_did_not_arrive_is_sent_by_the_next_server(hook: Hook) -> None:
    hook.statuses = [503]

    journal = Journal.in_memory()
    first = CallbackDelivery(HERE, journal)
    for number in (1, 2):
        first.send("task-1", [hook.spec()], event(number))
    await until(lambda: hook.sent)
    await first.close(within_s=PATIENCE_S)
    kept = await journal.pending_deliveries()
    assert [delivery.body["progress"] for delivery in kept] == [event(1), event(2)]
    assert kept[0].attempts == 1

    second = CallbackDelivery(HERE, journal)
    await second.resume()
    await until(lambda: len(hook.sent) == 3)
    await second.close(within_s=PATIENCE_S)
    assert await journal.pending_deliveries() == []
    await journal.close()
    assert hook.events() == [event(1), event(1), event(2)]


async def test_an_event_gets_only_so_old(hook: Hook) -> None:
    hook.statuses = [503]

    journal = Journal.in_memory()
    delivery = CallbackDelivery(CallbackRules(allow_private=True, retry_for_s=0.5), journal)
    delivery.send("task-1", [hook.spec()], event(1))
    delivery.send("task-1", [hook.spec()], event(2))
    await delivery.close(within_s=PATIENCE_S)
    assert await journal.pending_deliveries() == []
    await journal.close()
    assert hook.events() == [event(1), event(2)]


async def test_a_receiver_that_is_down_holds_up_no_other(hook: Hook) -> None:
    delivery = CallbackDelivery(HERE)
    down = CallbackSpec(url="http://127.0.0.1:9/")
    for number in (1, 2):
        delivery.send("task-1", [down, hook.spec()], event(number))
    await until(lambda: len(hook.sent) == 2)
    await delivery.close(within_s=0)
    assert hook.events() == [event(1), event(2)]
