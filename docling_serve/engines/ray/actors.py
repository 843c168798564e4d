"""The two kinds of actors on a Ray cluster.

The process of an actor imports this module first, and torch must be left out before docling is
imported. So everything else is imported when an actor starts to work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docling_serve.engines.ray.host_parts import Compose
    from docling_serve.settings import DoclingServeSettings


class DispatcherActor:
    """Gives tasks to task actors. ``identity`` says which settings and version it was made for;
    ``prepare`` sets up the process."""

    def __init__(
        self,
        settings: DoclingServeSettings,
        compose: Compose,
        prepare: Callable[[DoclingServeSettings], None],
        identity: str,
    ) -> None:
        self._settings = settings
        self._compose = compose
        self._prepare = prepare
        self._identity = identity
        self._dispatching: Any = None

    async def health(self) -> str:
        """Work, if this is not the case yet; returns ``identity``. Raises if it cannot work."""
        if self._dispatching is None:
            self._prepare(self._settings)
            from docling_serve.engines.ray.dispatching import Dispatching  # noqa: PLC0415

            self._dispatching = Dispatching(self._settings, self._compose, self._identity)
        self._dispatching.require_running()
        return self._identity

    async def clear(self) -> None:
        """Have all task actors free what loaded converters hold."""
        if self._dispatching is not None:
            await self._dispatching.clear()


class TaskActor:
    """Runs tasks through the gate, in a worker pool of its own."""

    def __init__(self, settings: DoclingServeSettings, compose: Compose, name: str) -> None:
        self._settings = settings
        self._compose = compose
        self._name = name
        self._host: Any = None
        self._starting = asyncio.Lock()
        self._stopped = False

    async def start(self) -> str:
        """Get ready for tasks; returns the id of the node that this is."""
        import ray  # noqa: PLC0415 - this module is imported by tests without Ray

        await self._started()
        return str(ray.get_runtime_context().get_node_id())

    async def run(self, task_id: str) -> None:
        """Run a task to its end, whatever that is; if it runs already, wait for its end."""
        await (await self._started()).run(task_id)

    async def running(self) -> list[str]:
        """The tasks that run now."""
        return list((await self._started()).running)

    async def live(self) -> None:
        """Never returns: the call fails when the actor is gone."""
        await asyncio.Event().wait()

    async def clear(self) -> None:
        """Free what loaded converters hold."""
        await (await self._started()).clear()

    async def stop(self) -> None:
        """Shut down what runs tasks, and its processes. Every later call but ``live`` raises."""
        self._stopped = True
        if self._host is not None:
            await self._host.close()

    async def _started(self) -> Any:
        if self._stopped:
            raise RuntimeError("the actor was stopped")
        async with self._starting:
            if self._host is None:
                parts = await asyncio.to_thread(self._compose, self._settings)
                from docling_serve.engines.ray.host import Host  # noqa: PLC0415

                host = Host(self._settings, parts, self._name)
                await host.start()
                self._host = host
        return self._host
