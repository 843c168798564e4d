"""Both ends of a channel over a real socket pair, the server's on either event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from docling_serve.errors import ChannelBroken
from docling_serve.jobs.spec import JobProgress
from docling_serve.subprocess_worker.protocol.channel import (
    ServerChannel,
    WorkerChannel,
    socket_pair,
)
from docling_serve.subprocess_worker.protocol.messages import (
    HEADER,
    MAX_FRAME_BYTES,
    CallbackDue,
    Progressed,
    Run,
    Started,
    Stop,
    encode,
)
from tests.helpers.loops import ON_BOTH_LOOPS, turns

pytestmark = ON_BOTH_LOOPS

STARTED = encode(Started(job=7))
#: A message that does not fit a socket's buffer at once together with its kind.
LARGE = CallbackDue(job=1, payload={"text": "x" * (MAX_FRAME_BYTES - 100)})


@asynccontextmanager
async def ends() -> AsyncIterator[tuple[ServerChannel, socket.socket]]:
    """The server's end as a channel, the worker's as a socket."""
    ours, theirs = socket_pair()
    channel = await ServerChannel.open(ours)
    try:
        yield channel, theirs
    finally:
        channel.close()
        theirs.close()
        await turns(2)


async def test_a_worker_sees_whether_there_is_something_to_read() -> None:
    async with ends() as (server, theirs):
        worker = WorkerChannel(theirs)
        assert not worker.has_message(within_s=0)
        server.send(Stop())
        assert await asyncio.to_thread(worker.has_message, 20)
        assert await asyncio.to_thread(worker.receive) == Stop()
        assert not worker.has_message(within_s=0)
        server.close()
        assert await asyncio.to_thread(worker.has_message, 20), "the end is something to read"


async def test_messages_arrive_in_order() -> None:
    async with ends() as (server, theirs):
        worker = WorkerChannel(theirs)
        for job in range(3):
            worker.send(Started(job=job))
        assert [await server.receive() for _ in range(3)] == [Started(job=job) for job in range(3)]


async def test_the_server_is_heard_by_a_blocking_worker() -> None:
    async with ends() as (server, theirs):
        worker = WorkerChannel(theirs)
        server.send(Run(job=1, folder="/a", output="/b"))
        server.send(Stop())
        assert await asyncio.to_thread(worker.receive) == Run(job=1, folder="/a", output="/b")
        assert await asyncio.to_thread(worker.receive) == Stop()


async def test_ten_thousand_small_frames_keep_their_framing() -> None:
    count = 10_000

    async with ends() as (server, theirs):
        worker = WorkerChannel(theirs)

        def talk() -> None:
            for job in range(count):
                worker.send(Started(job=job))

        talking = asyncio.create_task(asyncio.to_thread(talk))
        for job in range(count):
            assert await server.receive() == Started(job=job)
        await talking


async def test_largest_frames_keep_their_framing() -> None:
    async with ends() as (server, theirs):
        worker = WorkerChannel(theirs)

        def talk() -> None:
            for _ in range(50):
                worker.send(LARGE)

        talking = asyncio.create_task(asyncio.to_thread(talk))
        for _ in range(50):
            assert await server.receive() == LARGE
        await talking


async def test_several_threads_of_a_worker_do_not_mix_their_frames() -> None:
    threads, each = 4, 250

    async with ends() as (server, theirs):
        worker = WorkerChannel(theirs)

        def talk(job: int) -> None:
            for page in range(each):
                progress = JobProgress(phase="p" * 300, completed_pages=page)
                worker.send(Progressed(job=job, progress=progress, holds_models=False))

        talking = [threading.Thread(target=talk, args=(job,)) for job in range(threads)]
        for thread in talking:
            thread.start()
        pages: dict[int, list[int]] = {job: [] for job in range(threads)}
        for _ in range(threads * each):
            message = await server.receive()
            assert isinstance(message, Progressed)
            pages[message.job].append(message.progress.completed_pages)
        for thread in talking:
            thread.join()
        assert pages == {job: list(range(each)) for job in range(threads)}


async def test_a_frame_in_pieces_is_put_together() -> None:
    async with ends() as (server, theirs):
        receiving = asyncio.create_task(server.receive())
        for index in range(len(STARTED)):
            theirs.send(STARTED[index : index + 1])
            await turns(2)
        assert await receiving == Started(job=7)


@pytest.mark.parametrize("sent", range(len(STARTED)))
async def test_an_end_reads_as_closed_wherever_it_tears_a_frame(sent: int) -> None:
    async with ends() as (server, theirs):
        theirs.send(STARTED + STARTED[:sent])
        theirs.close()
        assert await server.receive() == Started(job=7)
        assert await server.receive() is None


async def test_a_reset_reads_as_closed() -> None:
    async with ends() as (server, theirs):
        server.send(Stop())
        await turns(2)
        theirs.close()  # with unread data in it: the server's end reads ECONNRESET
        assert await server.receive() is None


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (HEADER.pack(0), "0 bytes"),
        (HEADER.pack(MAX_FRAME_BYTES + 1), "limit"),
        (b"GET / HTTP/1.1\r\n\r\n", "limit"),
        (HEADER.pack(9) + b"not a JSN", "not a message"),
        (HEADER.pack(16) + b'{"kind": "moon"}', "not a message"),
        (HEADER.pack(2) + b"\xff\xff", "not a message"),
    ],
)
async def test_what_is_no_message_breaks_the_channel(frame: bytes, says: str) -> None:
    async with ends() as (server, theirs):
        theirs.send(frame)
        with pytest.raises(ChannelBroken, match=says):
            await server.receive()


async def test_the_worker_reads_a_closed_server_as_the_end() -> None:
    async with ends() as (server, theirs):
        server.close()
        assert await asyncio.to_thread(WorkerChannel(theirs).receive) is None


@pytest.mark.parametrize("sent", [0, 2, 4, 10])
async def test_the_worker_reads_a_torn_frame_as_the_end(sent: int) -> None:
    ours, other = socket_pair()
    ours.send(STARTED[:sent])
    ours.close()
    assert await asyncio.to_thread(WorkerChannel(other).receive) is None
    other.close()


async def test_the_worker_refuses_what_is_no_message() -> None:
    ours, other = socket_pair()
    ours.send(struct.pack(">I", 0))
    with pytest.raises(ChannelBroken):
        await asyncio.to_thread(WorkerChannel(other).receive)
    ours.close()
    other.close()


async def test_sending_to_an_end_that_is_gone_is_no_error() -> None:
    async with ends() as (server, theirs):
        server.close()
        await turns(2)
        WorkerChannel(theirs).send(Started(job=1))
        server.send(Stop())


async def test_only_the_worker_end_blocks() -> None:
    ours, other = socket_pair()
    WorkerChannel(other)
    assert not ours.getblocking()
    assert other.getblocking()
    ours.close()
    other.close()
