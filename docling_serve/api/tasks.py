"""The state and the result of a task."""

from __future__ import annotations

import math
from typing import Annotated

from docling.datamodel.service.responses import (
    ChunkDocumentResponse,
    ConvertDocumentResponse,
    PresignedUrlConvertDocumentResponse,
    PresignedUrlConvertResponse,
    TaskFailureResult,
)
from docling_jobkit.datamodel.task_meta import TaskStatus
from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response

from docling_serve.api import task_flow
from docling_serve.api.dependencies import RequireApiKey, ServicesDep, Tenant
from docling_serve.api.task_models import CapacityResponse, TaskListResponse, TaskStatusResponse

router = APIRouter(prefix="/v1", tags=["tasks"], dependencies=[RequireApiKey])

_MAX_WAIT_S = 3600.0
_MAX_LISTED = 1000


@router.get("/status/poll/{task_id}")
async def task_status_poll(
    services: ServicesDep,
    tenant: Tenant,
    task_id: str,
    wait: Annotated[
        float, Query(description="Seconds to wait for the task to finish before answering.")
    ] = 0.0,
) -> TaskStatusResponse:
    """Where a task stands; with ``wait``, once it has finished or the time is up."""
    seconds = 0.0 if math.isnan(wait) else min(max(wait, 0.0), _MAX_WAIT_S)
    view = await services.engine.wait_finished(task_id, tenant, seconds)
    return task_flow.status_response(view)


@router.get("/tasks")
async def list_tasks(
    services: ServicesDep,
    tenant: Tenant,
    state: Annotated[TaskStatus | None, Query(description="Only tasks in this state.")] = None,
    limit: Annotated[
        int, Query(ge=1, le=_MAX_LISTED, description="Maximum number of tasks.")
    ] = 100,
) -> TaskListResponse:
    """The tasks of the caller that the server still knows, the newest first."""
    views = await services.engine.list_tasks(tenant, state, limit)
    return TaskListResponse(tasks=[task_flow.listed(view) for view in views])


@router.get("/capacity")
async def capacity(services: ServicesDep, tenant: Tenant) -> CapacityResponse:
    """The server's load, and how long a task sent now would wait."""
    found = await services.engine.capacity(tenant)
    if found is None:
        raise HTTPException(
            404, "Tasks run in other processes, and none of them reports its workers."
        )
    return task_flow.capacity_response(found)


@router.delete("/tasks/{task_id}")
async def delete_task(services: ServicesDep, tenant: Tenant, task_id: str) -> TaskStatusResponse:
    """Forget a task: a waiting one is taken out of the queue, a running one is stopped, and of a
    finished one the result is deleted. The answer says how it ended."""
    return task_flow.status_response(await services.engine.delete(task_id, tenant))


@router.get(
    "/result/{task_id}",
    response_model=ConvertDocumentResponse
    | PresignedUrlConvertDocumentResponse
    | PresignedUrlConvertResponse
    | ChunkDocumentResponse
    | TaskFailureResult,
    responses={200: {"content": {"application/zip": {}}}},
)
async def task_result(services: ServicesDep, tenant: Tenant, task_id: str) -> Response:
    """The result of a finished task, or why it failed."""
    return await task_flow.task_result(services, task_id, tenant)
