"""The route where a task's runner may report progress to this server (upstream I86)."""

from __future__ import annotations

from docling.datamodel.service.callbacks import ProgressCallbackRequest, ProgressCallbackResponse
from fastapi import APIRouter

from docling_serve.api.dependencies import RequireApiKey, ServicesDep

router = APIRouter(
    prefix="/v1/callback", tags=["internal"], dependencies=[RequireApiKey], include_in_schema=False
)


@router.post("/task/progress")
async def callback_task_progress(
    services: ServicesDep, request: ProgressCallbackRequest
) -> ProgressCallbackResponse:
    """Record a task's progress."""
    await services.engine.receive_task_progress(request)
    return ProgressCallbackResponse()
