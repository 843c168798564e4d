"""A worker's output: passed on to the server's own log, the last lines kept for failures."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque

_KEPT_LINES = 40
#: faulthandler's list of native modules, which is longer than the rest of its output.
_NOISE = "Extension modules:"
_LINE_LIMIT = 64 * 1024


class WorkerOutput:
    """Reads one worker's standard output and error."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)

    async def follow(self, ours: socket.socket) -> None:
        """Pass on line by line until the worker, and everything it started, has closed its end."""
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        rest = b""
        try:
            while block := await self._block(reader):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._pass_on(line + b"\n")
                if len(rest) > _LINE_LIMIT:  # not a line: pass on what is there
                    self._pass_on(rest)
                    rest = b""
        finally:
            if rest:
                self._pass_on(rest)
            writer.close()

    def tail(self, lines: int = 20) -> str:
        """The last lines, oldest first."""
        kept = [line for line in self._lines if not line.startswith(_NOISE)]
        return "\n".join(kept[-lines:])

    def _pass_on(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self._lines.append(text.rstrip())
        sys.stderr.write(text)

    async def _block(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(_LINE_LIMIT)
        except ConnectionError:
            return b""


def redirect_output(theirs: socket.socket) -> None:
    """Worker side: from now on, all output, including that of native code, goes to the server."""
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor in (1, 2):
        os.dup2(theirs.fileno(), descriptor)
    theirs.close()
