"""Both ends of a channel over a real socket pair, the server's on either event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable

import pytest

from docling_serve.errors import ChannelBroken
from docling_serve.jobs import JobProgress
from docling_serve.subprocess_worker.channel import ServerChannel, WorkerChannel, socket_pair
from docling_serve.subprocess_worker.messages import (
    HEADER,
    MAX_FRAME_BYTES,
    CallbackDue,
    Progressed,
    Run,
    Started,
    Stop,
    encode,
)
from tests.helpers.loops import LOOP_KINDS, LoopKind, run_on, turns

pytestmark = pytest.mark.parametrize("loop_kind", LOOP_KINDS)

STARTED = encode(Started(job=7))
#: A message that does not fit a socket's buffer at once together with its kind.
LARGE = CallbackDue(job=1, payload={"text": "x" * (MAX_FRAME_BYTES - 100)})


def _with_channel(
    loop_kind: LoopKind, work: Callable[[ServerChannel, socket.socket], Awaitable[None]]
) -> None:
    async def opened() -> None:
        ours, theirs = socket_pair()
        channel = await ServerChannel.open(ours)
        try:
            await work(channel, theirs)
        finally:
            channel.close()
            theirs.close()
            await turns(2)

    run_on(loop_kind, opened())


def test_a_worker_sees_whether_there_is_something_to_read(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        worker = WorkerChannel(theirs)
        assert not worker.has_message(within_s=0)
        server.send(Stop())
        assert await asyncio.to_thread(worker.has_message, 20)
        assert await asyncio.to_thread(worker.receive) == Stop()
        assert not worker.has_message(within_s=0)
        server.close()
        assert await asyncio.to_thread(worker.has_message, 20), "the end is something to read"

    _with_channel(loop_kind, work)


def test_messages_arrive_in_order(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        worker = WorkerChannel(theirs)
        for job in range(3):
            worker.send(Started(job=job))
        assert [await server.receive() for _ in range(3)] == [Started(job=job) for job in range(3)]

    _with_channel(loop_kind, work)


def test_the_server_is_heard_by_a_blocking_worker(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        worker = WorkerChannel(theirs)
        server.send(Run(job=1, folder="/a"))
        server.send(Stop())
        assert await asyncio.to_thread(worker.receive) == Run(job=1, folder="/a")
        assert await asyncio.to_thread(worker.receive) == Stop()

    _with_channel(loop_kind, work)


def test_ten_thousand_small_frames_keep_their_framing(loop_kind: LoopKind) -> None:
    count = 10_000

    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        worker = WorkerChannel(theirs)

        def talk() -> None:
            for job in range(count):
                worker.send(Started(job=job))

        talking = asyncio.create_task(asyncio.to_thread(talk))
        for job in range(count):
            assert await server.receive() == Started(job=job)
        await talking

    _with_channel(loop_kind, work)


def test_largest_frames_keep_their_framing(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        worker = WorkerChannel(theirs)

        def talk() -> None:
            for _ in range(50):
                worker.send(LARGE)

        talking = asyncio.create_task(asyncio.to_thread(talk))
        for _ in range(50):
            assert await server.receive() == LARGE
        await talking

    _with_channel(loop_kind, work)


def test_several_threads_of_a_worker_do_not_mix_their_frames(loop_kind: LoopKind) -> None:
    threads, each = 4, 250

    async def work(server: ServerChannel, theirs: socket.socket) -> None:
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

    _with_channel(loop_kind, work)


def test_a_frame_in_pieces_is_put_together(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        receiving = asyncio.create_task(server.receive())
        for index in range(len(STARTED)):
            theirs.send(STARTED[index : index + 1])
            await turns(2)
        assert await receiving == Started(job=7)

    _with_channel(loop_kind, work)


@pytest.mark.parametrize("sent", range(len(STARTED)))
def test_an_end_reads_as_closed_wherever_it_tears_a_frame(loop_kind: LoopKind, sent: int) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        theirs.send(STARTED + STARTED[:sent])
        theirs.close()
        assert await server.receive() == Started(job=7)
        assert await server.receive() is None

    _with_channel(loop_kind, work)


def test_a_reset_reads_as_closed(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        server.send(Stop())
        await turns(2)
        theirs.close()  # with unread data in it: the server's end reads ECONNRESET
        assert await server.receive() is None

    _with_channel(loop_kind, work)


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
def test_what_is_no_message_breaks_the_channel(
    loop_kind: LoopKind, frame: bytes, says: str
) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        theirs.send(frame)
        with pytest.raises(ChannelBroken, match=says):
            await server.receive()

    _with_channel(loop_kind, work)


def test_the_worker_reads_a_closed_server_as_the_end(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        server.close()
        assert await asyncio.to_thread(WorkerChannel(theirs).receive) is None

    _with_channel(loop_kind, work)


@pytest.mark.parametrize("sent", [0, 2, 4, 10])
def test_the_worker_reads_a_torn_frame_as_the_end(loop_kind: LoopKind, sent: int) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        ours, other = socket_pair()
        ours.send(STARTED[:sent])
        ours.close()
        assert await asyncio.to_thread(WorkerChannel(other).receive) is None
        other.close()

    _with_channel(loop_kind, work)


def test_the_worker_refuses_what_is_no_message(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        ours, other = socket_pair()
        ours.send(struct.pack(">I", 0))
        with pytest.raises(ChannelBroken):
            await asyncio.to_thread(WorkerChannel(other).receive)
        ours.close()
        other.close()

    _with_channel(loop_kind, work)


def test_sending_to_an_end_that_is_gone_is_no_error(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        server.close()
        await turns(2)
        WorkerChannel(theirs).send(Started(job=1))
        server.send(Stop())

    _with_channel(loop_kind, work)


def test_only_the_worker_end_blocks(loop_kind: LoopKind) -> None:
    async def work(server: ServerChannel, theirs: socket.socket) -> None:
        ours, other = socket_pair()
        WorkerChannel(other)
        assert not ours.getblocking()
        assert other.getblocking()
        ours.close()
        other.close()

    _with_channel(loop_kind, work)
