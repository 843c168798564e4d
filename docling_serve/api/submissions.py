"""Turn validated requests into submissions, asking policy on the way.

The checks come in the order of contract: behaviour A9.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from typing import BinaryIO, cast

from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.requests import (
    ConvertSourcesRequest,
    FileSourceRequest,
    TargetName,
)
from docling.datamodel.service.targets import InBodyTarget, PresignedUrlTarget, ZipTarget
from fastapi import UploadFile
from pydantic import BaseModel

from docling_serve.api.base64_source import base64_loc, write_base64_source
from docling_serve.api.document_version import parse_document_version_header
from docling_serve.api.services import Services
from docling_serve.engines.base import Source, Submission, Upload

_TARGETS: dict[TargetName, type[BaseModel]] = {
    TargetName.INBODY: InBodyTarget,
    TargetName.ZIP: ZipTarget,
    TargetName.PRESIGNED_URL: PresignedUrlTarget,
}
#: A decoded base64 document stays in memory up to this size, then goes to disk.
_SPOOL_BYTES = 1024 * 1024


def convert_files(
    services: Services,
    files: Sequence[UploadFile],
    options: ConvertDocumentsOptions,
    target_type: TargetName | None,
    callbacks: Sequence[CallbackSpec],
    tenant: str,
    version_header: str | None,
) -> Submission:
    """The submission of a multipart request.

    Raises:
        PolicyViolation: the deployment does not allow it.
    """
    services.policy.check_source_count(len(files), "files")
    checked = services.policy.check_options(options)
    target = default_target(services) if target_type is None else _TARGETS[target_type]()
    services.policy.check_targets([target.kind])  # type: ignore[attr-defined]
    return Submission(
        sources=[Upload(file.filename or "document", file.file) for file in files],
        options=checked,
        targets=[target],
        callbacks=callbacks,
        target_document_version=parse_document_version_header(version_header),
        tenant=tenant,
    )


async def convert_sources(
    services: Services, request: ConvertSourcesRequest, tenant: str, version_header: str | None
) -> Submission:
    """The submission of a JSON request.

    Raises:
        PolicyViolation: the deployment does not allow it.
        RequestValidationError: a base64 document is not base64.
    """
    checked = services.policy.check_options(request.options)
    asked = request.target if "target" in request.model_fields_set else default_target(services)
    services.policy.check_targets([asked.kind])  # type: ignore[attr-defined]
    services.policy.check_source_count(len(request.sources), "sources")
    version = parse_document_version_header(version_header)
    return Submission(
        sources=await asyncio.to_thread(_decoded, request.sources),
        options=checked,
        targets=[asked],
        callbacks=request.callbacks,
        target_document_version=version,
        tenant=tenant,
    )


def default_target(services: Services) -> BaseModel:
    """Where results go when a request does not say."""
    settings = services.settings
    allowed = settings.allowed_target_types
    if settings.artifact_storage_enabled and (allowed is None or "presigned_url" in allowed):
        return PresignedUrlTarget()
    return InBodyTarget()


def _decoded(sources: Sequence[BaseModel]) -> list[Source]:
    decoded: list[Source] = []
    for index, source in enumerate(sources):
        if isinstance(source, FileSourceRequest):
            spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115
            write_base64_source(source.base64_string, spool, base64_loc(index))
            spool.seek(0)
            decoded.append(Upload(source.filename, spool))
        else:
            decoded.append(source)
    return decoded
