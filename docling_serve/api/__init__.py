"""The REST interface: routers by tag, and what they share."""

from fastapi import FastAPI

from docling_serve.api import clear, convert, error_handlers, health, tasks

__all__ = ["install"]


def install(app: FastAPI) -> None:
    """Attach every route and the error table to ``app``."""
    for module in (health, convert, tasks, clear):
        app.include_router(module.router)
    error_handlers.install(app)
