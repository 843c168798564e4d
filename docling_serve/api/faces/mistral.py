"""Mistral's OCR: files are uploaded, and converted to Markdown by page.

The shapes are those of mistralai 3.7 (``client/files.py``, ``client/ocr.py``) and of what LibreChat
sends (packages/api/src/files/mistral/crud.ts): upload, ask for an address, convert what is there,
delete. The address is for ``/v1/ocr`` of this server; a download from it needs the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, BinaryIO, cast

from docling.datamodel.service.options import ConvertDocumentsOptions
from fastapi import APIRouter, Form, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, Response

from docling_serve.api.dependencies import RequireApiKey, ServicesDep, Tenant
from docling_serve.api.faces.documents import Body, answer, dumped, options_for, upload_of
from docling_serve.api.faces.errors import face_route
from docling_serve.api.faces.mistral_models import (
    DocumentUrl,
    FileObject,
    FileReference,
    KeptFileObject,
    OcrRequest,
    page_numbers,
)
from docling_serve.api.faces.pages import PAGE_BREAK, Page, split_pages
from docling_serve.api.faces.remote_documents import decoded_data_url, http_source, own_file_id
from docling_serve.api.services import Services
from docling_serve.api.task_flow import OpenFileResponse
from docling_serve.api.uploaded_files import NoSuchFile, UploadedFile
from docling_serve.engines.base import Source

#: The model name in answers; the requested one is ignored.
_MODEL = "docling"


def _error(status: int, text: str) -> Response:
    """An error as Mistral writes it. Of a 422, mistralai reads only ``detail``, as a list."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    content: dict[str, Any] = {"object": "error", "message": text, "type": kind, "code": status}
    if status == 422:
        content["detail"] = [{"loc": ["body"], "msg": text, "type": "value_error"}]
    return JSONResponse(content, status)


#: How the OpenAPI document describes an error.
ERRORS: dict[str, Any] = {
    "application/json": {
        "schema": {
            "type": "object",
            "title": "MistralError",
            "properties": {
                "object": {"const": "error"},
                "message": {"type": "string"},
                "type": {"enum": ["invalid_request_error", "server_error"]},
                "code": {"type": "integer"},
                "detail": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["object", "message", "type", "code"],
        }
    }
}

router = APIRouter(
    prefix="/v1", tags=["mistral"], dependencies=[RequireApiKey], route_class=face_route(_error)
)


def _find(services: Services, tenant: str, file_id: str) -> UploadedFile:
    try:
        return services.files.find(tenant, file_id)
    except NoSuchFile:
        raise _no_file(file_id) from None


async def _opened(kept: UploadedFile) -> BinaryIO:
    try:
        return cast(BinaryIO, await asyncio.to_thread(kept.path.open, "rb"))
    except FileNotFoundError:  # it expired, or was deleted, just now
        raise _no_file(kept.file_id) from None


def _no_file(file_id: str) -> HTTPException:
    return HTTPException(404, f"There is no file {file_id}.")


def _described(kept: UploadedFile) -> FileObject:
    return FileObject(
        id=kept.file_id,
        bytes=kept.size,
        created_at=int(kept.created),
        expires_at=None if kept.expires is None else int(kept.expires),
        filename=kept.name,
        mimetype=kept.media_type,
    )


@router.post("/files")
async def upload_file(
    services: ServicesDep, tenant: Tenant, file: UploadFile, purpose: Annotated[str, Form()] = "ocr"
) -> FileObject:
    """Keep a file for a later request."""
    if purpose != "ocr":
        raise HTTPException(422, f"Files of the purpose {purpose!r} cannot be used here, only ocr.")
    media_type = file.content_type or "application/octet-stream"
    name = file.filename or "document"
    return _described(await services.files.add(tenant, name, media_type, file.file))


@router.get("/files/{file_id}")
async def retrieve_file(services: ServicesDep, tenant: Tenant, file_id: str) -> KeptFileObject:
    """The metadata of a file."""
    described = _described(_find(services, tenant, file_id))
    return KeptFileObject(**described.model_dump())


@router.get("/files/{file_id}/url")
async def get_file_url(
    services: ServicesDep, request: Request, tenant: Tenant, file_id: str
) -> dict[str, str]:
    """The address of a file, for ``/v1/ocr``; it is valid as long as the file is kept."""
    kept = _find(services, tenant, file_id)
    return {"url": str(request.url_for("download_file", file_id=kept.file_id))}


@router.get(
    "/files/{file_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def download_file(services: ServicesDep, tenant: Tenant, file_id: str) -> FileResponse:
    """The bytes of a file, which a browser never renders as a page of this server."""
    kept = _find(services, tenant, file_id)
    return OpenFileResponse(
        await _opened(kept), media_type="application/octet-stream", filename=kept.name
    )


@router.delete("/files/{file_id}")
async def delete_file(services: ServicesDep, tenant: Tenant, file_id: str) -> dict[str, Any]:
    """Remove a file."""
    kept = _find(services, tenant, file_id)
    services.files.remove(tenant, kept.file_id)
    return {"id": kept.file_id, "object": "file", "deleted": True}


@router.post("/ocr")
async def ocr(
    services: ServicesDep, request: Request, tenant: Tenant, ocr_request: OcrRequest
) -> Response:
    """Convert a document to Markdown, page by page. Images are not part of the answer."""
    numbers = page_numbers(ocr_request.pages)
    options = _options(services, numbers)

    def shape(body: Body) -> bytes:
        document = body["document"]
        pages = split_pages(document["md_content"] or "", document["json_content"])
        if numbers is not None:
            pages = [page for page in pages if page.number in numbers]
        usage = {"pages_processed": len(pages), "doc_size_bytes": None}
        return dumped(
            {
                "pages": [_page(page) for page in pages],
                "model": _MODEL,
                "document_annotation": None,
                "usage_info": usage,
            }
        )

    async with _source(services, tenant, ocr_request) as source:
        return await answer(services, request, source, options, tenant, shape)


def _options(services: Services, numbers: set[int] | None) -> ConvertDocumentsOptions:
    asked: dict[str, Any] = {"md_page_break_placeholder": PAGE_BREAK}
    if numbers is not None:
        asked["page_range"] = (min(numbers), max(numbers))
    return options_for(services, "md", "json", **asked)


def _page(page: Page) -> dict[str, Any]:
    dimensions = None
    if page.width is not None:
        dimensions = {"dpi": page.dpi, "height": page.height, "width": page.width}
    return {
        "index": page.number - 1,
        "markdown": page.markdown,
        "images": [],
        "dimensions": dimensions,
    }


@asynccontextmanager
async def _source(services: Services, tenant: str, asked: OcrRequest) -> AsyncIterator[Source]:
    """The requested document, opened for reading if this server has it.

    Raises:
        HTTPException: 404, there is no such file; 422, the address is invalid.
    """
    document = asked.document
    if isinstance(document, FileReference):
        file_id: str | None = document.file_id
        url, name = "", None
    else:
        url = document.address
        file_id = own_file_id(url)
        name = document.document_name if isinstance(document, DocumentUrl) else None
    if file_id is not None:
        kept = _find(services, tenant, file_id)
        with await _opened(kept) as file:
            yield upload_of(file, kept.name, kept.media_type)
    elif url.startswith("data:"):
        data, media_type = await asyncio.to_thread(decoded_data_url, url)
        with data:
            yield upload_of(data, name, media_type)
    else:
        yield http_source(url)
