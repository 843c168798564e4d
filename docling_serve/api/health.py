"""Probes and versions; none of them needs a key (upstream B10-B13)."""

from __future__ import annotations

import logging
import platform
from typing import Any

from docling.datamodel.service.responses import HealthCheckResponse, ReadinessResponse
from fastapi import APIRouter, HTTPException

from docling_serve.api.capabilities import CapabilitiesResponse, capabilities
from docling_serve.api.dependencies import ServicesDep
from docling_serve.api.services import Services
from docling_serve.observability.versions import component_versions

_log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> HealthCheckResponse:
    """The process answers."""
    return HealthCheckResponse()


@router.get("/ready")
async def readiness(services: ServicesDep) -> ReadinessResponse:
    """The server accepts tasks: 503 with the reason while it does not."""
    state = services.readiness
    if state.shutting_down:
        raise HTTPException(503, "The server is shutting down.")
    if state.models_error is not None:
        raise HTTPException(503, f"Models could not be loaded: {state.models_error}")
    if state.models_pending:
        raise HTTPException(503, "Models not yet loaded")
    _require_queue(services)
    try:
        await services.engine.check_connection()
    except Exception as exc:
        _log.warning("readiness: %s", exc)
        shown = str(exc) if services.settings.debug_error_details else "Readiness check failed"
        raise HTTPException(503, shown) from exc  # upstream B11
    return ReadinessResponse()


@router.get("/readyz", include_in_schema=False)
async def readyz(services: ServicesDep) -> ReadinessResponse:
    """Another name of /ready."""
    return await readiness(services)


@router.get("/livez", include_in_schema=False)
async def livez(services: ServicesDep) -> HealthCheckResponse:
    """The process answers and its queue is being processed."""
    _require_queue(services)
    return HealthCheckResponse()


@router.get("/api", include_in_schema=False)
async def api() -> HealthCheckResponse:
    """Another name of /health."""
    return HealthCheckResponse()


@router.get("/version")
async def version_info(services: ServicesDep) -> dict[str, Any]:
    """Versions of the server and what it is built on."""
    if not services.settings.show_version_info:
        raise HTTPException(
            403, "Forbidden. The server is configured for not showing version details."
        )
    return {
        **component_versions(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "plaform": platform.platform(),  # spelling as upstream B13
    }


capabilities_router = APIRouter(tags=["health"])


@capabilities_router.get("/v1/capabilities", name="capabilities")
async def show_capabilities(services: ServicesDep) -> CapabilitiesResponse:
    """What requests may ask for: presets, formats, targets, limits."""
    return capabilities(services.settings, services.policy)


def _require_queue(services: Services) -> None:
    if services.readiness.queue_failed:
        raise HTTPException(503, "Background queue processor is not running.")
