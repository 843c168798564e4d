"""Convert documents and cut them into chunks: the same four routes for every chunker.

Annotations are objects in this module, not text: FastAPI could not look up the types of routes
that are made in a function.
"""

from typing import Annotated, Any

from docling.datamodel.service.chunking import (
    BaseChunkerOptions,
    HierarchicalChunkerOptions,
    HybridChunkerOptions,
)
from docling.datamodel.service.requests import GenericChunkDocumentsRequest, make_request_model
from docling.datamodel.service.responses import ChunkDocumentResponse
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from docling_serve.api import submissions, task_flow
from docling_serve.api.dependencies import IdempotencyKey, RequireApiKey, ServicesDep, Tenant
from docling_serve.api.forms import (
    CallbacksForm,
    ChunkConvertOptionsForm,
    FilesForm,
    HierarchicalChunkingForm,
    HybridChunkingForm,
    IncludeConvertedDocForm,
    TargetTypeForm,
)
from docling_serve.api.json_body import JsonRoute
from docling_serve.api.task_models import TaskStatusResponse
from docling_serve.engines.base import Submission

router = APIRouter(
    prefix="/v1/chunk", tags=["chunk"], dependencies=[RequireApiKey], route_class=JsonRoute
)

_CHUNKED: dict[str, Any] = {
    "response_model": ChunkDocumentResponse,
    "responses": {200: {"content": {"application/zip": {}}}},
}


def _of_sources(body: type[GenericChunkDocumentsRequest[Any]]) -> Any:
    """A dependency that reads the JSON request ``body``."""

    async def read(
        services: ServicesDep,
        tenant: Tenant,
        request: body,  # type: ignore[valid-type]
    ) -> Submission:
        return await submissions.chunk_sources(services, request, tenant)

    return Annotated[Submission, Depends(read)]


def _of_files(chunking_form: Any) -> Any:
    """A dependency that reads a multipart request with the chunker's options as a form."""

    async def read(
        services: ServicesDep,
        tenant: Tenant,
        files: FilesForm,
        options: ChunkConvertOptionsForm,
        chunking: chunking_form,
        target_type: TargetTypeForm,
        callbacks: CallbacksForm,
        include_converted_doc: IncludeConvertedDocForm = False,
    ) -> Submission:
        return submissions.chunk_files(
            services,
            files,
            options,
            chunking,
            target_type,
            include_converted_doc,
            callbacks,
            tenant,
        )

    return Annotated[Submission, Depends(read)]


def _add_routes(chunker: str, options: type[BaseChunkerOptions], chunking_form: Any) -> None:
    """The four routes of one chunker; their names make the operation ids that clients know."""
    readers = {"source": _of_sources(make_request_model(options)), "file": _of_files(chunking_form)}
    for origin, submission_of in readers.items():
        name = f"Chunk {origin}s with {chunker.capitalize()}Chunker"

        @router.post(f"/{chunker}/{origin}", name=name, **_CHUNKED)
        async def chunk(
            services: ServicesDep,
            request: Request,
            submission: submission_of,  # type: ignore[valid-type]
            key: IdempotencyKey = None,
        ) -> Response:
            """Convert documents, cut them into chunks, and answer with the result."""
            return await task_flow.submit_and_wait(services, submission, request, key)

        @router.post(f"/{chunker}/{origin}/async", name=f"{name} as async task")
        async def chunk_async(
            services: ServicesDep,
            submission: submission_of,  # type: ignore[valid-type]
            key: IdempotencyKey = None,
        ) -> TaskStatusResponse:
            """Accept documents to convert and cut into chunks as a task."""
            return await task_flow.submit_async(services, submission, key)


_add_routes("hybrid", HybridChunkerOptions, HybridChunkingForm)
_add_routes("hierarchical", HierarchicalChunkerOptions, HierarchicalChunkingForm)
