"""Connections that cannot be held open or filled indefinitely.

uvicorn reads a header of any length (its limit is for its other parser, h11), waits for a request
as long as the client likes, and has no time-out for the TLS shutdown. This subclass of its
httptools protocol adds all three, and lets a client read an answer that came before the end of its
body. Read from uvicorn 0.54; ``tests/unit/internals/test_uvicorn_connections.py`` guards it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

import docling_serve.settings as shared
from docling_serve.settings.limits import ConnectionLimits

_log = logging.getLogger(__name__)

#: How long a client may take to answer the server's TLS shutdown when the server exits.
_GOODBYE_S = 2.0
#: What may still arrive of a body after the answer. A socket that is closed with unread bytes
#: resets the connection, and the client, or a proxy in front of it, loses the answer
#: (RFC 9112, 9.6).
_LINGER_S = 5.0
_LINGER_BYTES = 64 * 1024 * 1024


class _LateClosing:
    """A transport as a response sees it: closing it is left to the connection."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedConnection(HttpToolsProtocol):
    """One connection, with limits on the size of a header, on how long it takes, and on how slowly
    a body may arrive or a response may be read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Bytes since the parser last consumed some.
        self._held = 0
        self._body_bytes = 0
        self._body_since = 0.0
        self._clock: asyncio.TimerHandle | None = None
        self._write_clock: asyncio.TimerHandle | None = None
        self._ending = False
        self._body_whole = True
        self._lingers = False

    @cached_property
    def limits(self) -> ConnectionLimits:
        """The limits from the settings of this process."""
        return shared.docling_serve_settings

    # ---- what uvicorn and its parser call -------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._clock is None and self._is_idle:
            self._await_head()
        view = memoryview(data)
        while view and not self.transport.is_closing():
            piece = view[: self.limits.max_header_size + 1 - self._held]
            self._held += len(piece)
            super().data_received(piece)  # type: ignore[arg-type]
            if self._held > self.limits.max_header_size:
                self._refuse(431, "The header of the request is too large (max_header_size).")
            if self.transport.get_protocol() is not self:
                self._stop_clock()  # it is a websocket now
                return
            view = view[len(piece) :]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_clock()
        self._held = 0
        self._body_whole = False
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # else it becomes a websocket
            self.cycle.transport = _LateClosing(  # type: ignore[assignment]
                self.transport, self._close
            )
        self._body_bytes = 0
        self._body_since = self.loop.time()
        self._watch_body()

    def on_body(self, body: bytes) -> None:
        self._held = 0
        self._body_bytes += len(body)
        super().on_body(body)
        if self._lingers and self._body_bytes > _LINGER_BYTES:
            self.transport.close()

    def on_message_complete(self) -> None:
        self._stop_clock()
        self._held = 0
        self._body_whole = True
        super().on_message_complete()
        if self._lingers:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._ending:
            self._hang_up_soon()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.limits.body_timeout:
            self._write_clock = self.loop.call_later(self.limits.body_timeout, self._not_taken)

    def resume_writing(self) -> None:
        if self._write_clock is not None:
            self._write_clock.cancel()
            self._write_clock = None
        super().resume_writing()

    def shutdown(self) -> None:
        self._ending = True
        super().shutdown()
        if self._is_idle:
            self._hang_up_soon()

    # ---- limits ---------------------------------------------------------------------------------

    @property
    def _is_idle(self) -> bool:
        """Whether no request of this connection is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        """From now on, a request header has to arrive within its time."""
        self._stop_clock()
        if self.limits.header_timeout:
            self._start_clock(self.limits.header_timeout, self._head_late)

    def _head_late(self) -> None:
        if self._is_idle:
            self._refuse(408, "The header of the request did not arrive in time (header_timeout).")
        else:
            self.cycle.keep_alive = False  # the answer under way is the last one

    def _watch_body(self) -> None:
        """Check the body again when its time is up, which is later the more of it has arrived."""
        if self.limits.body_timeout:
            since = self.loop.time() - self._body_since
            allowed = self.limits.body_timeout + self._body_bytes / self.limits.min_body_rate
            self._start_clock(max(allowed - since, 0.0), self._look_at_body)

    def _look_at_body(self) -> None:
        if self.flow.read_paused:  # the server itself is not reading
            self._body_since = self.loop.time()
            self._body_bytes = 0
        since = self.loop.time() - self._body_since
        if since < self.limits.body_timeout + self._body_bytes / self.limits.min_body_rate:
            self._watch_body()
        elif self._is_idle:  # it has its response; the rest of the body is useless
            self.transport.close()
        else:
            self._refuse(408, "The body of the request arrived too slowly (min_body_rate).")

    def _close(self) -> None:
        """Close the connection after its last answer, once the body has arrived, or enough of it
        to let the client finish sending and read the answer."""
        if self._body_whole:
            self.transport.close()
            return
        self._lingers, self._body_bytes = True, 0
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._start_clock(_LINGER_S, self.transport.close)

    def _not_taken(self) -> None:
        _log.info("%s: it does not read its answer (body_timeout)", self.client)
        self.transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        """Respond if no response has started yet, and close the connection."""
        _log.info("%s: %d %s", self.client, status, detail)
        self._stop_clock()
        if self._is_idle or not self.cycle.response_started:
            body = f'{{"detail":"{detail}"}}'.encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            head += "connection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
        self._hang_up_soon()

    def _hang_up_soon(self) -> None:
        """Close the connection once everything is sent, even if the client does not. ``close``
        alone waits 30 s for the other side's TLS shutdown."""
        if not self.transport.is_closing():
            return
        self.loop.call_later(_GOODBYE_S, self._hang_up)

    def _hang_up(self) -> None:
        if self.transport.get_write_buffer_size() == 0:
            self.transport.abort()

    # ---- its clock ------------------------------------------------------------------------------

    def _start_clock(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(seconds, then)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
