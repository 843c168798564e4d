"""An event loop next to the main thread, which RQ occupies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_STOP_WITHIN_S = 5.0


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tasks", daemon=True)

    def start(self) -> None:
        """Run the loop."""
        self._thread.start()

    def begin(self, work: Awaitable[T]) -> Future[T]:
        """Start ``work``."""
        return asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)

    def wait(self, work: Awaitable[T]) -> T:
        """Start ``work`` and wait until it finishes."""
        return self.begin(work).result()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call ``function`` in the loop, soon."""
        with suppress(RuntimeError):  # it is closed: nothing runs any more
            self._loop.call_soon_threadsafe(function, *arguments)

    def later(self, delay_s: float, function: Callable[..., Any], *arguments: Any) -> None:
        """Call ``function`` after a delay. To be called in the loop."""
        self._loop.call_later(delay_s, function, *arguments)

    def stop(self) -> None:
        """Stop the loop; what still runs in it is abandoned."""
        self.call(self._loop.stop)
        self._thread.join(_STOP_WITHIN_S)
        if not self._thread.is_alive():
            self._loop.close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work
