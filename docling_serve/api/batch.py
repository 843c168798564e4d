"""Convert what storages hold, into storages.

Annotations are objects in this module, not text: the request model is made for one deployment.
"""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from docling.datamodel.service.requests import (
    AnyHttpSourceRequest,
    AzureBlobSourceRequest,
    BatchConvertSourcesRequest,
    GoogleCloudStorageSourceRequest,
    GoogleDriveSourceRequest,
    KnownBatchTargetRequest,
    S3SourceRequest,
)
from fastapi import APIRouter
from pydantic import Field, create_model

from docling_serve.api import submissions, task_flow
from docling_serve.api.dependencies import (
    DocumentVersionHeader,
    IdempotencyKey,
    RequireApiKey,
    ServicesDep,
    Tenant,
)
from docling_serve.api.task_models import TaskStatusResponse
from docling_serve.policy import ServicePolicy

_SOURCES: dict[str, Any] = {
    "http": AnyHttpSourceRequest,
    "s3": S3SourceRequest,
    "azure_blob": AzureBlobSourceRequest,
    "google_cloud_storage": GoogleCloudStorageSourceRequest,
    "google_drive": GoogleDriveSourceRequest,
}


def make_router(policy: ServicePolicy) -> APIRouter:
    """The batch route, whose schema shows the source kinds that are open here."""
    router = APIRouter(prefix="/v1/convert", tags=["convert"], dependencies=[RequireApiKey])
    body = _request_model(policy)

    @router.post("/source/batch")
    async def process_source_batch(
        services: ServicesDep,
        tenant: Tenant,
        conversion_request: body,  # type: ignore[valid-type]
        version: DocumentVersionHeader = None,
        key: IdempotencyKey = None,
    ) -> TaskStatusResponse:
        """Accept documents of storages and addresses as a task that writes to storages."""
        submission = submissions.convert_batch(services, conversion_request, tenant, version)
        return await task_flow.submit_async(services, submission, key)

    return router


def _request_model(policy: ServicePolicy) -> type[BatchConvertSourcesRequest]:
    """docling's model, narrowed to the kinds that are open (upstream G76, G77)."""
    # With none open, all are shown, and policy refuses each with a text that says so.
    kinds = [kind for kind in _SOURCES if kind in policy.source_kinds] or list(_SOURCES)
    union = reduce(or_, (_SOURCES[kind] for kind in kinds))
    source = Annotated[union, Field(discriminator="kind")] if len(kinds) > 1 else union
    return create_model(
        BatchConvertSourcesRequest.__name__,
        __base__=BatchConvertSourcesRequest,
        __module__=__name__,
        sources=(list[source], Field(min_length=1)),  # type: ignore[valid-type]
        target=(KnownBatchTargetRequest | None, None),
        targets=(list[KnownBatchTargetRequest] | None, None),
    )
