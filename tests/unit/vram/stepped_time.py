"""A clock that only a test moves, for code that takes its sleep and its clock as arguments."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Turns of the event loop in which everything that can go on without time has gone on.
_SETTLED = 10


class SteppedTime:
    """``sleep`` and, when called, the clock. Time goes on to the next sleeper's end, or the next
    planned action, as soon as no reading is under way and nothing else can go on. While
    ``outside`` isn't zero, something else is waited for, such as a neighbour's answer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.outside = 0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._actions: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, future))
        await future

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have ``action`` called so many seconds from now; from any thread."""
        self._actions.append((self.now + seconds, action))

    async def until(self, condition: Callable[[], bool], within_s: float = 1000.0) -> None:
        """Let time pass until ``condition``; fails when more than ``within_s`` would be needed."""
        end = self.now + within_s
        while not await self._settled(condition):
            self._step(end)

    async def drive(self, work: Coroutine[Any, Any, T], within_s: float = 1000.0) -> T:
        """Let time pass until ``work`` ends, and return its result."""
        task = asyncio.ensure_future(work)
        await self.until(task.done, within_s)
        return task.result()

    async def pass_by(self, seconds: float) -> None:
        """Let so many seconds pass."""
        await self.drive(self.sleep(seconds))

    async def _settled(self, condition: Callable[[], bool]) -> bool:
        turns = 0
        while turns < _SETTLED:
            if condition():
                return True
            await asyncio.sleep(0)
            reading = any(thread.name == "gpu-reading" for thread in threading.enumerate())
            turns = 0 if reading or self.outside else turns + 1
        return condition()

    def _step(self, end: float) -> None:
        self._sleepers = [each for each in self._sleepers if not each[1].done()]
        times = [when for when, _ in (*self._sleepers, *self._actions)]
        assert times, "nothing can go on, and nobody sleeps"
        self.now = max(self.now, min(times))
        assert self.now <= end, f"nothing came of it by {self.now} s"
        due = [action for when, action in self._actions if when <= self.now]
        self._actions = [each for each in self._actions if each[0] > self.now]
        for action in due:
            action()
        for when, future in self._sleepers:
            if when <= self.now and not future.done():
                future.set_result(None)
