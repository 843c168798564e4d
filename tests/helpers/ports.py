"""Ports for servers of the tests."""

from __future__ import annotations

import socket


class HeldPort:
    """A free port of 127.0.0.1 that nothing else is given before it is released.

    The port stays bound here, without listening. A server that sets ``SO_REUSEADDR``, as servers
    do, can listen on it all the same; as an address of a connection, or as somebody else's free
    port, the kernel does not hand it out.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        # Only now: a port that is free for sure, and can then be shared.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Let go of it; does nothing the second time."""
        self._socket.close()
