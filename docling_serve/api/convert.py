"""Convert documents: uploads or sources, answered at once or as a task."""

from __future__ import annotations

from typing import Any

from docling.datamodel.service.requests import ConvertSourcesRequest
from docling.datamodel.service.responses import (
    ConvertDocumentResponse,
    PresignedUrlConvertDocumentResponse,
    PresignedUrlConvertResponse,
    TaskStatusResponse,
)
from fastapi import APIRouter, Request
from fastapi.responses import Response

from docling_serve.api import submissions, task_flow
from docling_serve.api.dependencies import DocumentVersionHeader, RequireApiKey, ServicesDep, Tenant
from docling_serve.api.forms import CallbacksForm, ConvertOptionsForm, FilesForm, TargetTypeForm

router = APIRouter(prefix="/v1/convert", tags=["convert"], dependencies=[RequireApiKey])

_CONVERTED: dict[str, Any] = {
    "response_model": ConvertDocumentResponse
    | PresignedUrlConvertDocumentResponse
    | PresignedUrlConvertResponse,
    "responses": {200: {"content": {"application/zip": {}}}},
}


@router.post("/source", **_CONVERTED)
async def process_url(
    services: ServicesDep,
    tenant: Tenant,
    request: Request,
    conversion_request: ConvertSourcesRequest,
    version: DocumentVersionHeader = None,
) -> Response:
    """Convert documents given by address or as base64, and answer with the result."""
    submission = await submissions.convert_sources(services, conversion_request, tenant, version)
    return await task_flow.submit_and_wait(services, submission, request)


@router.post("/file", **_CONVERTED)
async def process_file(
    services: ServicesDep,
    tenant: Tenant,
    request: Request,
    files: FilesForm,
    options: ConvertOptionsForm,
    target_type: TargetTypeForm,
    callbacks: CallbacksForm,
    version: DocumentVersionHeader = None,
) -> Response:
    """Convert uploaded files, and answer with the result."""
    submission = submissions.convert_files(
        services, files, options, target_type, callbacks, tenant, version
    )
    return await task_flow.submit_and_wait(services, submission, request)


@router.post("/source/async")
async def process_url_async(
    services: ServicesDep,
    tenant: Tenant,
    conversion_request: ConvertSourcesRequest,
    version: DocumentVersionHeader = None,
) -> TaskStatusResponse:
    """Accept documents given by address or as base64 as a task."""
    submission = await submissions.convert_sources(services, conversion_request, tenant, version)
    return await task_flow.submit_async(services, submission)


@router.post("/file/async")
async def process_file_async(
    services: ServicesDep,
    tenant: Tenant,
    files: FilesForm,
    options: ConvertOptionsForm,
    target_type: TargetTypeForm,
    callbacks: CallbacksForm,
    version: DocumentVersionHeader = None,
) -> TaskStatusResponse:
    """Accept uploaded files as a task."""
    submission = submissions.convert_files(
        services, files, options, target_type, callbacks, tenant, version
    )
    return await task_flow.submit_async(services, submission)
