"""Watching one task: every state it comes to, in order, for somebody who may read slowly."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from typing_extensions import Self

if TYPE_CHECKING:
    from docling_serve.engines.base import TaskView

_UNREAD_LIMIT = 64


class Watch:
    """An async iterator over the states of a task; it ends after the one that is finished.

    Of a reader who is too slow, the oldest unread states are given up, never the newest. An
    engine tells it every state; it lives on one event loop.
    """

    def __init__(self, now: TaskView) -> None:
        self._unread = deque([now], maxlen=_UNREAD_LIMIT)
        self._latest = now
        self._told = asyncio.Event()
        self._ended = False
        self._closed = False

    @property
    def latest(self) -> TaskView:
        """The newest state, read or not."""
        return self._latest

    def tell(self, state: TaskView) -> None:
        """The task has come to ``state``."""
        self._latest = state
        self._unread.append(state)
        self._told.set()

    def repeat(self) -> None:
        """Let the reader have the newest state once more."""
        self.tell(self._latest)

    def close(self) -> None:
        """There will be no more states, though the task has not finished: the server ends."""
        self._closed = True
        self._told.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskView:
        if self._ended:
            raise StopAsyncIteration
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._told.clear()
            await self._told.wait()
        state = self._unread.popleft()
        self._ended = state.finished
        return state
