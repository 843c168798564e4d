"""The collaborators of the routes, created once by the app."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from docling_jobkit.orchestrators.base_orchestrator import OrchestratorError

from docling_serve.api.uploaded_files import UploadedFiles
from docling_serve.engines.base import Capacity, TaskEngine
from docling_serve.observability.load import GpuMemory
from docling_serve.policy import ServicePolicy
from docling_serve.settings import DoclingServeSettings


@dataclass
class Readiness:
    """What the health probes read."""

    models_pending: bool = False
    models_error: str | None = None
    queue_failed: bool = False
    shutting_down: bool = False


@dataclass
class Services:
    """The collaborators of every route."""

    settings: DoclingServeSettings
    policy: ServicePolicy
    engine: TaskEngine
    files: UploadedFiles
    readiness: Readiness = field(default_factory=Readiness)
    #: The worker pool as plain data; None where tasks do not run in worker processes.
    describe_workers: Callable[[], dict[str, Any]] | None = None
    #: Whether these are processes of this server, and not of other hosts.
    workers_here: bool = True
    #: The memory of the GPUs that workers may use; None where there are no workers.
    read_gpus: Callable[[], Awaitable[Sequence[GpuMemory]]] | None = None
    #: Ends a worker by its number; False if there is none.
    stop_worker: Callable[[int], bool] | None = None
    #: How many tasks finished in this process: ``success``, or the category of their failure; and
    #: how many ``documents_failed`` in successful tasks.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: Set when the server ends its streams: none of their tasks will finish here any more.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def waiting(self) -> int:
        """How many tasks wait in the queue; 0 where the queue is out of reach, since those who ask
        watch the workers too."""
        try:
            return await self.engine.queue_size()
        except OrchestratorError:
            return 0

    async def capacity(self, tenant: str) -> Capacity | None:
        """The load, as a next task of ``tenant`` would find it; None where that is unknown, or out
        of reach."""
        try:
            return await self.engine.capacity(tenant)
        except OrchestratorError:
            return None
