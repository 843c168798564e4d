"""Put the routes, the middleware and the error table together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from docling_serve.api import (
    batch,
    callback,
    chunk,
    clear,
    convert,
    error_handlers,
    health,
    management,
    tasks,
    websocket,
)
from docling_serve.api.openapi import describe_with
from docling_serve.policy import ServicePolicy
from docling_serve.settings import DoclingServeSettings
from docling_serve.versions import component_versions

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
"""Must put :class:`docling_serve.api.services.Services` into ``app.state.services``."""


def make_app(settings: DoclingServeSettings, policy: ServicePolicy, lifespan: Lifespan) -> FastAPI:
    """The app with everything that ``settings`` open; what they close is not there at all."""
    app = FastAPI(
        title="Docling Serve",
        version=component_versions()["docling-serve"],
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.enable_api_docs else None,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        # A key travels in a header, not in a cookie, so any-origin needs no credentials.
        allow_credentials="*" not in settings.cors_origins,
        allow_methods=settings.cors_methods,
        allow_headers=settings.cors_headers,
    )
    app.include_router(health.router)
    if settings.enable_capabilities_endpoint:
        app.include_router(health.capabilities_router)
    app.include_router(batch.make_router(policy))
    for module in (convert, chunk, tasks, callback, clear, management, websocket):
        app.include_router(module.router)
    error_handlers.install(app)
    app.openapi = describe_with(app, settings, policy)  # type: ignore[method-assign]
    return app
