"""Turn validated requests into submissions, and check them against policy.

The checks run in the order of upstream A9. All functions raise ``PolicyViolation``
for what the deployment does not allow.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.chunking import BaseChunkerOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.requests import (
    BatchConvertSourcesRequest,
    ConvertSourcesRequest,
    FileSourceRequest,
    GenericChunkDocumentsRequest,
    TargetName,
)
from docling.datamodel.service.targets import InBodyTarget, PresignedUrlTarget, ZipTarget
from docling.datamodel.service.tasks import TaskType
from fastapi import UploadFile
from httpx import InvalidURL
from pydantic import BaseModel

from docling_serve.api.base64_source import base64_loc, write_base64_source
from docling_serve.api.document_names import upload_name
from docling_serve.api.document_version import parse_document_version_header
from docling_serve.api.services import Services
from docling_serve.callbacks.address import AddressRefused, require_allowed
from docling_serve.engines.base import Source, Submission, Upload
from docling_serve.policy import PolicyViolation

_TARGETS: dict[str, type[BaseModel]] = {
    TargetName.INBODY.value: InBodyTarget,
    TargetName.ZIP.value: ZipTarget,
    TargetName.PRESIGNED_URL.value: PresignedUrlTarget,
}
#: A decoded base64 document stays in memory up to this size, then goes to disk.
_SPOOL_BYTES = 1024 * 1024


async def convert_files(
    services: Services,
    files: Sequence[UploadFile],
    options: ConvertDocumentsOptions,
    target_type: TargetName | None,
    callbacks: Sequence[CallbackSpec],
    tenant: str,
    version_header: str | None,
) -> Submission:
    """The submission of a multipart conversion request."""
    services.policy.check_source_count(len(files), "files")
    checked = services.policy.check_options(options)
    target = _named_target(services, target_type, chunk=False)
    return Submission(
        sources=_uploads(files),
        options=checked,
        targets=[target],
        callbacks=await _allowed(services, callbacks),
        target_document_version=parse_document_version_header(version_header),
        tenant=tenant,
    )


async def convert_sources(
    services: Services, request: ConvertSourcesRequest, tenant: str, version_header: str | None
) -> Submission:
    """The submission of a JSON conversion request.

    Raises:
        RequestValidationError: a base64 document is not valid base64.
    """
    checked = services.policy.check_options(request.options)
    target = _asked_target(services, request, chunk=False)
    services.policy.check_source_count(len(request.sources), "sources")
    version = parse_document_version_header(version_header)
    return Submission(
        sources=await asyncio.to_thread(_decoded, request.sources),
        options=checked,
        targets=[target],
        callbacks=await _allowed(services, request.callbacks),
        target_document_version=version,
        tenant=tenant,
    )


async def convert_document(
    services: Services, source: Source, options: ConvertDocumentsOptions, tenant: str
) -> Submission:
    """The submission of one document whose result is returned in the body."""
    services.policy.check_source_count(1)
    checked = services.policy.check_options(options)
    target = _named_target(services, TargetName.INBODY, chunk=False)
    return Submission(sources=[source], options=checked, targets=[target], tenant=tenant)


async def convert_batch(
    services: Services, request: BatchConvertSourcesRequest, tenant: str, version_header: str | None
) -> Submission:
    """The submission of a batch request, whose results go to one or several storages.

    A request without a target is treated as one that names the default target, so a source that
    stands for many documents needs one (better than upstream G76).
    """
    policy = services.policy
    if request.target is not None and request.targets:
        raise PolicyViolation("The request must name either target or targets, not both.")
    asked: list[Any] = [request.target] if request.target else list(request.targets or [])
    targets = asked or [_TARGETS[policy.default_target_kind()]()]
    source_kinds = [source.kind for source in request.sources]
    target_kinds = [target.kind for target in targets]
    checked = policy.check_options(request.options)
    policy.check_sources(source_kinds, batch=True)
    policy.check_targets(target_kinds)
    policy.check_source_count(len(request.sources), "sources")
    policy.check_pairing(source_kinds, target_kinds)
    return Submission(
        sources=list(request.sources),
        options=checked,
        targets=targets,
        callbacks=await _allowed(services, request.callbacks),
        target_document_version=parse_document_version_header(version_header),
        tenant=tenant,
    )


async def chunk_files(
    services: Services,
    files: Sequence[UploadFile],
    options: ConvertDocumentsOptions,
    chunking_options: BaseChunkerOptions,
    target_type: TargetName | None,
    include_converted_doc: bool,
    callbacks: Sequence[CallbackSpec],
    tenant: str,
) -> Submission:
    """The submission of a multipart chunk request."""
    services.policy.check_source_count(len(files), "files")
    checked = services.policy.check_options(options)
    services.policy.check_chunker(chunking_options)
    target = _named_target(services, target_type, chunk=True)
    return Submission(
        sources=_uploads(files),
        options=checked,
        targets=[target],
        task_type=TaskType.CHUNK,
        chunking_options=chunking_options,
        include_converted_doc=include_converted_doc,
        callbacks=await _allowed(services, callbacks),
        tenant=tenant,
    )


async def chunk_sources(
    services: Services, request: GenericChunkDocumentsRequest[Any], tenant: str
) -> Submission:
    """The submission of a JSON chunk request.

    Raises:
        RequestValidationError: a base64 document is not valid base64.
    """
    checked = services.policy.check_options(request.convert_options)
    services.policy.check_chunker(request.chunking_options)
    target = _asked_target(services, request, chunk=True)
    services.policy.check_source_count(len(request.sources), "sources")
    return Submission(
        sources=await asyncio.to_thread(_decoded, request.sources),
        options=checked,
        targets=[target],
        task_type=TaskType.CHUNK,
        chunking_options=request.chunking_options,
        include_converted_doc=request.include_converted_doc,
        callbacks=await _allowed(services, request.callbacks),
        tenant=tenant,
    )


async def _allowed(services: Services, callbacks: Sequence[CallbackSpec]) -> Sequence[CallbackSpec]:
    """``callbacks``; raises if there are too many, or if one names an address that nothing is,
    or can be, sent to."""
    services.policy.check_callback_count(len(callbacks))
    allow_private = services.settings.callback_allow_private
    for callback in callbacks:
        try:
            await require_allowed(str(callback.url), allow_private=allow_private)
        except InvalidURL as exc:
            raise PolicyViolation(f"Callbacks cannot be sent to this address: {exc}.") from exc
        except AddressRefused as exc:
            raise PolicyViolation(
                f"Callbacks to the address {callback.url.host} are not allowed: {exc}. See "
                "callback_allow_private and DOCLINGCORE_ALLOWED_PRIVATE_IPS."
            ) from exc
    return callbacks


def _named_target(services: Services, name: TargetName | None, *, chunk: bool) -> BaseModel:
    """The target of a form, which can only name a kind."""
    kind = services.policy.default_target_kind(chunk=chunk) if name is None else name.value
    services.policy.check_targets([kind], chunk=chunk)
    return _TARGETS[kind]()


def _asked_target(services: Services, request: Any, *, chunk: bool) -> BaseModel:
    """The target of a JSON request; the deployment's default where it names none."""
    if "target" not in request.model_fields_set:
        return _named_target(services, None, chunk=chunk)
    services.policy.check_targets([request.target.kind], chunk=chunk)
    target: BaseModel = request.target
    return target


def _uploads(files: Sequence[UploadFile]) -> list[Upload]:
    return [Upload(upload_name(file.filename, file.content_type), file.file) for file in files]


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
