"""docling-jobkit's call to submit a task, mapped to ours."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.targets import InBodyTarget
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.chunking import ChunkingExportOptions
from docling_jobkit.datamodel.task import Task
from docling_jobkit.orchestrators.base_orchestrator import BaseOrchestrator
from pydantic import BaseModel

from docling_serve.engines.base import DEFAULT_TENANT, Submission, TaskView


class TakesSubmissions(BaseOrchestrator):
    """Base of every engine: callers of jobkit's ``enqueue`` reach our ``submit``."""

    @abstractmethod
    async def submit(self, submission: Submission) -> TaskView:
        """Accept a task."""

    async def enqueue(
        self,
        sources: list[Any],
        target: Any = None,
        task_type: TaskType = TaskType.CONVERT,
        options: ConvertDocumentsOptions | None = None,
        convert_options: ConvertDocumentsOptions | None = None,
        chunking_options: Any = None,
        chunking_export_options: ChunkingExportOptions | None = None,
        callbacks: list[CallbackSpec] | None = None,
        metadata: dict[str, Any] | None = None,
        targets: list[Any] | None = None,
        target_document_version: str | None = None,
    ) -> Task:
        """jobkit's spelling of :meth:`submit`. ``metadata["tenant_id"]`` names the tenant."""
        chosen: list[BaseModel] = targets or [target or InBodyTarget()]
        export = chunking_export_options or ChunkingExportOptions()
        view = await self.submit(
            Submission(
                sources=sources,
                options=convert_options or options or ConvertDocumentsOptions(),
                targets=chosen,
                task_type=task_type,
                chunking_options=chunking_options,
                include_converted_doc=export.include_converted_doc,
                callbacks=callbacks or [],
                target_document_version=target_document_version,
                tenant=(metadata or {}).get("tenant_id", DEFAULT_TENANT),
            )
        )
        return await self.get_raw_task(view.task_id)
