"""Actors that are coroutines of the test, where a Ray cluster would have processes."""

from __future__ import annotations

import asyncio

from docling_serve.engines.ray.dispatcher import HostLost


class StandInHosts:
    """Runs no task: it is asked to, and the test says what happens."""

    def __init__(self, *existing: str) -> None:
        self.alive: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, dict[str, asyncio.Future[None]]] = {}
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.cleared: list[str] = []
        #: In the order in which they were handed over.
        self.handed: list[str] = []
        self.fails_to_start = 0
        self.start_error: Exception = RuntimeError("no such module")
        for name in existing:
            self.come(name)

    # ---- what the dispatcher calls ----------------------------------------------------------

    async def existing(self) -> list[str]:
        return list(self.alive)

    async def start(self, name: str) -> None:
        self.started.append(name)
        if self.fails_to_start:
            self.fails_to_start -= 1
            raise self.start_error
        self.come(name)

    async def running(self, name: str) -> list[str]:
        return list(self._of(name))

    async def run(self, name: str, task_id: str) -> None:
        end = self._of(name).get(task_id)
        if end is None:
            end = self._of(name)[task_id] = asyncio.get_running_loop().create_future()
            self.handed.append(task_id)
        await asyncio.shield(end)

    async def gone(self, name: str) -> None:
        await self.alive[name].wait()

    async def clear(self, name: str) -> None:
        self.cleared.append(name)

    async def stop(self, name: str) -> None:
        self.stopped.append(name)
        self.lose(name)

    # ---- what the test does -----------------------------------------------------------------

    def has(self, task_id: str) -> str:
        """The actor that has the task."""
        (name,) = [name for name, tasks in self.tasks.items() if task_id in tasks]
        return name

    def end(self, task_id: str) -> None:
        """The task has come to its end."""
        self._of(self.has(task_id)).pop(task_id).set_result(None)

    def lose(self, name: str) -> None:
        """The actor is gone, and with it what it ran."""
        for end in self.tasks.pop(name).values():
            end.set_exception(HostLost(name))
        self.alive.pop(name).set()

    def come(self, name: str) -> None:
        """There is such an actor."""
        self.alive[name] = asyncio.Event()
        self.tasks[name] = {}

    def _of(self, name: str) -> dict[str, asyncio.Future[None]]:
        if name not in self.tasks:
            raise HostLost(name)
        return self.tasks[name]
