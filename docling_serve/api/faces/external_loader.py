"""The external document loader of Open WebUI: one document in, its Markdown out.

Open WebUI sends the document as the body of ``PUT /process``, with the headers ``Content-Type``,
``X-Filename`` (quoted as in a URL) and ``Authorization: Bearer``. It reads ``page_content`` and
``metadata`` of the answer, and of an error ``detail`` (open-webui/open-webui:
backend/open_webui/retrieval/loaders/external_document.py).
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from docling_serve.api.dependencies import RequireApiKey, ServicesDep, Tenant
from docling_serve.api.faces.documents import (
    RAW,
    Body,
    answer,
    dumped,
    options_for,
    raw_body,
    upload_of,
)
from docling_serve.api.faces.errors import face_route


def _error(status: int, text: str) -> Response:
    return JSONResponse({"detail": text}, status)


router = APIRouter(
    tags=["external loader"], dependencies=[RequireApiKey], route_class=face_route(_error)
)


@router.put("/process", openapi_extra=RAW)
async def process_document(
    services: ServicesDep,
    request: Request,
    tenant: Tenant,
    filename: Annotated[str | None, Header(alias="X-Filename")] = None,
) -> Response:
    """Convert the document in the body; answers ``{"page_content", "metadata"}``."""
    content_type = request.headers.get("content-type")

    def shape(body: Body) -> bytes:
        document = body["document"]
        metadata = {"source": document["filename"]}
        if content_type:
            metadata["Content-Type"] = content_type
        return dumped({"page_content": document["md_content"] or "", "metadata": metadata})

    async with raw_body(request) as file:
        upload = upload_of(file, unquote(filename or ""), content_type)
        return await answer(services, request, upload, options_for(services, "md"), tenant, shape)
