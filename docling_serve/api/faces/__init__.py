"""Other programs' APIs, answered by this server: each is off unless its setting is on.

A face only translates. Requests pass the same policy, queue, limits and key check as all others,
by :mod:`docling_serve.api.task_flow`; errors get the shape that the clients of the face read.
"""

from __future__ import annotations

from fastapi import FastAPI

from docling_serve.api.faces import external_loader, mistral, tika
from docling_serve.settings import DoclingServeSettings


def add_faces(app: FastAPI, settings: DoclingServeSettings) -> None:
    """Add the routes that ``settings`` turn on; call it before the routes of the server itself,
    because Tika's ``/version`` is also one of them."""
    if settings.enable_external_loader_api:
        app.include_router(external_loader.router)
    if settings.enable_tika_api:
        app.include_router(tika.router)
    if settings.enable_mistral_api:
        app.include_router(mistral.router)


#: What the errors of each face look like in the OpenAPI document, by its tag.
SHAPES = {"tika": tika.ERRORS, "mistral": mistral.ERRORS}

__all__ = ["SHAPES", "add_faces"]
