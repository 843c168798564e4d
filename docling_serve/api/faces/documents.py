"""One document as other APIs send it, and the answer to its conversion."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, cast

from docling.datamodel.service.options import ConvertDocumentsOptions
from docling_core.types.doc.base import ImageRefMode
from fastapi import HTTPException, Request, UploadFile
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from docling_serve.api import submissions, task_flow
from docling_serve.api.document_names import document_name
from docling_serve.api.services import Services
from docling_serve.engines.base import Source, Upload

Body = dict[str, Any]
"""The in-body answer of this server, as data."""

_BINARY = {"type": "string", "format": "binary"}
_ONE_FILE = {"type": "object", "properties": {"file": _BINARY}, "required": ["file"]}
RAW: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BINARY}}}
}
"""The ``openapi_extra`` of a route whose body is a document."""
FORM: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _ONE_FILE}}}
}
"""The same for a form with one file, which may have any name."""

_SPOOL_BYTES = 1024 * 1024


@asynccontextmanager
async def raw_body(request: Request) -> AsyncIterator[BinaryIO]:
    """The body of ``request`` as a file, in memory while it is small.

    Raises:
        HTTPException: 415, the body is compressed; 400, it ended early; 422, it is empty.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise HTTPException(415, f"Content-Encoding {encoding} is not supported; send the document")
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
        file = UploadFile(cast(BinaryIO, spool))
        try:
            async for piece in request.stream():
                await file.write(piece)
        except ClientDisconnect as exc:
            raise HTTPException(400, "The request body is incomplete.") from exc
        if not file.file.tell():
            raise HTTPException(422, "The body is empty; send a document.")
        await file.seek(0)
        yield file.file


@asynccontextmanager
async def form_file(request: Request) -> AsyncIterator[UploadFile]:
    """The one file of a multipart request, whatever its field is called.

    Raises:
        HTTPException: 400, the body is no form; 422, there is no file in it, or more than one.
    """
    async with request.form() as form:
        files = [value for _, value in form.multi_items() if not isinstance(value, str)]
        if len(files) != 1:
            raise HTTPException(422, f"The form must have one file; it has {len(files)}.")
        yield cast(UploadFile, files[0])


async def answer(
    services: Services,
    request: Request,
    source: Source,
    options: ConvertDocumentsOptions,
    tenant: str,
    shape: Callable[[Body], bytes],
    media_type: str = "application/json",
) -> Response:
    """Convert one document and answer with what ``shape`` makes of the result, in a thread.

    Errors are answered as on the server's own routes. A document that could not be converted is
    answered with 422, since this API has no field for its failure.

    Raises:
        HTTPException, TaskNotFoundError: as :mod:`docling_serve.api.task_flow` does.
    """
    submission = await submissions.convert_document(services, source, options, tenant)
    view = await task_flow.submit_and_finish(services, submission, request, key=None)
    if isinstance(view, Response):
        return view

    def shaped(body: bytes) -> bytes:
        result: Body = json.loads(body)
        if result["status"] not in ("success", "partial_success"):
            reasons = [error["error_message"] for error in result["errors"]]
            raise HTTPException(422, "; ".join(reasons) or "The document could not be converted.")
        return shape(result)

    read = await task_flow.read_result(services, view, tenant)
    headers = task_flow.result_headers(view)
    background = task_flow.fetched(services, view.task_id)
    try:
        content = await asyncio.to_thread(shaped, read)
    except Exception:
        await background()
        raise
    return Response(content, headers=headers, media_type=media_type, background=background)


def options_for(services: Services, *formats: str, **options: Any) -> ConvertDocumentsOptions:
    """Options that request ``formats``, without images where the deployment allows that."""
    if ImageRefMode.PLACEHOLDER in services.policy.image_export_modes():
        options["image_export_mode"] = ImageRefMode.PLACEHOLDER
    return ConvertDocumentsOptions.model_validate({"to_formats": list(formats), **options})


def upload_of(file: BinaryIO, name: str | None, content_type: str | None) -> Upload:
    """``file`` as a source, with a name that shows its format."""
    return Upload(document_name(name, content_type), file)


def dumped(content: Any) -> bytes:
    """JSON as this server writes it."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
