"""Convert documents and split them into chunks: the same four routes for every chunker.

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
    CALLBACKS,
    CHUNK_CONVERT_OPTIONS,
    FILES,
    HIERARCHICAL_CHUNKING,
    HYBRID_CHUNKING,
    INCLUDE_CONVERTED_DOC,
    TARGET_TYPE,
    MultipartForm,
    Part,
    form_body,
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


def _of_files(form: MultipartForm, chunking: Part[Any]) -> Any:
    """A dependency that reads a multipart request with the chunker's options in ``form``."""

    async def read(services: ServicesDep, tenant: Tenant, request: Request) -> Submission:
        sent = await form.read(request)
        return await submissions.chunk_files(
            services,
            sent[FILES],
            sent[CHUNK_CONVERT_OPTIONS],
            sent[chunking],
            sent[TARGET_TYPE],
            sent[INCLUDE_CONVERTED_DOC],
            sent[CALLBACKS],
            tenant,
        )

    return Annotated[Submission, Depends(read)]


#: The forms of these routes by the names of their schemas.
FORMS: dict[str, MultipartForm] = {}


def _add_routes(
    chunker: str, options: type[BaseChunkerOptions], chunking: Part[BaseChunkerOptions]
) -> None:
    """The four routes of one chunker; their names make the operation ids that clients know."""
    form = MultipartForm(
        FILES, CHUNK_CONVERT_OPTIONS, chunking, TARGET_TYPE, CALLBACKS, INCLUDE_CONVERTED_DOC
    )
    readers = {
        "source": _of_sources(make_request_model(options)),
        "file": _of_files(form, chunking),
    }
    for origin, submission_of in readers.items():
        name = f"Chunk {origin}s with {chunker.capitalize()}Chunker"
        at_once, later = ({}, {}) if origin == "source" else _described(form, chunker, name)

        @router.post(f"/{chunker}/{origin}", name=name, **at_once, **_CHUNKED)
        async def chunk(
            services: ServicesDep,
            request: Request,
            submission: submission_of,  # type: ignore[valid-type]
            key: IdempotencyKey = None,
        ) -> Response:
            """Convert documents, split them into chunks, and answer with the result."""
            return await task_flow.submit_and_wait(services, submission, request, key)

        @router.post(f"/{chunker}/{origin}/async", name=f"{name} as async task", **later)
        async def chunk_async(
            services: ServicesDep,
            response: Response,
            submission: submission_of,  # type: ignore[valid-type]
            key: IdempotencyKey = None,
        ) -> TaskStatusResponse:
            """Accept documents to convert and split into chunks as a task."""
            return await task_flow.submit_async(services, submission, key, response)


def _described(
    form: MultipartForm, chunker: str, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the two routes of a form describe it: the synchronous one and the asynchronous one."""
    words = name.replace(" ", "_")
    names = (
        f"Body_{words}_v1_chunk_{chunker}_file_post",
        f"Body_{words}_as_async_task_v1_chunk_{chunker}_file_async_post",
    )
    FORMS.update(dict.fromkeys(names, form))
    at_once, later = ({"openapi_extra": form_body(each)} for each in names)
    return at_once, later


_add_routes("hybrid", HybridChunkerOptions, HYBRID_CHUNKING)
_add_routes("hierarchical", HierarchicalChunkerOptions, HIERARCHICAL_CHUNKING)
