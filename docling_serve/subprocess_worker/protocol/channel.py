"""The private socket pair between the server and one worker.

The server's end is asyncio streams, which work under uvloop too (``Connection`` with
``add_reader`` loses its framing there); the worker's end is a blocking socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from multiprocessing import connection

from docling_serve.subprocess_worker.protocol.messages import (
    HEADER,
    MAX_FRAME_BYTES,
    Message,
    body_length,
    decode,
    encode,
)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The server's end and the worker's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    return ours, theirs


class ServerChannel:
    """The server's end; use from the event loop only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, ours: socket.socket) -> ServerChannel:
        """Take over ``ours``."""
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2 * MAX_FRAME_BYTES)
        return cls(reader, writer)

    async def receive(self) -> Message | None:
        """The next message, or None when the worker's end is closed.

        A frame cut off by the worker's death counts as closed.

        Raises:
            ChannelBroken: the received bytes are not a message.
        """
        try:
            header = await self._reader.readexactly(HEADER.size)
            return decode(await self._reader.readexactly(body_length(header)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def send(self, message: Message) -> None:
        """Queue ``message``. Never waits: a worker gets messages only while it is waiting, so one
        small frame always fits the socket's buffer."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._writer.write(encode(message))

    def close(self) -> None:
        """Close; the worker reads end-of-file."""
        self._writer.close()


class WorkerChannel:
    """The worker's end: blocking, and safe to send on from several threads."""

    def __init__(self, theirs: socket.socket) -> None:
        theirs.setblocking(True)
        self._socket = theirs
        self._sending = threading.Lock()

    def receive(self) -> Message | None:
        """The next message, or None when the server's end is closed."""
        header = self._read(HEADER.size)
        if header is None:
            return None
        body = self._read(body_length(header))
        return None if body is None else decode(body)

    def has_message(self, within_s: float) -> bool:
        """Whether :meth:`receive` would return at once, now or within that many seconds."""
        return bool(connection.wait([self._socket], within_s))

    def send(self, message: Message) -> None:
        """Send ``message``; if the server is gone, the parent watch notices it instead."""
        with self._sending, contextlib.suppress(ConnectionError):
            self._socket.sendall(encode(message))

    def _read(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self._socket.recv(size - len(parts))
            except ConnectionError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)
