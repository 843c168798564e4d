"""Free what the server holds: converters, results (upstream K93)."""

from __future__ import annotations

from typing import Annotated

from docling.datamodel.service.responses import ClearResponse
from fastapi import APIRouter, Query

from docling_serve.api.dependencies import RequireApiKey, ServicesDep, Tenant

#: Longer than any task is kept, and short enough to count back from now.
_LONG_AGO_S = 10 * 365 * 24 * 3600.0

router = APIRouter(prefix="/v1/clear", tags=["clear"], dependencies=[RequireApiKey])


@router.get("/converters")
async def clear_converters(services: ServicesDep) -> ClearResponse:
    """Free loaded models: workers that hold some exit, busy ones after their task."""
    await services.engine.clear_converters()
    return ClearResponse()


@router.get("/results")
async def clear_results(
    services: ServicesDep,
    tenant: Tenant,
    older_then: Annotated[float, Query(allow_inf_nan=False)] = 3600,
) -> ClearResponse:
    """Remove the caller's tasks that finished more than ``older_then`` seconds ago, with their
    results."""
    older_than = min(max(older_then, 0.0), _LONG_AGO_S)
    await services.engine.clear_results(older_than, tenant)
    return ClearResponse()
