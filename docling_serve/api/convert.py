"""Convert documents: uploads or sources, answered at once or as a task."""

from __future__ import annotations

from typing import Annotated, Any

from docling.datamodel.service.requests import ConvertSourcesRequest
from docling.datamodel.service.responses import (
    ConvertDocumentResponse,
    PresignedUrlConvertDocumentResponse,
    PresignedUrlConvertResponse,
)
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from docling_serve.api import submissions, task_flow
from docling_serve.api.dependencies import (
    DocumentVersionHeader,
    IdempotencyKey,
    RequireApiKey,
    ServicesDep,
    Tenant,
    services_of,
)
from docling_serve.api.forms import (
    CALLBACKS,
    CONVERT_OPTIONS,
    FILES,
    TARGET_TYPE,
    MultipartForm,
    form_body,
)
from docling_serve.api.json_body import JsonRoute
from docling_serve.api.task_models import TaskStatusResponse
from docling_serve.engines.base import Submission

router = APIRouter(
    prefix="/v1/convert", tags=["convert"], dependencies=[RequireApiKey], route_class=JsonRoute
)

_CONVERTED: dict[str, Any] = {
    "response_model": ConvertDocumentResponse
    | PresignedUrlConvertDocumentResponse
    | PresignedUrlConvertResponse,
    "responses": {200: {"content": {"application/zip": {}}}},
}


_FORM = MultipartForm(FILES, CONVERT_OPTIONS, TARGET_TYPE, CALLBACKS)
_FILE_BODY = "Body_process_file_v1_convert_file_post"
_ASYNC_FILE_BODY = "Body_process_file_async_v1_convert_file_async_post"
#: The forms of these routes by the names of their schemas.
FORMS = {_FILE_BODY: _FORM, _ASYNC_FILE_BODY: _FORM}


async def _of_sources(
    services: ServicesDep,
    tenant: Tenant,
    conversion_request: ConvertSourcesRequest,
    version: DocumentVersionHeader = None,
) -> Submission:
    return await submissions.convert_sources(services, conversion_request, tenant, version)


async def _of_files(
    tenant: Tenant, request: Request, version: DocumentVersionHeader = None
) -> Submission:
    sent = await _FORM.read(request)
    return await submissions.convert_files(
        services_of(request),
        sent[FILES],
        sent[CONVERT_OPTIONS],
        sent[TARGET_TYPE],
        sent[CALLBACKS],
        tenant,
        version,
    )


OfSources = Annotated[Submission, Depends(_of_sources)]
OfFiles = Annotated[Submission, Depends(_of_files)]


@router.post("/source", **_CONVERTED)
async def process_url(
    services: ServicesDep, request: Request, submission: OfSources, key: IdempotencyKey = None
) -> Response:
    """Convert documents given by address or as base64, and answer with the result."""
    return await task_flow.submit_and_wait(services, submission, request, key)


@router.post("/file", openapi_extra=form_body(_FILE_BODY), **_CONVERTED)
async def process_file(
    services: ServicesDep, request: Request, submission: OfFiles, key: IdempotencyKey = None
) -> Response:
    """Convert uploaded files, and answer with the result."""
    return await task_flow.submit_and_wait(services, submission, request, key)


@router.post("/source/async")
async def process_url_async(
    services: ServicesDep, response: Response, submission: OfSources, key: IdempotencyKey = None
) -> TaskStatusResponse:
    """Accept documents given by address or as base64 as a task."""
    return await task_flow.submit_async(services, submission, key, response)


@router.post("/file/async", openapi_extra=form_body(_ASYNC_FILE_BODY))
async def process_file_async(
    services: ServicesDep, response: Response, submission: OfFiles, key: IdempotencyKey = None
) -> TaskStatusResponse:
    """Accept uploaded files as a task."""
    return await task_flow.submit_async(services, submission, key, response)
