"""The methods that docling-jobkit's orchestrator interface has beyond ours, mapped to ours."""

from __future__ import annotations

from docling.datamodel.service.callbacks import ProgressCallbackRequest
from docling_jobkit.datamodel.result import DoclingTaskResult

from docling_serve.engines.takes_submissions import TakesSubmissions


class JobkitInterface(TakesSubmissions):
    """Base of an engine whose tasks run in this process and whose results are files."""

    async def task_result(self, task_id: str) -> DoclingTaskResult | None:
        """Always None: results of such an engine are files, see ``TaskEngine.reply``."""
        await self.get_raw_task(task_id)
        return None

    async def receive_task_progress(self, request: ProgressCallbackRequest) -> None:
        """Does nothing: such an engine's tasks run here, and the runner reports their progress."""
        await self.get_raw_task(request.task_id)

    async def warm_up_caches(self) -> None:
        """Does nothing: the runner decides what is loaded, and when."""

    async def check_connection(self) -> None:
        """Never fails: there is nothing to connect to (upstream B11)."""
