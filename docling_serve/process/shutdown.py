"""Start the shutdown at the signal.

uvicorn runs the end of the lifespan only after all requests have finished, and skips it on a second
Ctrl-C. So the app handles the signals itself, ahead of uvicorn's own handlers.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Shutdown:
    """Calls ``begin`` on the event loop at the first signal. At the second it calls ``hurry``
    there, and ``at_once`` right away, which it also does at interpreter exit. ``at_once`` must not
    wait for anything."""

    def __init__(
        self,
        begin: Callable[[], None],
        at_once: Callable[[], None],
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        self._begin = begin
        self._hurry = hurry
        self.at_once = at_once
        self._signals = 0

    @property
    def hurried(self) -> bool:
        """Whether shutdown was requested more than once."""
        return self._signals > 1

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the app runs; passes every signal on to the previous handler."""
        atexit.register(self.at_once)
        if threading.current_thread() is not threading.main_thread():
            try:
                yield  # signals need the main thread; elsewhere only the lifespan's end applies
            finally:
                atexit.unregister(self.at_once)
            return
        loop = asyncio.get_running_loop()
        previous: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

        def handle(number: int, frame: FrameType | None) -> None:
            self._signals += 1
            if self._signals == 1:
                loop.call_soon_threadsafe(self._begin)
            else:
                # First in line on the loop: it must know why workers exit before it sees them exit.
                loop.call_soon_threadsafe(self._hurry)
                self.at_once()
            handler = previous[number]
            if callable(handler):
                handler(number, frame)

        for listened in _SIGNALS:
            signal.signal(listened, handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                # After a second signal, uvicorn has already restored the previous handler.
                if signal.getsignal(number) is handle:
                    signal.signal(number, handler)
            atexit.unregister(self.at_once)


@contextlib.contextmanager
def unwinding_at_sigterm() -> Iterator[None]:
    """Make SIGTERM end a command like Ctrl-C does, through its context managers, so that what it
    started ends with it. The exit status is 143, as shells report it. Main thread only."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
