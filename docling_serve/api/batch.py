"""Convert documents from storages, and write the results to storages.

Annotations are objects in this module, not text: the request model is made for one deployment.
"""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Annotated, Any

from docling.datamodel.service.requests import (
    AnyHttpSourceRequest,
    AzureBlobSourceRequest,
    BatchConvertSourcesRequest,
    GoogleCloudStorageSourceRequest,
    GoogleDriveSourceRequest,
    S3SourceRequest,
)
from docling.datamodel.service.targets import (
    AzureBlobTarget,
    GoogleCloudStorageTarget,
    GoogleDriveTarget,
    PresignedUrlTarget,
    S3Target,
)
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, create_model

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
from docling_serve.policy.connectors import ConfigModels


def _by_kind(*models: type[BaseModel]) -> dict[str, type[BaseModel]]:
    return {model.model_fields["kind"].default: model for model in models}


_SOURCES = _by_kind(
    AnyHttpSourceRequest,
    S3SourceRequest,
    AzureBlobSourceRequest,
    GoogleCloudStorageSourceRequest,
    GoogleDriveSourceRequest,
)
_TARGETS = _by_kind(
    S3Target, AzureBlobTarget, GoogleCloudStorageTarget, GoogleDriveTarget, PresignedUrlTarget
)


def make_router(policy: ServicePolicy) -> APIRouter:
    """The batch route, whose schema shows the source kinds that are open here."""
    router = APIRouter(prefix="/v1/convert", tags=["convert"], dependencies=[RequireApiKey])
    body = _request_model(policy)

    @router.post("/source/batch")
    async def process_source_batch(
        services: ServicesDep,
        tenant: Tenant,
        response: Response,
        conversion_request: body,  # type: ignore[valid-type]
        version: DocumentVersionHeader = None,
        key: IdempotencyKey = None,
    ) -> TaskStatusResponse:
        """Accept documents of storages and addresses as a task that writes to storages."""
        submission = await submissions.convert_batch(services, conversion_request, tenant, version)
        return await task_flow.submit_async(services, submission, key, response)

    return router


def _request_model(policy: ServicePolicy) -> type[BatchConvertSourcesRequest]:
    """docling's model, narrowed to the kinds that are open (upstream G76, G77), with those that the
    settings add."""
    source: Any = _union(_SOURCES, policy.more.sources, policy.source_kinds)
    target: Any = _union(_TARGETS, policy.more.targets, policy.target_kinds)
    return create_model(
        BatchConvertSourcesRequest.__name__,
        __base__=BatchConvertSourcesRequest,
        __module__=__name__,
        sources=(list[source], Field(min_length=1)),
        target=(target | None, None),
        targets=(list[target] | None, None),
    )


def _union(own: ConfigModels, more: ConfigModels, kinds: Iterable[str]) -> Any:
    """Any model of an open kind. With none open it accepts all of our own, and policy refuses
    each with a text that says so."""
    known = {**own, **more}
    models = [known[kind] for kind in known if kind in kinds] or list(own.values())
    union = reduce(or_, models)
    return Annotated[union, Field(discriminator="kind")] if len(models) > 1 else union
