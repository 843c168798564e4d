"""Connections of clients that send without end, or hardly anything: each is ended, with a word."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
import uvicorn
from starlette.types import Receive, Scope, Send

from docling_serve.internals import uvicorn_connections
from docling_serve.internals.uvicorn_connections import GuardedConnection
from docling_serve.settings.limits import ConnectionLimits
from tests.helpers.loops import ON_BOTH_LOOPS, PATIENCE_S, until

pytestmark = ON_BOTH_LOOPS

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
PIECE = b"a" * 16 * 1024
#: So short that a test waits for its end; nothing measures it.
SOON_S = 0.1
NEVER = {"header_timeout": 0, "body_timeout": 0}

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class App:
    """Answers with the number of bytes of the body; ``entered`` and ``gate`` hold an answer up."""

    def __init__(self) -> None:
        self.size = 0
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.answer = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.set()
        count, more = 0, scope["path"] != "/unread"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            count += len(message["body"])
            more = message["more_body"]
        await self.gate.wait()
        body = self.answer or str(count).encode()
        length = str(len(body)).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", length)],
            }
        )
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def serving(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    @asynccontextmanager
    async def serve(
        tls: ssl.SSLContext | None = None, **limits: Any
    ) -> AsyncIterator[tuple[App, uvicorn.Server, Callable[[], Awaitable[Client]]]]:
        monkeypatch.setattr(GuardedConnection, "limits", ConnectionLimits(**limits))
        app = App()
        config = uvicorn.Config(
            app, http=GuardedConnection, lifespan="off", port=0, host="127.0.0.1", log_config=None
        )
        config.load()
        config.ssl = tls
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve())
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]

        async def connect(**options: Any) -> Client:
            return await asyncio.open_connection("127.0.0.1", port, **options)

        try:
            yield app, server, connect
        finally:
            server.should_exit = True
            await asyncio.wait_for(running, PATIENCE_S)

    return serve


async def said(client: Client) -> str:
    """All that the server says until it hangs up."""
    reader, writer = client
    try:
        return (await asyncio.wait_for(reader.read(), PATIENCE_S)).decode()
    finally:
        writer.close()


async def flood(client: Client, piece: bytes) -> int:
    """Send ``piece`` again and again until the server hangs up; returns how often."""
    for count in range(10_000):
        try:
            client[1].write(piece)
            await client[1].drain()
        except ConnectionError:
            return count
    return 10_000


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /",
        HEAD + b"X: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["address", "header", "trailer", "extension of a chunk"],
)
async def test_what_has_no_end_is_refused_at_the_limit(
    serving: Callable[..., Any], beginning: bytes
) -> None:
    async with serving(**NEVER) as (_, server, connect):
        client = await connect()
        client[1].write(beginning)
        assert await flood(client, PIECE) < 1000
        await gone(server)


async def gone(server: uvicorn.Server) -> None:
    await asyncio.wait_for(until(lambda: not server.server_state.connections), PATIENCE_S)


async def test_many_headers_are_as_bad_as_a_long_one(serving: Callable[..., Any]) -> None:
    async with serving(**NEVER) as (_, _, connect):
        client = await connect()
        client[1].write(HEAD + b"X-A: b\r\n" * 9000)
        assert (await said(client)).startswith("HTTP/1.1 431 ")


async def test_a_large_header_and_a_large_body_pass(serving: Callable[..., Any]) -> None:
    async with serving(**NEVER) as (_, _, connect):
        client = await connect()
        client[1].write(HEAD + b"X: " + b"a" * 60_000 + b"\r\nContent-Length: 1000000\r\n")
        client[1].write(b"Connection: close\r\n\r\n" + bytes(1_000_000))
        assert (await said(client)).endswith("\r\n\r\n1000000")


@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"GET / HT", HEAD + b"X-A: b\r\n"])
async def test_a_header_has_to_come_in_time(serving: Callable[..., Any], beginning: bytes) -> None:
    async with serving(header_timeout=SOON_S) as (_, _, connect):
        client = await connect()
        client[1].write(beginning)
        assert (await said(client)).startswith("HTTP/1.1 408 ")


async def test_drops_do_not_keep_a_connection_open(
    serving: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before a request nor after one, where the first byte ends uvicorn's own wait."""
    async with serving(**NEVER) as (_, server, connect):
        after = await connect()
        after[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await after[0].readuntil(b"\r\n\r\n0")
        monkeypatch.setattr(GuardedConnection, "limits", ConnectionLimits(header_timeout=SOON_S))
        before = await connect()
        for client in (before, after):
            await flood(client, b"\r\n")
        await gone(server)


@pytest.mark.parametrize("framing", [b"Content-Length: 9999", b"Transfer-Encoding: chunked"])
async def test_a_body_has_to_come_in_time(serving: Callable[..., Any], framing: bytes) -> None:
    async with serving(body_timeout=SOON_S, min_body_rate=10**6) as (_, _, connect):
        client = await connect()
        client[1].write(HEAD + framing + b"\r\n\r\n1\r\nx\r\n")
        answer = await said(client)
        assert answer.startswith("HTTP/1.1 408 ")
        assert json.loads(answer.splitlines()[-1])["detail"].endswith("(min_body_rate).")


async def test_a_body_whose_time_ends_as_it_is_looked_at_is_refused_too(
    serving: Callable[..., Any],
) -> None:
    async with serving(body_timeout=60, min_body_rate=10**6) as (app, server, connect):
        client = await connect()
        client[1].write(HEAD + b"Content-Length: 9999\r\n\r\nx")
        await app.entered.wait()
        (connection,) = server.server_state.connections
        connection._body_since -= 61
        connection._watch_body()
        assert (await said(client)).startswith("HTTP/1.1 408 ")


async def test_what_has_come_buys_time(serving: Callable[..., Any]) -> None:
    async with serving(body_timeout=SOON_S, min_body_rate=1) as (_, _, connect):
        client = await connect()
        client[1].write(HEAD + b"Connection: close\r\nContent-Length: 1001\r\n\r\n" + bytes(1000))
        asyncio.get_running_loop().call_later(3 * SOON_S, client[1].write, b"x")
        assert (await said(client)).endswith("\r\n\r\n1001")


async def test_a_server_that_does_not_read_blames_nobody(serving: Callable[..., Any]) -> None:
    async with serving(body_timeout=SOON_S, min_body_rate=10**9) as (app, _, connect):
        app.gate.clear()
        client = await connect()
        client[1].write(HEAD + b"Connection: close\r\nContent-Length: 4\r\n\r\n1234")
        asyncio.get_running_loop().call_later(3 * SOON_S, app.gate.set)
        assert (await said(client)).endswith("\r\n\r\n4")


async def test_the_rest_of_a_body_that_nobody_wants_is_not_waited_for(
    serving: Callable[..., Any],
) -> None:
    # The app answers long before that.
    async with serving(body_timeout=5 * SOON_S, min_body_rate=10**6) as (_, _, connect):
        client = await connect()
        client[1].write(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nx")
        answer = await said(client)
        assert answer.startswith("HTTP/1.1 200 ")
        assert "408" not in answer


async def test_who_still_sends_can_read_an_answer_that_closes(serving: Callable[..., Any]) -> None:
    """A proxy that is cut off while it sends makes a 502 of the answer."""
    async with serving() as (_, server, connect):
        client = await connect(limit=2**16)
        pieces = 512  # more than the buffers of both sockets hold
        head = f"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: {pieces * len(PIECE)}\r\n"
        client[1].write(f"{head}Connection: close\r\n\r\n".encode())
        for _ in range(pieces):
            client[1].write(PIECE)
            await client[1].drain()
        assert (await said(client)).endswith("\r\n\r\n0")
        await gone(server)


async def test_what_is_sent_after_the_answer_is_bounded(
    serving: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_connections, "_LINGER_BYTES", 10 * len(PIECE))
    async with serving() as (_, server, connect):
        client = await connect()
        head = b"POST /unread HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        client[1].write(head + b"Content-Length: 999999999\r\n\r\n")
        assert await flood(client, PIECE) < 10_000
        await gone(server)


async def test_an_answer_that_is_not_taken_is_given_up(serving: Callable[..., Any]) -> None:
    async with serving(body_timeout=SOON_S) as (app, server, connect):
        app.answer = bytes(64 * 1024 * 1024)
        reader, writer = await connect(limit=1024)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(app.entered.wait(), PATIENCE_S)
        await gone(server)
        writer.close()


async def test_an_answer_under_way_is_not_cut_by_the_next_header(
    serving: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(**NEVER) as (app, server, connect):
        app.gate.clear()
        client = await connect()
        client[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await app.entered.wait()
        monkeypatch.setattr(GuardedConnection, "limits", ConnectionLimits(header_timeout=SOON_S))
        client[1].write(b"GET / HT")
        (connection,) = server.server_state.connections
        await until(lambda: not connection.cycle.keep_alive)  # the time of that header is up
        app.gate.set()
        answer = await said(client)
        assert answer.startswith("HTTP/1.1 200 ")
        assert answer.endswith("\r\n\r\n0")


async def test_an_idle_client_of_tls_does_not_delay_the_end(
    serving: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never answers that the connection ends: its loop's SSL object reads no more."""
    monkeypatch.setattr(uvicorn_connections, "_GOODBYE_S", SOON_S)
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving(tls=served) as (_, server, connect):
        reader, writer = await connect(ssl=trusting)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n0")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        server.should_exit = True
        await gone(server)
        writer.transport.abort()
