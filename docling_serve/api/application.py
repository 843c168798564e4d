"""Put the routes, the middleware and the error table together."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from docling_serve.api import (
    batch,
    callback,
    chunk,
    clear,
    convert,
    docs_pages,
    error_handlers,
    events,
    health,
    management,
    metrics,
    operations,
    tasks,
    ui,
    websocket,
)
from docling_serve.api.answer_headers import AnswerHeaders
from docling_serve.api.body_limits import BodyLimits
from docling_serve.api.cors import PagesElsewhere
from docling_serve.api.dependencies import brings_key
from docling_serve.api.faces import add_faces
from docling_serve.api.openapi import describe_with
from docling_serve.observability.request_fields import RequestFields
from docling_serve.observability.telemetry import Telemetry
from docling_serve.observability.versions import component_versions
from docling_serve.policy import ServicePolicy
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
"""Must put :class:`docling_serve.api.services.Services` into ``app.state.services``."""


def make_app(settings: DoclingServeSettings, policy: ServicePolicy, lifespan: Lifespan) -> FastAPI:
    """The app with the routes that ``settings`` enable; disabled routes do not exist at all.

    Raises:
        ValueError: an exporter that the settings ask for is not installed.
    """
    telemetry = Telemetry(settings)

    @asynccontextmanager
    async def measured(app: FastAPI) -> AsyncIterator[None]:
        async with (
            lifespan(app),
            metrics.measuring(app, telemetry.metrics),
            operations.sampling(app),
        ):
            yield
        await asyncio.to_thread(telemetry.close)

    app = FastAPI(
        title="Docling Serve",
        version=component_versions()["docling-serve"],
        lifespan=measured,
        openapi_url="/openapi.json" if settings.enable_api_docs else None,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(
        BodyLimits,
        settings=settings,
        brings_key=functools.partial(brings_key, settings.api_key),
    )
    if settings.log_header_prefix:
        app.add_middleware(RequestFields, prefix=settings.log_header_prefix)
    app.add_middleware(
        PagesElsewhere,
        origins=settings.cors_origins,
        methods=settings.cors_methods,
        headers=settings.cors_headers,
    )
    app.add_middleware(
        AnswerHeaders, varies_by=f"X-Api-Key, Authorization, {settings.eng_ray_tenant_id_header}"
    )
    _add_routes(app, settings, policy)
    if settings.otel_enable_prometheus:
        app.include_router(metrics.make_router(telemetry.metrics))
    error_handlers.install(app)
    telemetry.instrument(app)
    app.openapi = describe_with(app, settings, policy, {**convert.FORMS, **chunk.FORMS})  # type: ignore[method-assign]
    return app


def _add_routes(app: FastAPI, settings: DoclingServeSettings, policy: ServicePolicy) -> None:
    add_faces(app, settings)
    app.include_router(health.router)
    if settings.enable_capabilities_endpoint:
        app.include_router(health.capabilities_router)
    app.include_router(batch.make_router(policy))
    for module in (
        convert,
        chunk,
        tasks,
        events,
        callback,
        clear,
        management,
        operations,
        websocket,
    ):
        app.include_router(module.router)
    app.include_router(docs_pages.icon_router)
    if settings.enable_ui:
        app.include_router(ui.make_router())
    static = _static_folder(settings)
    if static is not None:
        app.mount("/static", StaticFiles(directory=static))
    if settings.enable_api_docs:
        app.include_router(docs_pages.make_router(app, static))


def _static_folder(settings: DoclingServeSettings) -> Path | None:
    path = settings.static_path
    if path is None or path.is_dir():
        return path
    _log.warning("static_path %s is not a folder; nothing is served at /static", path)
    return None
